"""Where the labelled white cells of an image lie."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from wbc_cli.classes import OTHER
from wbc_cli.evaluation.regions import LabelMask
from wbc_cli.manifest import RED_CELL, Box, Sample

Floats = NDArray[np.float64]

_MIN_PIECE_SHARE = 0.05  # of the largest piece of a mask: what is smaller is a slip of the pen


@dataclass(frozen=True, eq=False)
class MaskedCells:
    """The separate cells of a mask.

    Attributes:
        labels: int32 [height, width], 0 where no cell is, and else its number, from 1.
        areas: int64 [n], pixels of each.
        middles: float64 [n, 2], x and y of each one's centroid.
    """

    labels: NDArray[np.int32]
    areas: NDArray[np.int64]
    middles: Floats

    @classmethod
    def of(cls, mask: LabelMask) -> MaskedCells:
        """Take a mask apart; cells that touch are one."""
        count, labels, stats, middles = cv2.connectedComponentsWithStats((mask > 0).astype(np.uint8), connectivity=8)
        areas = stats[:, cv2.CC_STAT_AREA]
        kept = [i for i in range(1, count) if areas[i] >= _MIN_PIECE_SHARE * areas[1:].max()]
        numbers = np.zeros(count, np.int32)
        numbers[kept] = np.arange(1, len(kept) + 1)
        return cls(numbers[labels], areas[kept].astype(np.int64), middles[kept] + 0.5)

    def labelled(self) -> MaskedCells:
        """Choose the one that an image's only label speaks of: that which holds the middle, or else the largest."""
        if len(self.areas) < 2:
            return self
        chosen = self.at_middle or int(self.areas.argmax()) + 1
        only = slice(chosen - 1, chosen)
        return MaskedCells((self.labels == chosen).astype(np.int32), self.areas[only], self.middles[only])

    @property
    def at_middle(self) -> int:
        """Return the number of the cell that holds the middle of the image; 0 where none does."""
        height, width = self.labels.shape
        return int(self.labels[height // 2, width // 2])

    def holds(self, x: float, y: float) -> bool:
        """Say whether a point lies in one of the cells."""
        return bool(self.labels[int(y), int(x)])


def white_boxes(sample: Sample) -> list[Box]:
    """Choose the boxes around white cells and erythroblasts, typed or not."""
    return [box for box in sample.boxes if box.label not in (RED_CELL, OTHER)]


def cell_middles(sample: Sample, mask: LabelMask | None, width: int, height: int) -> Floats:
    """Say where the labelled cells lie.

    Args:
        sample: the truth.
        mask: its mask, where it has one.
        width, height: of the image, in pixels.

    Returns:
        float64 [n, 2], x and y of the middle of each box; without boxes of each masked cell; without a mask that of the
        image for its only label. Empty where no position is known, and for images of platelets.
    """
    boxes = white_boxes(sample)
    if boxes:
        return np.array([((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2) for box in boxes])
    if OTHER in sample.labels:
        return np.empty((0, 2))
    if mask is not None:
        cells = MaskedCells.of(mask)
        return (cells.labelled() if len(sample.labels) == 1 else cells).middles
    return np.array([(width / 2, height / 2)] if len(sample.labels) == 1 else []).reshape(-1, 2)
