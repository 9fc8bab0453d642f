"""From the records of images to the figures of a data set, each with its n, interval and trivial baselines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from wbc_cli.classes import DIFFERENTIAL_NAMES
from wbc_cli.evaluation import metrics, selective
from wbc_cli.evaluation.baselines import colour_accuracy, majority
from wbc_cli.evaluation.faithfulness import FaithfulnessScore
from wbc_cli.evaluation.figure import Figure, bootstrapped, mean, proportion, share
from wbc_cli.evaluation.predictions import OUTCOMES, Prediction
from wbc_cli.evaluation.regions import ExplanationScore, RegionScore
from wbc_cli.evaluation.scoring import ImageScore
from wbc_cli.manifest import LABELS
from wbc_cli.morphology import ATTRIBUTES

Floats = NDArray[np.float64]

RISKS_PERCENT = (1, 2)


@dataclass(frozen=True)
class SetSummary:
    """The figures of one data set, or of all together.

    Attributes:
        name: the data set.
        images, failed: how many were scored, and how many of them the pipeline could not analyse.
        figures: by name (see `report.FIGURES`); those that the set's truth allows.
        classes: sensitivity, specificity and f1 by class of the truth.
        confusion: count of each of `OUTCOMES` by class of the truth.
    """

    name: str
    images: int
    failed: int
    figures: dict[str, Figure]
    classes: dict[str, dict[str, Figure]]
    confusion: dict[str, dict[str, int]]


@dataclass(frozen=True)
class _Typed:
    """A prediction, the group it is drawn with, and the colour of its image's rim."""

    prediction: Prediction
    group: str
    border: tuple[float, float, float] | None


def summarise(name: str, scores: Sequence[ImageScore]) -> SetSummary:
    """Draw up the figures of some images (at least one)."""
    typed = [_Typed(a, _group(score), score.border) for score in scores for a in score.predictions]
    classes = [label for label in LABELS if any(t.prediction.truth == label for t in typed)]
    return SetSummary(
        name=name,
        images=len(scores),
        failed=sum(score.failed for score in scores),
        figures={
            **_typing(typed, classes),
            **_five_types(typed, classes),
            **_found(scores),
            **_selective(typed),
            **_calibration(typed),
            **_overlap(scores),
            **_detection(scores),
            **_negatives(scores),
            **_prior(scores),
            **_explanations("explanation", [(_group(s), e) for s in scores for e in s.explanations]),
            **_explanations("expert_explanation", [(_group(s), e) for s in scores for e in s.expert_explanations]),
            **_faithfulness([(_group(s), s.faithfulness) for s in scores if s.faithfulness]),
            **_morphology([s for s in scores if s.described]),
        },
        classes={label: _of_class(label, typed) for label in classes},
        confusion={label: _outcome_counts(label, typed) for label in classes},
    )


def _typing(typed: list[_Typed], classes: list[str]) -> dict[str, Figure]:
    if not typed:
        return {}
    predictions = [t.prediction for t in typed]
    identified = [a for a in predictions if a.identified]
    figures = {
        "accuracy": proportion([a.right for a in predictions], "cells", _typing_baselines(typed)),
        "coverage": proportion([a.identified for a in predictions], "cells"),
        "macro_f1": _macro_f1(typed, classes),
    }
    if identified:
        figures["accuracy_identified"] = proportion([a.right for a in identified], "cells")
    return figures


def _five_types(typed: list[_Typed], classes: list[str]) -> dict[str, Figure]:
    """Compute the figures that are compared between sets, some of which hold other types as well."""
    differential = [t for t in typed if t.prediction.truth in DIFFERENTIAL_NAMES]
    if not differential:
        return {}
    figures = {
        f"{name}_differential": figure
        for name, figure in {**_typing(differential, classes), **_calibration(differential)}.items()
        if name in ("accuracy", "accuracy_identified", "calibration_error")
    }
    occurring = [label for label in classes if label in DIFFERENTIAL_NAMES]
    return {**figures, "macro_f1_differential": _macro_f1(differential, occurring)}


def _found(scores: Sequence[ImageScore]) -> dict[str, Figure]:
    found = [cell for score in scores for cell in score.found]
    return {"found": proportion(found, "cells")} if found else {}


def _typing_baselines(typed: list[_Typed]) -> dict[str, float]:
    baselines = {"majority": majority([t.prediction.truth for t in typed])}
    scored = [t for t in typed if t.border]
    colours = np.array([t.border for t in scored], dtype=np.float64).reshape(-1, 3)
    colour = colour_accuracy(colours, [t.prediction.truth for t in scored], [t.group for t in scored])
    return baselines if colour is None else {**baselines, "background_colour": colour}


def _macro_f1(typed: list[_Typed], classes: list[str]) -> Figure:
    truths = [t.prediction.truth for t in typed]
    terms = metrics.class_terms(truths, [t.prediction.predicted for t in typed], classes)
    commonest = Counter(truths).most_common(1)[0][0]
    always = metrics.class_terms(truths, [commonest] * len(truths), classes)
    baselines = {"majority": float(metrics.macro_f1(always.sum(axis=0)))}
    return bootstrapped([t.group for t in typed], terms, metrics.macro_f1, "cells", baselines)


def _of_class(label: str, typed: list[_Typed]) -> dict[str, Figure]:
    positive = [t.prediction.predicted == label for t in typed if t.prediction.truth == label]
    negative = [t.prediction.predicted != label for t in typed if t.prediction.truth != label]
    terms = metrics.class_terms([t.prediction.truth for t in typed], [t.prediction.predicted for t in typed], [label])
    figures = {
        "sensitivity": proportion(positive, "cells"),
        "f1": bootstrapped([t.group for t in typed], terms, metrics.f1, "cells"),
    }
    if negative:
        figures["specificity"] = proportion(negative, "cells")
    return figures


def _outcome_counts(label: str, typed: list[_Typed]) -> dict[str, int]:
    counts = Counter(t.prediction.predicted for t in typed if t.prediction.truth == label)
    return {name: counts[name] for name in OUTCOMES}


def _selective(typed: list[_Typed]) -> dict[str, Figure]:
    kept, confidence, right = selective.ranking([t.prediction for t in typed])
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
        (t.group, t.prediction.confidence, t.prediction.likeliest_right)
        for t in typed
        if t.prediction.confidence is not None and t.prediction.likeliest_right is not None
    ]
    if not rows:
        return {}
    groups, confidence, right = [r[0] for r in rows], [r[1] for r in rows], [r[2] for r in rows]
    squares = (np.array(confidence) - np.array(right)) ** 2
    rate = float(np.mean(right))
    terms = metrics.calibration_terms(confidence, right)
    return {
        "calibration_error": bootstrapped(groups, terms, metrics.calibration_error, "cells"),
        "brier": mean(groups, squares, "cells", {"constant": rate * (1 - rate)}),
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
        f"{what}_iou": mean(groups, [r.iou for _, r in rows], "images", {"centred_disc": discs["iou"]}),
        f"{what}_dice": mean(groups, [r.dice for _, r in rows], "images", {"centred_disc": discs["dice"]}),
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
            figures[f"detection_precision{suffix}"] = share(int(matched.sum()), int(cells.sum()), "reported cells")
        figures[f"detection_recall{suffix}"] = share(int(matched.sum()), int(boxes.sum()), "boxes")
        terms = np.stack([matched, cells - matched, boxes - matched], axis=-1).astype(np.float64)
        figures[f"detection_f1{suffix}"] = bootstrapped(groups, terms, metrics.f1, "fields")
    return figures


def _negatives(scores: Sequence[ImageScore]) -> dict[str, Figure]:
    figures: dict[str, Figure] = {}
    empty = [score.false_cells == 0 for score in scores if score.negative]
    if empty:
        figures["negatives_right"] = proportion(empty, "fields", {"report_nothing": 1.0})
    known = [(_group(s), s.false_cells) for s in scores if s.false_cells is not None]
    if known:
        groups, counts = [group for group, _ in known], [count for _, count in known]
        figures["false_cells_per_field"] = mean(groups, counts, "fields", {"report_nothing": 0.0})
    return figures


def _prior(scores: Sequence[ImageScore]) -> dict[str, Figure]:
    scored = [(_group(s), s.prior) for s in scores if s.prior]
    if not scored:
        return {}
    terms = np.array([(prior.share * prior.area, prior.area) for _, prior in scored])
    figures = {"prior_area": bootstrapped([group for group, _ in scored], terms, metrics.ratio, "images")}
    near = [cell for _, prior in scored for cell in prior.near]
    return {"prior_recall": proportion(near, "cells"), **figures} if near else figures


def _explanations(what: str, rows: list[tuple[str, ExplanationScore]]) -> dict[str, Figure]:
    if not rows:
        return {}
    scores = [score for _, score in rows]
    area = float(np.mean([s.area for s in scores]))
    energy_baselines = {"area": area, "centre_gaussian": float(np.mean([s.gaussian for s in scores]))}
    pointing_baselines = {"area": area, "centre": float(np.mean([s.centre for s in scores]))}
    return {
        f"{what}_energy": mean([group for group, _ in rows], [s.energy for s in scores], "cells", energy_baselines),
        f"{what}_pointing": proportion([s.pointed for s in scores], "cells", pointing_baselines),
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
        figures[name] = mean(groups, [getattr(s.cam, name) for s in scores], "cells", baselines)
    gaussian = np.array([s.gaussian for s in scores])
    for name in ("new_head", "new_network"):
        found = np.array([getattr(s, name) for s in scores])
        for suffix, rho, other in (
            ("correlation", found, gaussian),
            ("likeness", np.abs(found), np.abs(gaussian)),
        ):
            baselines = {"centre_gaussian": float(other.mean())}
            figures[f"{name}_{suffix}"] = mean(groups, rho.mean(axis=1), "cells", baselines)
    return figures


def _morphology(scores: Sequence[ImageScore]) -> dict[str, Figure]:
    """Compute the macro-F1 of each attribute, and their mean; a cell without a description counts as wrong."""
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
        figures[f"morphology_{name}"] = bootstrapped(groups, of, metrics.macro_f1, "cells", baselines)
        terms.append(of)
        always.append(baselines["majority"])
        widths.append(of.shape[1])

    def mean_f1(sums: Floats) -> Floats:
        parts = np.split(sums, np.cumsum(widths)[:-1], axis=-1)
        return np.asarray(np.mean([metrics.macro_f1(part) for part in parts], axis=0))

    together = np.concatenate(terms, axis=1)
    every = bootstrapped(groups, together, mean_f1, "cells", {"majority": float(np.mean(always))})
    return {"morphology_macro_f1": every, **figures}


def _group(score: ImageScore) -> str:
    return f"{score.dataset}/{score.group}"
