"""Matching of reported cells with true ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from wbc_cli.cells import Cell, SlideResult
from wbc_cli.evaluation.truth import MaskedCells
from wbc_cli.manifest import Box

Floats = NDArray[np.float64]

MATCH_IOU = 0.5
_OUTLINE_PRECISION_UM = 0.5  # the network's maps have pixels of 0.4 um


def by_distance(cells: Sequence[Cell], x: float, y: float) -> list[Cell]:
    """Sort cells, that whose centroid is nearest to a point first."""
    return sorted(cells, key=lambda cell: (cell.x - x) ** 2 + (cell.y - y) ** 2)


def match_by_iou(boxes: Sequence[Box], cells: Sequence[Cell]) -> dict[int, int]:
    """Pair boxes one-to-one with cells whose boxes overlap them at IoU 0.5, for the largest total overlap.

    Returns:
        Index of the cell by index of the box.
    """
    overlap = _overlap(boxes, cells)
    return _assign(np.where(overlap >= MATCH_IOU, overlap, 0))


def match_by_centre(boxes: Sequence[Box], cells: Sequence[Cell]) -> dict[int, int]:
    """Pair as many boxes as possible one-to-one with cells whose centroids lie in them."""
    return _assign(_inside(boxes, cells).astype(np.float64))


def match_by_either(boxes: Sequence[Box], cells: Sequence[Cell]) -> dict[int, int]:
    """Pair boxes one-to-one with cells that overlap them at IoU 0.5 or have their centroids in them."""
    overlap = _overlap(boxes, cells)
    return _assign(np.where((overlap >= MATCH_IOU) | _inside(boxes, cells), overlap, 0))


def match_by_mask(truth: MaskedCells, cells: Sequence[Cell]) -> dict[int, int]:
    """Pair masked cells one-to-one with reported ones that overlap them at IoU 0.5 or hold their middles.

    Returns:
        Index of the reported cell by index of the masked one.
    """
    worth = np.zeros((len(truth.areas), len(cells)))
    for column, cell in enumerate(cells):
        x0, y0, x1, y1 = cell.box
        mask = cell.mask > 0
        common = np.bincount(truth.labels[y0:y1, x0:x1][mask], minlength=len(truth.areas) + 1)[1:]
        iou = common / (truth.areas + np.count_nonzero(mask) - common)
        held = [
            x0 <= x < x1 and y0 <= y < y1 and bool(mask[int(y) - y0, int(x) - x0]) for x, y in truth.middles.tolist()
        ]
        worth[:, column] = np.where((iou >= MATCH_IOU) | held, iou, 0)
    return _assign(worth)


def cut_by_border(cell: Cell, result: SlideResult) -> bool:
    """Say whether a cell touches the border of its image, as far as an outline is exact."""
    x0, y0, x1, y1 = cell.box
    return min(x0, y0, result.width - x1, result.height - y1) * result.scale.um_per_px <= _OUTLINE_PRECISION_UM


def box_iou(first: Floats, second: Floats) -> Floats:
    """Compute the intersection over union of every pair of boxes.

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


def _overlap(boxes: Sequence[Box], cells: Sequence[Cell]) -> Floats:
    """Compute the IoU of every box with every cell's, float64 [boxes, cells]."""
    return box_iou(_corners(boxes), np.array([cell.box for cell in cells], dtype=np.float64).reshape(-1, 4))


def _inside(boxes: Sequence[Box], cells: Sequence[Cell]) -> NDArray[np.bool_]:
    """Tell whether each box holds each cell's centroid, bool [boxes, cells]."""
    corners = _corners(boxes)[:, None]
    points = np.array([(cell.x, cell.y) for cell in cells], dtype=np.float64).reshape(-1, 2)
    return np.asarray(((points >= corners[..., :2]) & (points < corners[..., 2:])).all(axis=-1))


def _corners(boxes: Sequence[Box]) -> Floats:
    return np.array([(box.x0, box.y0, box.x1, box.y1) for box in boxes], dtype=np.float64).reshape(-1, 4)


def _assign(worth: Floats) -> dict[int, int]:
    """Pair rows with columns for the largest total worth; what is worth nothing stays alone."""
    rows, columns = linear_sum_assignment(worth, maximize=True)
    return {int(row): int(column) for row, column in zip(rows, columns, strict=True) if worth[row, column] > 0}
