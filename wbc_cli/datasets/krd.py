"""KRD-WBC: fields with one white cell anywhere in them, whole-cell masks, and types in a table."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from wbc_cli.csv_files.rows import read_rows
from wbc_cli.datasets.images import bare_sample, find_images, shrunk_scale
from wbc_cli.datasets.single_cells import class_of
from wbc_cli.errors import UsageError
from wbc_cli.manifest import MaskLevels, Sample

_UM_PER_PX, _SIDE = 0.092, 512  # estimated: red cells are then 7.5 um across
_LEVELS = MaskLevels(cell=128)  # white on black in JPEG, whose greys waver; the nucleus is not told apart
_ID, _TYPE = "Image ID", "Categoriy"  # so spelt


def read_krd(folder: Path) -> Iterator[Sample]:
    """Read image/image1.jpg, beside it mask/mask1.jpg, and "class labels.csv", which names the type of Image1.

    Raises:
        UsageError: the table is damaged.
    """
    types = _read_types(folder)
    images = find_images(folder)
    masks = {(image.parent.parent, _number(image)): image for image in images if _is_of("mask", image)}
    for image in images:
        if _is_of("image", image):
            number = _number(image)
            mask, label = masks.get((image.parent.parent, number)), types.get(number)
            # Without either, it would count as a field without white cells.
            yield replace(
                bare_sample(folder, image, "krd", "test" if mask or label else "drop"),
                labels=(label,) if label else (),
                um_per_px=shrunk_scale(image, _UM_PER_PX, _SIDE),
                mask=mask,
                mask_levels=_LEVELS,
            )


def _is_of(kind: str, image: Path) -> bool:
    return image.parent.name.lower() == kind and image.stem.lower().startswith(kind)


def _number(image: Path) -> str:
    return re.sub(r"\D", "", image.stem)


def _read_types(folder: Path) -> dict[str, str]:
    """Read the type by the number of the image."""
    types = {}
    for file in sorted(folder.rglob("*.csv")):
        if re.sub("[^a-z]", "", file.stem.lower()) != "classlabels":
            continue
        for line, row in read_rows(file, required=(_ID, _TYPE)):
            number, label = re.sub(r"\D", "", row[_ID]), class_of(row[_TYPE])
            if not number or label is None:
                raise UsageError(f"{file}: line {line}: not an image's number and cell type; take the published file")
            types[number] = label
    return types
