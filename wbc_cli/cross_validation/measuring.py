"""Measures a fold's model on what it has not seen, and keeps the figures until something that they rest on changes."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import wbc_cli
from wbc_cli.cross_validation.folds import Fold
from wbc_cli.evaluation.folder import write_folder
from wbc_cli.evaluation.report import Conditions
from wbc_cli.evaluation.runner import evaluate
from wbc_cli.evaluation.shared import analyse_sample, measure_own_population, measure_own_scale
from wbc_cli.inference.pipeline import Analyser
from wbc_cli.inference.prior_candidates import prior_candidates
from wbc_cli.manifest import Sample
from wbc_cli.model.files import CONFIG_NAME, checksum
from wbc_cli.run.loading import ComputeOptions, load_analyser

log = logging.getLogger(__name__)

HIDDEN, GIVEN = "hidden", "given"
SCALES = (HIDDEN, GIVEN)
"""Whether the pipeline is told the images' micrometres a pixel."""

_KEY = "measured.json"


@dataclass(frozen=True)
class Laboratory:
    """The figures of one data set that its model has not seen.

    Attributes:
        name: of the set.
        fold: number of its fold.
        split: of its images.
        images, failed: how many, and how many of them could not be analysed.
        figures: by name, each with `value`, `low`, `high`, `n` and `baselines`; see `Evaluation.to_dict`.
    """

    name: str
    fold: int
    split: str
    images: int
    failed: int
    figures: Mapping[str, Mapping[str, Any]]


def measure_fold(
    fold: Fold,
    samples: Sequence[Sample],
    folder: Path,
    weights: Path,
    *,
    device: str,
    again: bool,
    progress: Callable[[int, int], None],
) -> dict[str, list[Laboratory]]:
    """Run the pipeline over a fold's images with their scale hidden, and given.

    Args:
        fold: the sets, by which the images were chosen.
        samples: the images.
        folder: the fold's; the figures, tables and pictures go into `scale-hidden` and `scale-given` below.
        weights: the folder of the fold's model.
        device: auto, cpu, cuda or cuda:N.
        again: measure what has been measured, too.
        progress: called with the number of images done, and of all, after each.

    Returns:
        Under "hidden" and "given" the sets in the fold's order.

    Raises:
        SetupError: weights or device are not to be had.
        UsageError: a mask cannot be read or does not fit its image.
        OSError: the disk is full or read-only.
    """
    key = _key(samples, weights)
    missing = [scale for scale in SCALES if again or not _is_measured(folder, scale, key)]
    if missing:
        analyser, _ = load_analyser(ComputeOptions(device, weights=weights))
        with analyser.stream:
            for scale in missing:
                log.info("fold %d: measuring %d images, scale %s", fold.number, len(samples), scale)
                _measure(samples, analyser, scale, _subfolder(folder, scale), key, progress)
    splits = {sample.dataset: sample.split for sample in samples}
    return {
        scale: [_read(fold, name, splits[name], _subfolder(folder, scale)) for name in fold.held_out]
        for scale in SCALES
    }


def _measure(
    samples: Sequence[Sample],
    analyser: Analyser,
    scale: str,
    folder: Path,
    key: str,
    progress: Callable[[int, int], None],
) -> None:
    (folder / _KEY).unlink(missing_ok=True)
    conditions = Conditions(analyser.min_confidence, ignore_scale=scale == HIDDEN)
    evaluation = evaluate(
        samples,
        partial(analyse_sample, analyser),
        conditions,
        progress=progress,
        find_candidates=partial(prior_candidates, analyser.stream),
        measure_scale=partial(measure_own_scale, analyser),
        measure_population=partial(measure_own_population, analyser),
    )
    write_folder(evaluation, folder)
    (folder / _KEY).write_text(key, encoding="utf-8")  # last, so that what stopped half way is not taken for done


def _key(samples: Sequence[Sample], weights: Path) -> str:
    """Name what the figures rest on, but for the program between two versions, the device, and the files' content."""
    parts = {
        "version": wbc_cli.__version__,
        "weights": checksum(weights),
        "config": hashlib.sha256((weights / CONFIG_NAME).read_bytes()).hexdigest(),
        "truth": hashlib.sha256(repr(samples).encode()).hexdigest(),
    }
    return json.dumps(parts, indent=2) + "\n"


def _subfolder(folder: Path, scale: str) -> Path:
    return folder / f"scale-{scale}"


def _is_measured(folder: Path, scale: str, key: str) -> bool:
    file = _subfolder(folder, scale) / _KEY
    return file.exists() and file.read_text(encoding="utf-8") == key


def _read(fold: Fold, name: str, split: str, folder: Path) -> Laboratory:
    found = json.loads((folder / "figures.json").read_text(encoding="utf-8"))["datasets"][name]
    return Laboratory(name, fold.number, split, found["images"], found["failed"], found["figures"])
