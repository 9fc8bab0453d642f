"""The mark in the pictures that this tool makes, so that copies of them are never taken for specimens."""

from __future__ import annotations

from pathlib import Path

MARK = "wbc-cli product"
"""What PNG and TIFF files of this tool name as the software that made them."""

_SUFFIXES = frozenset({".png", ".tif", ".tiff"})
_HEAD = 4096  # bytes: the software is named before the pixels


def is_product(path: Path) -> bool:
    """Whether a file is a picture that this tool made; one that cannot be read is taken for none."""
    if path.suffix.lower() not in _SUFFIXES:
        return False
    try:
        with path.open("rb") as file:
            return MARK.encode("ascii") in file.read(_HEAD)
    except OSError:
        return False
