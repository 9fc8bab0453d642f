"""Which reported cell answers for which true one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from wbc_cli.cells import Cell
from wbc_cli.manifest import Box

Floats = NDArray[np.float64]

MATCH_IOU = 0.5


def by_distance(cells: Sequence[Cell], x: float, y: float) -> list[Cell]:
    """Sort cells, that whose centroid is nearest to a point first."""
    return sorted(cells, key=lambda cell: (cell.x - x) ** 2 + (cell.y - y) ** 2)


def match_by_iou(boxes: Sequence[Box], cells: Sequence[Cell]) -> dict[int, int]:
    """One-to-one pairs of box and cell whose boxes overlap at IoU 0.5, of the largest total overlap.

    Returns:
        Index of the cell by index of the box.
    """
    overlap = box_iou(_corners(boxes), np.array([cell.box for cell in cells], dtype=np.float64).reshape(-1, 4))
    return _assign(np.where(overlap >= MATCH_IOU, overlap, 0))


def match_by_centre(boxes: Sequence[Box], cells: Sequence[Cell]) -> dict[int, int]:
    """As many one-to-one pairs as there can be of a box and a cell whose centroid lies in it."""
    corners = _corners(boxes)[:, None]
    points = np.array([(cell.x, cell.y) for cell in cells], dtype=np.float64).reshape(-1, 2)
    inside = (points >= corners[..., :2]) & (points < corners[..., 2:])
    return _assign(np.asarray(inside.all(axis=-1), dtype=np.float64))


def box_iou(first: Floats, second: Floats) -> Floats:
    """Intersection over union of every pair of boxes.

    Args:
        first: [N, 4] as x0, y0, x1, y1 with positive sides.
        second: [M, 4], likewise.

    Returns:
        [N, M], 0 to 1.
    """
    a, b = first[:, None], second[None]
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    common = sides.clip(min=0).prod(axis=-1)
    union = (a[..., 2:] - a[..., :2]).prod(axis=-1) + (b[..., 2:] - b[..., :2]).prod(axis=-1) - common
    return np.asarray(common / union)


def _corners(boxes: Sequence[Box]) -> Floats:
    return np.array([(box.x0, box.y0, box.x1, box.y1) for box in boxes], dtype=np.float64).reshape(-1, 4)


def _assign(worth: Floats) -> dict[int, int]:
    """Pairs of row and column of the largest total worth; what is worth nothing stays alone."""
    rows, columns = linear_sum_assignment(worth, maximize=True)
    return {int(row): int(column) for row, column in zip(rows, columns, strict=True) if worth[row, column] > 0}
