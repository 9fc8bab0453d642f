"""The mark in the pictures that this tool makes, so that copies of them are never taken for specimens."""

from __future__ import annotations

MARK = "wbc-cli product"
"""What PNG and TIFF files of this tool name as the software that made them."""

MARKED_BYTES = 4096
"""What is enough of a file: the software is named before the pixels."""


def is_product(head: bytes) -> bool:
    """Tell whether a file, by its first MARKED_BYTES, is a picture that this tool made."""
    return MARK.encode("ascii") in head
