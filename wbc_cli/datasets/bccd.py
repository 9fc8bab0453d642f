"""BCCD: fields with boxes in Pascal VOC, split by lists, cell types in a table that only older copies have."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from xml.etree import ElementTree

from wbc_cli.classes import CLASS_NAMES
from wbc_cli.csv_files.rows import read_rows
from wbc_cli.datasets.images import bare_sample, find_images
from wbc_cli.errors import UsageError
from wbc_cli.manifest import BOX_LABELS, Box, Sample

_UM_PER_PX = 0.0688  # estimated: red cells are then 7.5 um across
_SPLITS = ("train", "val", "test")


def read_bccd(folder: Path) -> Iterator[Sample]:
    """Read JPEGImages/*.jpg, and beside it Annotations/*.xml, ImageSets/Main/*.txt and labels.csv as far as present.

    Raises:
        UsageError: an annotation or the table is damaged.
    """
    types = _read_types(folder)
    images = (image for image in find_images(folder) if image.parent.name.lower() == "jpegimages")
    for root, group in groupby(images, lambda image: image.parent.parent):
        notes = {file.stem: file for file in root.rglob("*.xml")}
        splits = _read_splits(root)
        for image in group:
            note, labels = notes.get(image.stem), types.get(_number(image))
            # Without either, it would count as a field without white cells.
            known = note is not None or labels is not None
            split = splits.get(image.stem, "drop") if splits else "test"
            yield replace(
                bare_sample(folder, image, "bccd", split if known else "drop"),
                labels=labels or (),
                um_per_px=_UM_PER_PX,
                boxes=tuple(_read_boxes(note)) if note else (),
            )


def _read_splits(root: Path) -> dict[str, str]:
    """Read the split by the image's name; empty where there are no lists."""
    lists = [file for file in sorted(root.rglob("*.txt")) if file.stem in _SPLITS]
    return {name: file.stem for file in lists for name in file.read_text(encoding="utf-8", errors="replace").split()}


def _read_types(folder: Path) -> dict[int | None, tuple[str, ...]]:
    """Read the cell types by the number in the image's name; empty where there is no table."""
    types: dict[int | None, tuple[str, ...]] = {}
    for file in sorted(folder.rglob("labels.csv"))[:1]:  # the archive with two has the same one twice
        for line, row in read_rows(file, required=("Image", "Category")):
            labels = tuple(part.strip().lower() for part in row["Category"].split(",") if part.strip())
            if not row["Image"].isdecimal() or not set(labels) <= set(CLASS_NAMES):
                raise UsageError(f"{file}: line {line}: not an image's number and cell types; take the published file")
            types[int(row["Image"])] = labels
    return types


def _number(image: Path) -> int | None:
    digits = re.search(r"\d+$", image.stem)
    return int(digits[0]) if digits else None


def _read_boxes(file: Path) -> Iterator[Box]:
    try:
        for found in ElementTree.parse(file).iterfind("object"):
            label = BOX_LABELS.get(found.findtext("name", "").strip().lower())
            x0, y0, x1, y1 = (float(found.findtext(f"bndbox/{side}", "")) for side in ("xmin", "ymin", "xmax", "ymax"))
            if label and x1 > x0 and y1 > y0:  # some have no area, which marks nothing
                yield Box(label, x0, y0, x1, y1)
    except (ElementTree.ParseError, ValueError) as error:
        raise UsageError(f"{file}: not an annotation in Pascal VOC ({error}); copy it again from its source") from error
