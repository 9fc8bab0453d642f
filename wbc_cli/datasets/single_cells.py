"""Sets of single cells, whose type is the name of their folder or in that of the file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from wbc_cli.classes import BLAST, ERYTHROBLAST, NOT_BLAST, OTHER
from wbc_cli.datasets.images import bare_sample, find_images, folders_above, shrunk_scale
from wbc_cli.manifest import MaskLevels, Sample

# The first letters tell class folders in every spelling: Baso, basophil, Basophils.
_CLASSES = {
    "baso": "basophil",
    "eosi": "eosinophil",
    "eryt": ERYTHROBLAST,
    "ig": "immature_granulocyte",
    "lymp": "lymphocyte",
    "mono": "monocyte",
    "neut": "neutrophil",
    "plat": OTHER,
}
_MIXED_KEY = "mixt"  # LISC: cells of several types, and nothing says which is where

# Micrometres a pixel, estimated: red cells are then 7.5 um across.
_ALLIDB2_UM_PER_PX = 0.11
_PBC_UM_PER_PX, _PBC_WIDTH = 0.1, 360

# White nucleus, grey cytoplasm. The masks lack their images' outermost pixels: 712 x 568 for 720 x 576.
_LISC_LEVELS = MaskLevels(cell=40, nucleus=200, margin=4)
# Two greys, and public readers disagree on which is the nucleus: only the cell as a whole is compared.
_RAABIN_LEVELS = MaskLevels(cell=50)
# The tests are of two microscopes, so they are told apart; "original" is what was masked, out of the others.
_RAABIN_PARTS = {
    "train": ("raabin-train", "train"),
    "testa": ("raabin-testa", "test"),
    "testb": ("raabin-testb", "test"),
    "original": ("raabin-masks", "test"),
}


def read_lisc(folder: Path) -> Iterator[Sample]:
    """Read <class>/1.bmp and, as their masks, files named 1_expert.bmp below another folder of that class."""
    masks: dict[tuple[str, str], Path] = {}
    pictures = []
    for image in find_images(folder):
        name, *expert = image.stem.lower().split("_expert")
        kind = next((kind for kind in map(_kind, folders_above(folder, image)) if kind), "")
        if expert:
            masks.setdefault((kind, name), image)
        elif kind == _kind(image.parent.name):
            pictures.append((kind, name, image))
    for kind, name, image in pictures:
        mask = masks.get((kind, name))
        if kind in _CLASSES or mask:
            labels = (_CLASSES[kind],) if kind in _CLASSES else ()
            yield replace(bare_sample(folder, image, "lisc"), labels=labels, mask=mask, mask_levels=_LISC_LEVELS)


def read_allidb2(folder: Path) -> Iterator[Sample]:
    """Read img/Im001_1.tif (a blast) and img/Im131_0.tif (another cell); ALL-IDB1, in a folder "im", is left out."""
    for image in find_images(folder):
        name = re.fullmatch(r"im\d+_([01])", image.stem.lower())
        if name and (image.parent == folder or image.parent.name.lower() == "img"):
            label = BLAST if name[1] == "1" else NOT_BLAST
            yield replace(bare_sample(folder, image, "allidb2"), labels=(label,), um_per_px=_ALLIDB2_UM_PER_PX)


def read_pbc(folder: Path) -> Iterator[Sample]:
    """Read <class>/BA_1234.jpg."""
    for image in find_images(folder):
        label = _CLASSES.get(_kind(image.parent.name))
        if label:
            yield replace(
                bare_sample(folder, image, "pbc"),
                labels=(label,),
                um_per_px=shrunk_scale(image, _PBC_UM_PER_PX, _PBC_WIDTH),
            )


def read_raabin(folder: Path) -> Iterator[Sample]:
    """Read <part>/<class>/*.jpg of Train, TestA, TestB and, with masks in Ground Truth/<class>, of GrTh/Original."""
    images = [(image, folders_above(folder, image)) for image in find_images(folder)]
    masks = {(_kind(image.parent.name), image.stem): image for image, above in images if "groundtruth" in above}
    for image, above in images:
        kind = _kind(image.parent.name)
        part = next((name for name in above if name in _RAABIN_PARTS), None)
        if kind in _CLASSES and part and "groundtruth" not in above:
            mask = masks.get((kind, image.stem)) if part == "original" else None
            sample = bare_sample(folder, image, *_RAABIN_PARTS[part])
            yield replace(sample, labels=(_CLASSES[kind],), mask=mask, mask_levels=_RAABIN_LEVELS)


def class_of(name: str) -> str | None:
    """Return the class that a name means in every spelling (Baso, basophil, Basophils), or None where it means none."""
    return _CLASSES.get(_kind(name))


def _kind(folder: str) -> str:
    """Return the key of `_CLASSES`, or `_MIXED_KEY`, that a folder's name begins with; empty for other folders."""
    letters = folder.lower()[:4]
    return letters if letters in _CLASSES or letters == _MIXED_KEY else ""
