"""From the records of images to the figures of a data set, each with its n, interval and trivial baselines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from wbc_cli.classes import DIFFERENTIAL_NAMES
from wbc_cli.evaluation import metrics, selective
from wbc_cli.evaluation.answers import ANSWERS, MISSED, Answer
from wbc_cli.evaluation.baselines import colour_accuracy, majority
from wbc_cli.evaluation.faithfulness import FaithfulnessScore
from wbc_cli.evaluation.regions import ExplanationScore, RegionScore
from wbc_cli.evaluation.scoring import ImageScore
from wbc_cli.intervals import clopper_pearson
from wbc_cli.manifest import LABELS
from wbc_cli.morphology import ATTRIBUTES

Floats = NDArray[np.float64]

RISKS_PERCENT = (1, 2)


@dataclass(frozen=True)
class Figure:
    """One figure of merit.

    Attributes:
        value: the figure.
        low, high: its 95 % interval, None where too few images tell.
        n: number of things it rests on.
        unit: what these are: cells, images, fields, boxes.
        baselines: what trivial answers score, by their names.
    """

    value: float
    low: float | None
    high: float | None
    n: int
    unit: str
    baselines: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class SetSummary:
    """The figures of one data set, or of all together.

    Attributes:
        name: the data set.
        images, failed: how many were scored, and how many of them the pipeline could not analyse.
        figures: by name (see `report.FIGURES`); those that the set's truth allows.
        classes: sensitivity, specificity and f1 by class of the truth.
        confusion: count of each answer of `ANSWERS` by class of the truth.
    """

    name: str
    images: int
    failed: int
    figures: dict[str, Figure]
    classes: dict[str, dict[str, Figure]]
    confusion: dict[str, dict[str, int]]


@dataclass(frozen=True)
class _Typed:
    """One answer, the group it is drawn with, and the colour of its image's rim."""

    answer: Answer
    group: str
    border: tuple[float, float, float] | None


def summarise(name: str, scores: Sequence[ImageScore]) -> SetSummary:
    """Draw up the figures of some images (at least one)."""
    typed = [_Typed(a, _group(score), score.border) for score in scores for a in score.answers]
    classes = [label for label in LABELS if any(t.answer.truth == label for t in typed)]
    return SetSummary(
        name=name,
        images=len(scores),
        failed=sum(score.failed for score in scores),
        figures={
            **_typing(typed, classes),
            **_selective(typed),
            **_calibration(typed),
            **_overlap(scores),
            **_detection(scores),
            **_negatives(scores),
            **_explanations("explanation", [(_group(s), e) for s in scores for e in s.explanations]),
            **_explanations("expert_explanation", [(_group(s), e) for s in scores for e in s.expert_explanations]),
            **_faithfulness([(_group(s), s.faithfulness) for s in scores if s.faithfulness]),
            **_morphology([s for s in scores if s.described]),
        },
        classes={label: _of_class(label, typed) for label in classes},
        confusion={label: _answers_to(label, typed) for label in classes},
    )


def _typing(typed: list[_Typed], classes: list[str]) -> dict[str, Figure]:
    if not typed:
        return {}
    answers = [t.answer for t in typed]
    identified = [a for a in answers if a.identified]
    figures = {
        "accuracy": _proportion([a.right for a in answers], "cells", _typing_baselines(typed)),
        "found": _proportion([a.answer != MISSED for a in answers], "cells"),
        "coverage": _proportion([a.identified for a in answers], "cells"),
        "macro_f1": _macro_f1(typed, classes),
    }
    if identified:
        figures["accuracy_identified"] = _proportion([a.right for a in identified], "cells")
    differential = [t for t in typed if t.answer.truth in DIFFERENTIAL_NAMES]
    if differential:
        occurring = [label for label in classes if label in DIFFERENTIAL_NAMES]
        figures["macro_f1_differential"] = _macro_f1(differential, occurring)
    return figures


def _typing_baselines(typed: list[_Typed]) -> dict[str, float]:
    baselines = {"majority": majority([t.answer.truth for t in typed])}
    seen = [t for t in typed if t.border]
    colours = np.array([t.border for t in seen], dtype=np.float64).reshape(-1, 3)
    colour = colour_accuracy(colours, [t.answer.truth for t in seen], [t.group for t in seen])
    return baselines if colour is None else {**baselines, "background_colour": colour}


def _macro_f1(typed: list[_Typed], classes: list[str]) -> Figure:
    truths = [t.answer.truth for t in typed]
    terms = metrics.class_terms(truths, [t.answer.answer for t in typed], classes)
    commonest = Counter(truths).most_common(1)[0][0]
    always = metrics.class_terms(truths, [commonest] * len(truths), classes)
    baselines = {"majority": float(metrics.macro_f1(always.sum(axis=0)))}
    return _bootstrapped([t.group for t in typed], terms, metrics.macro_f1, "cells", baselines)


def _of_class(label: str, typed: list[_Typed]) -> dict[str, Figure]:
    positive = [t.answer.answer == label for t in typed if t.answer.truth == label]
    negative = [t.answer.answer != label for t in typed if t.answer.truth != label]
    terms = metrics.class_terms([t.answer.truth for t in typed], [t.answer.answer for t in typed], [label])
    figures = {
        "sensitivity": _proportion(positive, "cells"),
        "f1": _bootstrapped([t.group for t in typed], terms, metrics.f1, "cells"),
    }
    if negative:
        figures["specificity"] = _proportion(negative, "cells")
    return figures


def _answers_to(label: str, typed: list[_Typed]) -> dict[str, int]:
    counts = Counter(t.answer.answer for t in typed if t.answer.truth == label)
    return {name: counts[name] for name in ANSWERS}


def _selective(typed: list[_Typed]) -> dict[str, Figure]:
    kept, confidence, right = selective.ranking([t.answer for t in typed])
    if np.isnan(confidence).all():
        return {}
    groups = [typed[i].group for i in kept]
    risk = 1 - float(right.mean())  # what holding back at random would risk at any coverage

    def figure(statistic: Callable[[Floats, Floats], Floats], baseline: float) -> Figure:
        def of(weights: Floats) -> Floats:
            return statistic(*selective.risk_coverage(confidence, right, weights))

        value = float(of(np.ones(len(kept))))
        return Figure(value, *metrics.bootstrap_rows(groups, of), len(kept), "cells", {"random_order": baseline})

    figures = {"risk_coverage_area": figure(selective.area, risk)}
    for percent in RISKS_PERCENT:
        most = percent / 100
        at = partial(selective.coverage_at, most=most)
        figures[f"coverage_at_risk_{percent}"] = figure(at, float(risk <= most))
    return figures


def _calibration(typed: list[_Typed]) -> dict[str, Figure]:
    rows = [
        (t.group, t.answer.confidence, t.answer.likeliest_right)
        for t in typed
        if t.answer.confidence is not None and t.answer.likeliest_right is not None
    ]
    if not rows:
        return {}
    groups, confidence, right = [r[0] for r in rows], [r[1] for r in rows], [r[2] for r in rows]
    squares = (np.array(confidence) - np.array(right)) ** 2
    share = float(np.mean(right))
    terms = metrics.calibration_terms(confidence, right)
    return {
        "calibration_error": _bootstrapped(groups, terms, metrics.calibration_error, "cells"),
        "brier": _mean(groups, squares, "cells", {"constant": share * (1 - share)}),
    }


def _overlap(scores: Sequence[ImageScore]) -> dict[str, Figure]:
    cells = [(_group(s), s.overlap.cell) for s in scores if s.overlap]
    nuclei = [(_group(s), s.overlap.nucleus) for s in scores if s.overlap and s.overlap.nucleus]
    return {**_regions("cell", cells), **_regions("nucleus", nuclei)}


def _regions(what: str, rows: list[tuple[str, RegionScore]]) -> dict[str, Figure]:
    if not rows:
        return {}
    groups = [group for group, _ in rows]
    discs = {
        "iou": float(np.mean([region.disc_iou for _, region in rows])),
        "dice": float(np.mean([region.disc_dice for _, region in rows])),
    }
    return {
        f"{what}_iou": _mean(groups, [r.iou for _, r in rows], "images", {"centred_disc": discs["iou"]}),
        f"{what}_dice": _mean(groups, [r.dice for _, r in rows], "images", {"centred_disc": discs["dice"]}),
    }


def _detection(scores: Sequence[ImageScore]) -> dict[str, Figure]:
    fields = [(_group(s), s.detection) for s in scores if s.detection]
    if not fields:
        return {}
    groups = [group for group, _ in fields]
    boxes = np.array([d.boxes for _, d in fields])
    cells = np.array([d.cells for _, d in fields])
    figures: dict[str, Figure] = {}
    for suffix, matched in (
        ("", np.array([d.matched for _, d in fields])),
        ("_by_centre", np.array([d.matched_by_centre for _, d in fields])),
    ):
        if cells.any():
            figures[f"detection_precision{suffix}"] = _share(int(matched.sum()), int(cells.sum()), "reported cells")
        figures[f"detection_recall{suffix}"] = _share(int(matched.sum()), int(boxes.sum()), "boxes")
        terms = np.stack([matched, cells - matched, boxes - matched], axis=-1).astype(np.float64)
        figures[f"detection_f1{suffix}"] = _bootstrapped(groups, terms, metrics.f1, "fields")
    return figures


def _negatives(scores: Sequence[ImageScore]) -> dict[str, Figure]:
    fields = [(_group(s), s.negative.false_cells) for s in scores if s.negative]
    read = [(group, count) for group, count in fields if count is not None]
    if not fields:
        return {}
    figures = {"negatives_right": _proportion([count == 0 for _, count in fields], "fields", {"report_nothing": 1.0})}
    if read:
        groups, counts = [group for group, _ in read], [count for _, count in read]
        figures["false_cells_per_field"] = _mean(groups, counts, "fields", {"report_nothing": 0.0})
    return figures


def _explanations(what: str, rows: list[tuple[str, ExplanationScore]]) -> dict[str, Figure]:
    if not rows:
        return {}
    scores = [score for _, score in rows]
    area = float(np.mean([s.area for s in scores]))
    energy_baselines = {"area": area, "centre_gaussian": float(np.mean([s.gaussian for s in scores]))}
    pointing_baselines = {"area": area, "centre": float(np.mean([s.centre for s in scores]))}
    return {
        f"{what}_energy": _mean([group for group, _ in rows], [s.energy for s in scores], "cells", energy_baselines),
        f"{what}_pointing": _proportion([s.pointed for s in scores], "cells", pointing_baselines),
    }


def _faithfulness(rows: list[tuple[str, FaithfulnessScore]]) -> dict[str, Figure]:
    if not rows:
        return {}
    groups, scores = [group for group, _ in rows], [score for _, score in rows]
    figures = {}
    for name in ("deletion", "insertion"):
        baselines = {
            f"{order}_order": float(np.mean([getattr(getattr(s, order), name) for s in scores]))
            for order in ("random", "centre")
        }
        figures[name] = _mean(groups, [getattr(s.cam, name) for s in scores], "cells", baselines)
    gaussian = np.array([s.gaussian for s in scores])
    for name in ("new_head", "new_network"):
        found = np.array([getattr(s, name) for s in scores])
        for suffix, rho, other in (
            ("correlation", found, gaussian),
            ("likeness", np.abs(found), np.abs(gaussian)),
        ):
            baselines = {"centre_gaussian": float(other.mean())}
            figures[f"{name}_{suffix}"] = _mean(groups, rho.mean(axis=1), "cells", baselines)
    return figures


def _morphology(scores: Sequence[ImageScore]) -> dict[str, Figure]:
    """Macro-F1 of each attribute, and their mean; a cell without a description counts as wrong."""
    if not scores:
        return {}
    groups = [_group(score) for score in scores]
    figures, terms, always, widths = {}, [], [], []
    for name, values in ATTRIBUTES.items():
        truths = [score.described[name][0] for score in scores]
        of = metrics.class_terms(truths, [score.described[name][1] for score in scores], values)
        commonest = Counter(truths).most_common(1)[0][0]
        constant = metrics.class_terms(truths, [commonest] * len(truths), values)
        baselines = {"majority": float(metrics.macro_f1(constant.sum(axis=0)))}
        figures[f"morphology_{name}"] = _bootstrapped(groups, of, metrics.macro_f1, "cells", baselines)
        terms.append(of)
        always.append(baselines["majority"])
        widths.append(of.shape[1])

    def mean(sums: Floats) -> Floats:
        parts = np.split(sums, np.cumsum(widths)[:-1], axis=-1)
        return np.asarray(np.mean([metrics.macro_f1(part) for part in parts], axis=0))

    together = np.concatenate(terms, axis=1)
    every = _bootstrapped(groups, together, mean, "cells", {"majority": float(np.mean(always))})
    return {"morphology_macro_f1": every, **figures}


def _group(score: ImageScore) -> str:
    return f"{score.dataset}/{score.group}"


def _proportion(right: Sequence[bool], unit: str, baselines: dict[str, float] | None = None) -> Figure:
    return _share(sum(right), len(right), unit, baselines)


def _share(count: int, total: int, unit: str, baselines: dict[str, float] | None = None) -> Figure:
    return Figure(count / total, *clopper_pearson(count, total), total, unit, baselines or {})


def _mean(
    groups: Sequence[str], values: Sequence[float] | Floats, unit: str, baselines: dict[str, float] | None = None
) -> Figure:
    terms = np.stack([np.asarray(values, dtype=np.float64), np.ones(len(values))], axis=-1)
    return _bootstrapped(groups, terms, metrics.ratio, unit, baselines)


def _bootstrapped(
    groups: Sequence[str],
    terms: Floats,
    statistic: Callable[[Floats], Floats],
    unit: str,
    baselines: dict[str, float] | None = None,
) -> Figure:
    value = float(statistic(terms.sum(axis=0)))
    return Figure(value, *metrics.bootstrap(groups, terms, statistic), len(terms), unit, baselines or {})
