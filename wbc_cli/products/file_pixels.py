"""Results in the pixels of the file, where these are not square."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from wbc_cli.cells import Cell, SlideResult


def in_file_pixels(result: SlideResult) -> SlideResult:
    """Put the cells where the file has them: the slide was analysed with square pixels, see `SlideReader`.

    Returns:
        A result whose sizes, places, boxes and masks are in pixels of the file, for what is laid over that.
    """
    across, down = result.file_pixels
    if across == down == 1.0:
        return result
    width, height = round(result.width * across), round(result.height * down)
    cells = tuple(_moved(cell, across, down, width, height) for cell in result.cells)
    return replace(result, width=width, height=height, cells=cells)


def _moved(cell: Cell, across: float, down: float, width: int, height: int) -> Cell:
    x0, y0, x1, y1 = cell.box
    left, right, columns = _samples(x0, x1, across, width)
    top, bottom, rows = _samples(y0, y1, down, height)
    return replace(
        cell,
        x=cell.x * across,
        y=cell.y * down,
        box=(left, top, right, bottom),
        mask=np.ascontiguousarray(cell.mask[np.ix_(rows, columns)]),
    )


def _samples(start: int, end: int, step: float, limit: int) -> tuple[int, int, NDArray[np.int64]]:
    """Find first and end of the file's pixels that a stretch covers, and which of its own pixels each of them shows."""
    first = min(math.floor(start * step), limit - 1)
    last = min(max(math.ceil(end * step), first + 1), limit)
    shown = np.floor((np.arange(first, last) + 0.5) / step).astype(np.int64) - start
    return first, last, shown.clip(0, end - start - 1)
