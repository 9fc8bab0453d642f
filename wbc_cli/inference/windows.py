"""Windows: the squares of a slide that the network is run on, and their pixels at its one scale."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from wbc_cli.slides.reader import RGBImage, SlideReader


@dataclass(frozen=True)
class Window:
    """A square of the slide, which may reach beyond its border.

    Attributes:
        x, y: the upper left corner in level-0 pixels.
        side: the side in level-0 pixels.
    """

    x: int
    y: int
    side: int

    @classmethod
    def around(cls, x: float, y: float, side: int) -> Window:
        """Return the window whose centre is nearest to a point, all in level-0 pixels."""
        return cls(round(x - side / 2), round(y - side / 2), side)

    @property
    def centre(self) -> tuple[float, float]:
        """The x and y of the window's centre in level-0 pixels."""
        return self.x + self.side / 2, self.y + self.side / 2


def sliding_windows(width: int, height: int, side: int, step: int) -> list[Window]:
    """Cover a whole slide with windows.

    Args:
        width, height: of the slide in level-0 pixels.
        side: of the windows in level-0 pixels.
        step: the most level-0 pixels from one window to the next; the last ones lie at the far edges of the slide.
    """

    def starts(length: int) -> NDArray[np.int64]:
        count = max(1, -(-(length - side) // step) + 1)
        return np.linspace(min(0, (length - side) // 2), max(0, length - side), count).round().astype(np.int64)

    return [Window(x, y, side) for y in starts(height).tolist() for x in starts(width).tolist()]


def read_window(reader: SlideReader, window: Window, size: int, background: NDArray[np.uint8]) -> RGBImage:
    """Read the pixels of a window and bring them to the network's size.

    Args:
        reader: the open slide.
        window: which part of it.
        size: the side of the result in pixels.
        background: uint8 [3], the colour of what lies outside the slide.

    Returns:
        uint8 [size, size, 3].

    Raises:
        SlideError: the region cannot be read.
    """
    canvas = np.empty((window.side, window.side, 3), np.uint8)
    canvas[:] = background
    left, top = max(0, window.x), max(0, window.y)
    right, bottom = min(reader.width, window.x + window.side), min(reader.height, window.y + window.side)
    if right > left and bottom > top:
        canvas[top - window.y : bottom - window.y, left - window.x : right - window.x] = reader.read(
            left, top, right - left, bottom - top
        )
    interpolation = cv2.INTER_AREA if window.side >= size else cv2.INTER_CUBIC
    pixels: RGBImage = cv2.resize(canvas, (size, size), interpolation=interpolation)
    return pixels
