"""The folds of a leave-one-group-out cross-validation: which data sets a model is trained without and measured on."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wbc_cli.errors import UsageError
from wbc_cli.manifest import SPLITS, Sample, select

FALLBACK_SPLIT = "val"
"""The split that a data set without the one asked for is measured on: no model of its fold has seen either."""


@dataclass(frozen=True)
class Fold:
    """One group of data sets that are left out together.

    Attributes:
        number: from 1, in the order given.
        held_out: the names of the sets.
    """

    number: int
    held_out: tuple[str, ...]


def parse_folds(texts: Sequence[str], samples: Sequence[Sample]) -> tuple[Fold, ...]:
    """Read folds from names that are joined by commas.

    Args:
        texts: one a fold.
        samples: the whole manifest.

    Raises:
        UsageError: there is none, or a set is unknown or held out twice.
    """
    folds = tuple(
        Fold(number, tuple(name.strip() for name in text.split(",") if name.strip()))
        for number, text in enumerate(texts, start=1)
    )
    if not folds or not all(fold.held_out for fold in folds):
        raise UsageError("--fold: name the data sets to leave out together, such as --fold bccd,jtsc")
    counts = Counter(name for fold in folds for name in fold.held_out)
    known = {sample.dataset for sample in samples}
    unknown, twice = sorted(set(counts) - known), sorted(name for name, count in counts.items() if count > 1)
    if unknown:
        raise UsageError(f"--fold: the manifest has no set {', '.join(unknown)}; it has {', '.join(sorted(known))}")
    if twice:
        raise UsageError(f"--fold: {', '.join(twice)} is held out twice; name each set in one fold")
    return folds


def held_out_samples(fold: Fold, samples: Sequence[Sample], split: str) -> tuple[Sample, ...]:
    """Choose the images that a fold is measured on.

    Args:
        fold: the sets, in whose order the images come.
        samples: the whole manifest.
        split: of each set; a set without it is measured on `FALLBACK_SPLIT`.

    Raises:
        UsageError: an unknown split, or a set has neither.
    """
    if split not in (*SPLITS, "all"):
        raise UsageError(f"--split {split}: use one of {', '.join(SPLITS)}, all")
    chosen: list[Sample] = []
    for name in fold.held_out:
        splits = {sample.split for sample in samples if sample.dataset == name}
        chosen += select(samples, split if split in splits or split == "all" else FALLBACK_SPLIT, (name,))
    return tuple(chosen)


def refuse_seen(fold: Fold, weights: Path) -> bool:
    """See that weights which were trained elsewhere have not seen what a fold holds out.

    Returns:
        Whether the folder says what they have seen, as `train` has it do.

    Raises:
        UsageError: they were trained with one of the fold's sets, or the folder's account cannot be read.
    """
    file = weights / "run.json"
    if not file.exists():
        return False
    try:
        excluded = json.loads(file.read_text(encoding="utf-8"))["exclude"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{file}: not an account of a training run ({error}); give a folder that train wrote"
        ) from error
    leaked = [name for name in fold.held_out if name not in excluded]
    if leaked:
        raise UsageError(
            f"{weights}: trained with {', '.join(leaked)}, which fold {fold.number} holds out; give weights that were "
            f"trained with {' '.join(f'--exclude {name}' for name in leaked)}"
        )
    return True
