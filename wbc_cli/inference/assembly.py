"""From the predictions of windows to the cells of the slide: each once, at level 0."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from wbc_cli.cells import CYTOPLASM, NUCLEUS
from wbc_cli.inference.window_cells import WindowCell, WindowPrediction
from wbc_cli.inference.windows import Window

_MIN_SAME_CELL_OVERLAP = 0.4  # of the smaller mask's area


@dataclass(frozen=True, eq=False)
class Detection:
    """A cell that was detected in one window, in the coordinates of the slide.

    Attributes:
        window: where it was detected.
        saliency: float32 [h, w], the prior over the window, 0 to 1.
        cell: what the network predicts of it.
        box: x0, y0, x1, y1 in level-0 pixels, half open, inside the slide.
        mask: uint8 of the box's size, 0, CYTOPLASM or NUCLEUS.
        x, y: centroid in level-0 pixels.
        truncated: the window's border cuts the cell, though the slide goes on.
    """

    window: Window
    saliency: NDArray[np.float32]
    cell: WindowCell
    box: tuple[int, int, int, int]
    mask: NDArray[np.uint8]
    x: float
    y: float
    truncated: bool

    @property
    def centre_distance(self) -> float:
        """Compute the distance from the centre of the window in level-0 pixels; truncated cells count as farther."""
        x, y = self.window.centre
        return float(np.hypot(self.x - x, self.y - y)) + (self.window.side if self.truncated else 0)


def detections(window: Window, prediction: WindowPrediction, width: int, height: int) -> list[Detection]:
    """Return every cell that was detected in a window, with its mask at level 0.

    Args:
        window: where it lies.
        prediction: what the network found in it.
        width, height: of the slide, in level-0 pixels.
    """
    found = []
    for cell in prediction.cells:
        rows, columns = np.nonzero(prediction.labels == cell.label)
        size = prediction.labels.shape[0]
        unit = window.side / size
        x0 = max(0, int(np.floor(window.x + (columns.min() - 1) * unit)))
        y0 = max(0, int(np.floor(window.y + (rows.min() - 1) * unit)))
        x1 = min(width, int(np.ceil(window.x + (columns.max() + 2) * unit)))
        y1 = min(height, int(np.ceil(window.y + (rows.max() + 2) * unit)))
        if x1 <= x0 or y1 <= y0:
            continue
        mask = _mask(window, prediction, cell.label, (x0, y0, x1, y1))
        inside_rows, inside_columns = np.nonzero(mask)
        if not len(inside_rows):
            continue
        top, left = int(inside_rows.min()), int(inside_columns.min())
        bottom, right = int(inside_rows.max()) + 1, int(inside_columns.max()) + 1
        beyond = (window.x > 0, window.y > 0, window.x + window.side < width, window.y + window.side < height)
        touching = (columns.min() == 0, rows.min() == 0, columns.max() == size - 1, rows.max() == size - 1)
        found.append(
            Detection(
                window,
                prediction.saliency,
                cell,
                (x0 + left, y0 + top, x0 + right, y0 + bottom),
                mask[top:bottom, left:right],
                float(inside_columns.mean()) + x0 + 0.5,
                float(inside_rows.mean()) + y0 + 0.5,
                any(t and b for t, b in zip(touching, beyond, strict=True)),
            )
        )
    return found


def deduplicate(found: Iterable[Detection]) -> list[Detection]:
    """Keep one detection of each cell, the one nearest the centre of its window (non-maximum suppression by masks)."""
    kept: list[Detection] = []
    # A cell is smaller than its window, so only those in this or a neighbouring square of that size can be the same.
    squares: dict[tuple[int, int], list[Detection]] = {}
    for detection in sorted(found, key=lambda s: (round(s.centre_distance, 3), s.y, s.x)):
        side = detection.window.side
        column, row = int(detection.x // side), int(detection.y // side)
        near = (s for i in (-1, 0, 1) for j in (-1, 0, 1) for s in squares.get((column + i, row + j), ()))
        if not any(_same(detection, other) for other in near):
            squares.setdefault((column, row), []).append(detection)
            kept.append(detection)
    return kept


def _same(a: Detection, b: Detection) -> bool:
    """Tell whether two detections share more of the smaller one than two cells could."""
    x0, y0 = max(a.box[0], b.box[0]), max(a.box[1], b.box[1])
    x1, y1 = min(a.box[2], b.box[2]), min(a.box[3], b.box[3])
    if x1 <= x0 or y1 <= y0:
        return False
    parts = [s.mask[y0 - s.box[1] : y1 - s.box[1], x0 - s.box[0] : x1 - s.box[0]] > 0 for s in (a, b)]
    shared = np.count_nonzero(parts[0] & parts[1])
    return bool(shared > _MIN_SAME_CELL_OVERLAP * min(np.count_nonzero(a.mask), np.count_nonzero(b.mask)))


def _mask(
    window: Window, prediction: WindowPrediction, label: int, box: tuple[int, int, int, int]
) -> NDArray[np.uint8]:
    """Draw cytoplasm and nucleus of one cell in a box of the slide: the probabilities are enlarged, then decided."""
    x0, y0, x1, y1 = box
    scale = prediction.labels.shape[0] / window.side
    shift_x, shift_y = (x0 + 0.5 - window.x) * scale - 0.5, (y0 + 0.5 - window.y) * scale - 0.5
    matrix = np.array([[scale, 0, shift_x], [0, scale, shift_y]])
    # Grown by one pixel into what belongs to nobody, since the enlarged outline runs between the map's pixels.
    grown = cv2.dilate((prediction.labels == label).astype(np.uint8), np.ones((3, 3), np.uint8))
    own = grown & ((prediction.labels == label) | (prediction.labels == 0))
    # Holes that were filled stay so.
    foreground = np.maximum(1 - prediction.probabilities[0], np.where(prediction.labels == label, np.float32(0.51), 0))
    planes = [own.astype(np.float32), foreground, prediction.probabilities[2] - prediction.probabilities[1]]
    owned, cell, nucleus = (
        cv2.warpAffine(
            plane,
            matrix,
            (x1 - x0, y1 - y0),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        for plane in planes
    )
    inside = (owned > 0.5) & (cell > 0.5)
    return np.where(inside, np.where(nucleus > 0, NUCLEUS, CYTOPLASM), 0).astype(np.uint8)
