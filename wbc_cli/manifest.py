"""The table of labelled images that `train` and `evaluate` read."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from wbc_cli.classes import CLASS_NAMES, NOT_BLAST, OTHER
from wbc_cli.csv_files.rows import read_rows
from wbc_cli.errors import UsageError
from wbc_cli.morphology import ATTRIBUTES, Morphology
from wbc_cli.slides.pixel_size import plausible

LABELS = (*CLASS_NAMES, NOT_BLAST)
SPLITS = ("train", "val", "test", "drop")

WHITE_CELL = "WBC"  # a box around a white cell of unknown type
RED_CELL = "RBC"
BOX_LABELS = {
    **{label: label for label in LABELS},
    "wbc": WHITE_CELL,
    "rbc": RED_CELL,
    "platelets": OTHER,
}

_PROBLEMS_SHOWN = 10


@dataclass(frozen=True)
class Box:
    """A labelled rectangle.

    Attributes:
        label: a name of `LABELS`, `WHITE_CELL` or `RED_CELL`.
        x0, y0, x1, y1: half open, in level-0 pixels.
    """

    label: str
    x0: float
    y0: float
    x1: float
    y1: float


@dataclass(frozen=True)
class MaskLevels:
    """The levels tell how a published mask, whose pixels are not 0, 1 and 2, is to be read.

    Attributes:
        cell: the darkest grey of a cell's pixels.
        nucleus: that of its nucleus, None where the mask does not tell it from the cytoplasm.
        margin: pixels that the mask lacks on every side of its image.
    """

    cell: int
    nucleus: int | None = None
    margin: int = 0


@dataclass(frozen=True)
class Sample:
    """One labelled image.

    Attributes:
        image: the file.
        dataset: the set it belongs to.
        split: one of `SPLITS`.
        labels: one name of `LABELS` a cell; empty where the image shows no white cell, or none that was typed.
        group: images of one group are never split (one source image, one patient).
        um_per_px: micrometres a pixel, None where unknown.
        mask: file of one byte a pixel (0 background, 1 cytoplasm, 2 nucleus), or None.
        boxes: what `boxes.csv` beside the manifest says of this image.
        mask_levels: how to read a mask that has other values than these; never with a manifest.
        morphology: what `wbcatt.csv` beside the manifest says of the image's cell; empty where nothing.
    """

    image: Path
    dataset: str
    split: str
    labels: tuple[str, ...]
    group: str
    um_per_px: float | None
    mask: Path | None
    boxes: tuple[Box, ...]
    mask_levels: MaskLevels | None = None
    morphology: Morphology = field(default_factory=dict)


def read_manifest(path: Path) -> tuple[Sample, ...]:
    """Read a manifest, and `boxes.csv` and `wbcatt.csv` (as WBCAtt is published) where they lie beside it.

    The columns are image, label, dataset, split, group, um_per_px and mask, in any order; only image and label
    are required, and others are ignored. Paths are relative to the manifest's folder. Several labels are joined by
    `;`. Without a dataset it is the folder's name, without a split "test", without a group the image itself.

    Args:
        path: the CSV file, UTF-8.

    Raises:
        UsageError: the file cannot be read, or rows are wrong or name files that do not exist; the message names each
            by its line.
    """
    boxes = _read_boxes(path.with_name("boxes.csv"))
    morphologies = _read_morphologies(path.with_name("wbcatt.csv"))
    samples: list[Sample] = []
    lines: dict[Path, int] = {}
    problems: list[str] = []
    for line, row in read_rows(path, required=("image", "label")):
        try:
            sample = _sample(row, path.parent, boxes, morphologies)
            first = lines.setdefault(sample.image, line)
            if first != line:
                raise ValueError(f"{row['image']} is also on line {first}; keep one of them")
            _check_files(sample)
        except ValueError as error:
            problems.append(f"line {line}: {error}")
        else:
            samples.append(sample)
    _raise_problems(path, problems)
    if not samples:
        raise UsageError(f"{path}: no rows below the header; list at least one image")
    return tuple(samples)


def select(samples: Sequence[Sample], split: str, datasets: Collection[str]) -> tuple[Sample, ...]:
    """Choose samples of a split ("all" for any but "drop") and, where some are named, of these data sets.

    Raises:
        UsageError: an unknown split, or nothing is left.
    """
    if split not in (*SPLITS, "all"):
        raise UsageError(f"--split {split}: use one of {', '.join(SPLITS)}, all")
    chosen = tuple(
        sample
        for sample in samples
        if (sample.split == split or (split == "all" and sample.split != "drop"))
        and (not datasets or sample.dataset in datasets)
    )
    if not chosen:
        known = sorted({f"{sample.dataset}/{sample.split}" for sample in samples})
        raise UsageError(f"no images of split {split} in the data sets asked for; there are {', '.join(known)}")
    return chosen


def _sample(
    row: dict[str, str], root: Path, boxes: dict[Path, list[Box]], morphologies: dict[str, Morphology]
) -> Sample:
    if not row["image"]:
        raise ValueError("image is empty; give the path of a file below the manifest's folder")
    image = root / row["image"]
    return Sample(
        image=image,
        dataset=row.get("dataset") or root.resolve().name,
        split=_choice("split", row.get("split") or "test", SPLITS),
        labels=tuple(_choice("label", part.strip(), LABELS) for part in row["label"].split(";") if part.strip()),
        group=row.get("group") or row["image"],
        um_per_px=_scale(row.get("um_per_px", "")),
        mask=root / row["mask"] if row.get("mask") else None,
        boxes=tuple(boxes.get(image, ())),
        morphology=morphologies.get(image.name, {}),
    )


def _read_boxes(path: Path) -> dict[Path, list[Box]]:
    """Read the boxes by image; empty where there is no such file."""
    boxes: dict[Path, list[Box]] = {}
    if not path.exists():
        return boxes
    problems: list[str] = []
    for line, row in read_rows(path, required=("image", "label", "x0", "y0", "x1", "y1")):
        try:
            box = _box(row)
        except ValueError as error:
            problems.append(f"line {line}: {error}")
        else:
            if box.x1 > box.x0 and box.y1 > box.y0:  # published sets hold slips of no area, which mark nothing
                boxes.setdefault(path.parent / row["image"], []).append(box)
    _raise_problems(path, problems)
    return boxes


def _read_morphologies(path: Path) -> dict[str, Morphology]:
    """Read the attributes by the name of the image; empty where there is no such file."""
    morphologies: dict[str, Morphology] = {}
    if not path.exists():
        return morphologies
    problems: list[str] = []
    for line, row in read_rows(path, required=("img_name", *ATTRIBUTES)):
        try:
            morphologies[row["img_name"]] = {
                name: _choice(name, row[name], values) for name, values in ATTRIBUTES.items()
            }
        except ValueError as error:
            problems.append(f"line {line}: {error}")
    _raise_problems(path, problems)
    return morphologies


def _box(row: dict[str, str]) -> Box:
    label = BOX_LABELS.get(row["label"].lower())
    if label is None:
        raise ValueError(f"unknown label {row['label']!r}; use one of {', '.join(sorted(set(BOX_LABELS.values())))}")
    x0, y0, x1, y1 = (_number(side, row[side]) for side in ("x0", "y0", "x1", "y1"))
    if x1 < x0 or y1 < y0:
        raise ValueError("the corners are swapped; x0, y0 is the upper left one")
    return Box(label, x0, y0, x1, y1)


def _choice(what: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise ValueError(f"unknown {what} {value!r}; use one of {', '.join(allowed)}")
    return value


def _scale(text: str) -> float | None:
    if not text:
        return None
    scale = _number("um_per_px", text)
    if plausible(scale) is None:
        raise ValueError(f"um_per_px is {text}; give micrometres a pixel, from 0.03 to 2, or leave it empty")
    return scale


def _number(what: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{what} is {text!r}; give a number")
    return number


def _check_files(sample: Sample) -> None:
    for file in (sample.image, sample.mask):
        if file is not None and not file.is_file():
            raise ValueError(f"{file} does not exist; correct the path or drop the row")


def _raise_problems(path: Path, problems: list[str]) -> None:
    if problems:
        more = len(problems) - _PROBLEMS_SHOWN
        tail = [f"and {more} more"] if more > 0 else []
        raise UsageError(f"{path}: " + "\n  ".join(["rows are wrong:", *problems[:_PROBLEMS_SHOWN], *tail]))
