"""The reviewed cells of runs, and the features that these have kept of them."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wbc_cli.classes import CLASS_NAMES, UNIDENTIFIED
from wbc_cli.errors import UsageError
from wbc_cli.products.features import read_features
from wbc_cli.products.registry import FEATURES
from wbc_cli.products.slide_folders import RECORD
from wbc_cli.products.tables import FAILED, SlideRecord
from wbc_cli.review.corrections import read_corrections
from wbc_cli.review.slides import RunCells, SlideCells

_DEFAULT_REVIEWER = "unnamed"
_MAX_FEATURE_CELLS = 20_000  # cells that the features' mean and deviation are taken of


@dataclass(frozen=True, eq=False)
class Reviewed:
    """Reviewed cells.

    Attributes:
        features: float16 [N, width].
        labels: int64 [N], indices into `classes.CLASS_NAMES`.
        slides: of each.
        everything: float16 [M, width], the features of cells of these runs, reviewed or not.
        weights: checksum of the weights that the runs were made with.
        undecided: how many more cells reviewers called unidentified, or not the same; these teach nothing.
    """

    features: NDArray[np.float16]
    labels: NDArray[np.int64]
    slides: NDArray[np.str_]
    everything: NDArray[np.float16]
    weights: str
    undecided: int


@dataclass(frozen=True)
class _Slide:
    folder: Path
    record: SlideRecord


def read_reviewed(runs: Sequence[Path], reviews: Sequence[Path]) -> Reviewed:
    """Gather the cells that reviewers have confirmed or corrected.

    Args:
        runs: folders that `analyze -o` or `merge -o` wrote.
        reviews: CSVs with the columns slide, cell and class, as the report saves them.

    Raises:
        UsageError: a folder holds no run, runs do not fit each other, a review names what is not there or contradicts
            another, or features were not kept.
    """
    slides = _slides(runs)
    cells = RunCells({name: slide.folder / "cells.csv" for name, slide in slides.items()})
    corrected = _corrected_names(reviews, cells)
    kept = {
        slide: _features(slides[slide], cells.of(slide)) for slide in dict.fromkeys(slide for slide, _ in corrected)
    }
    agreed = {key: names.pop() for key, names in corrected.items() if len(names) == 1}
    typed = [(key, name) for key, name in agreed.items() if name != UNIDENTIFIED.name]
    if not typed:
        raise UsageError(f"{reviews[0]}: no reviewed cell with a type; save the corrections from the report")
    return Reviewed(
        np.stack([kept[slide][int(cell) - 1] for (slide, cell), _ in typed]),
        np.array([CLASS_NAMES.index(name) for _, name in typed]),
        np.array([slide for (slide, _), _ in typed]),
        _everything(slides),
        _weights(slides),
        len(corrected) - len(typed),
    )


def _corrected_names(reviews: Sequence[Path], cells: RunCells) -> dict[tuple[str, str], set[str]]:
    """Gather the classes that reviewers name, by slide and cell; each reviewer's last correction counts."""
    names: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for corrected in read_corrections(reviews, cells, _DEFAULT_REVIEWER, datetime.now(UTC)):
        names[corrected.slide, corrected.cell][corrected.reviewer] = corrected.class_name
    return {key: set(by_reviewer.values()) for key, by_reviewer in names.items()}


def _slides(runs: Sequence[Path]) -> dict[str, _Slide]:
    """Gather the analysed slides of runs, by name."""
    found: dict[str, _Slide] = {}
    for run in runs:
        records = sorted((run / "slides").glob(f"*/{RECORD}"))
        if not records:
            raise UsageError(f"{run}: holds no run of wbc-cli; give folders that `analyze -o` wrote")
        for file in records:
            try:
                record = json.loads(file.read_text(encoding="utf-8"))
                name, usable = str(record["name"]), record["status"] != FAILED
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise UsageError(f"{file}: cannot be read ({error}); run the analysis again") from error
            if usable and name in found and found[name].record != record:
                raise UsageError(f"{run}: has other results for {name} than {found[name].folder.parent.parent}")
            if usable:
                found[name] = _Slide(file.parent, record)
    return found


def _features(slide: _Slide, cells: SlideCells | None) -> NDArray[np.float16]:
    features = read_features(slide.folder / FEATURES)
    if features is None or cells is None or len(features) != len(cells.classes):
        raise UsageError(
            f"{slide.folder / FEATURES}: not there or damaged; analyse the slide again, with features among --write"
        )
    return features


def _everything(slides: dict[str, _Slide]) -> NDArray[np.float16]:
    parts: list[NDArray[np.float16]] = []
    count = 0
    for slide in slides.values():
        features = read_features(slide.folder / FEATURES)
        if features is not None and features.size and count < _MAX_FEATURE_CELLS:
            parts.append(features[: _MAX_FEATURE_CELLS - count])
            count += len(parts[-1])
    return np.concatenate(parts)


def _weights(slides: dict[str, _Slide]) -> str:
    used = {str(slide.record.get("model", {}).get("weights")) for slide in slides.values()}
    if len(used) > 1:
        raise UsageError("the runs were made with different weights; give runs of one version, or analyse again")
    return used.pop()
