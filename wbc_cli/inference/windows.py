"""Windows: where the network looks, and their pixels at its one scale."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from wbc_cli.slides.reader import RGBImage, SlideReader


@dataclass(frozen=True)
class Place:
    """A square window: upper left corner and side in level-0 pixels; may reach beyond the slide."""

    x: int
    y: int
    side: int

    @classmethod
    def around(cls, x: float, y: float, side: int) -> Place:
        """The window whose middle is nearest to a point."""
        return cls(round(x - side / 2), round(y - side / 2), side)

    @property
    def middle(self) -> tuple[float, float]:
        """X and y of the window's middle."""
        return self.x + self.side / 2, self.y + self.side / 2


def everywhere(width: int, height: int, side: int, step: int) -> list[Place]:
    """Windows over the whole slide, `step` level-0 pixels from one to the next, the last ones at its far edges."""

    def starts(length: int) -> NDArray[np.int64]:
        count = max(1, -(-(length - side) // step) + 1)
        return np.linspace(min(0, (length - side) // 2), max(0, length - side), count).round().astype(np.int64)

    return [Place(x, y, side) for y in starts(height).tolist() for x in starts(width).tolist()]


def cut(reader: SlideReader, place: Place, size: int, glass: NDArray[np.uint8]) -> RGBImage:
    """The pixels of a window, uint8 [size, size, 3]; outside the slide the colour of its glass."""
    canvas = np.empty((place.side, place.side, 3), np.uint8)
    canvas[:] = glass
    left, top = max(0, place.x), max(0, place.y)
    right, bottom = min(reader.width, place.x + place.side), min(reader.height, place.y + place.side)
    if right > left and bottom > top:
        canvas[top - place.y : bottom - place.y, left - place.x : right - place.x] = reader.read(
            left, top, right - left, bottom - top
        )
    shrinking = cv2.INTER_AREA if place.side >= size else cv2.INTER_CUBIC
    window: RGBImage = cv2.resize(canvas, (size, size), interpolation=shrinking)
    return window
