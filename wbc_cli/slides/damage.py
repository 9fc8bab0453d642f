"""Damage that no decoder notices: stretches of zeros, as unfinished copies and bad sectors leave them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_SECTOR = 512  # bytes: what disks lose at once, or a multiple
_STRETCH = 64
_STRAY = 0.01  # share of pixels that are black by themselves


def refuse_zeros(data: bytes, most: int = _STRETCH) -> None:
    """Refuse compressed pixels with a stretch of zeros, which no compression makes.

    Args:
        data: as the file holds it.
        most: zeros in a row that may be.

    Raises:
        ValueError: there is one.
    """
    if bytes(most) in data:
        raise ValueError("it has a stretch of zeros")


def refuse_hole(pixels: NDArray[Any]) -> None:
    """Refuse uncompressed pixels of which a stretch was overwritten with zeros.

    Black pixels alone are no damage: a frame, a letter, glass that was not scanned. A lost stretch shows by its ends:
    it begins or ends within a row, beside pixels that are not black above or below it.

    Args:
        pixels: [rows, columns, samples] in the order of the file.

    Raises:
        ValueError: there is one.
    """
    black: NDArray[np.bool_] = np.asarray(~pixels.any(axis=2), np.bool_)
    flat = np.concatenate(([False], black.ravel(), [False]))
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    starts, ends = edges[::2], edges[1::2]
    long = (ends - starts) * pixels.itemsize * pixels.shape[2] >= _SECTOR
    if any(_is_hole(black, start, end) for start, end in zip(starts[long], ends[long], strict=True)):
        raise ValueError("a stretch of its pixels is zeros")


def _is_hole(black: NDArray[np.bool_], start: int, end: int) -> bool:
    """Whether a run of black pixels, which are counted row by row, is no shape in the picture."""
    rows, columns = black.shape
    (first, left), (last, right) = divmod(start, columns), divmod(end, columns)
    if first == last or (left == 0 and right == 0):
        return False
    above = black[first - 1, left:] if first and left else np.empty(0)
    below = black[last + 1, :right] if last + 1 < rows and right else np.empty(0)
    return bool((not above.size or above.mean() <= _STRAY) and (not below.size or below.mean() <= _STRAY))
