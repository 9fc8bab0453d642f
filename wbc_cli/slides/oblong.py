"""Slides whose pixels are not square, shown with pixels that are."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from wbc_cli.slides.pixels import shrink, shrunk_size
from wbc_cli.slides.reader import RGBImage, SlideReader
from wbc_cli.slides.scale import PixelSize

RESAMPLED = "oblong_pixels"
"""Flag of a slide whose pixels are not square."""

_SQUARE = 0.01  # by how much the sides of a pixel may differ: cells do not show it


def is_oblong(pixel_um: PixelSize | None) -> bool:
    """Whether pixels are visibly not square."""
    return pixel_um is not None and max(pixel_um) > (1 + _SQUARE) * min(pixel_um)


class SquareReader:
    """Another reader's slide as a `SlideReader` of square pixels, as large as the shorter sides of its own.

    Level-0 pixels are these.
    """

    path: Path
    width: int
    height: int
    um_per_px: float | None
    pixel_um: PixelSize | None
    file_pixels: tuple[float, float]
    flags: tuple[str, ...]
    bounds: tuple[int, int]

    def __init__(self, reader: SlideReader, pixel_um: PixelSize) -> None:
        """Read from another reader, which is closed with this one.

        Args:
            reader: the slide.
            pixel_um: width and height of its pixels in micrometres.
        """
        self._reader, self.path, self.pixel_um = reader, reader.path, pixel_um
        self.um_per_px = side = min(pixel_um)
        self.width, self.height = round(reader.width * pixel_um[0] / side), round(reader.height * pixel_um[1] / side)
        self.file_pixels = reader.width / self.width, reader.height / self.height
        self.bounds = round(reader.bounds[0] / self.file_pixels[0]), round(reader.bounds[1] / self.file_pixels[1])
        self.flags = (*reader.flags, RESAMPLED)

    def read(self, x: int, y: int, width: int, height: int, downsample: float = 1.0) -> RGBImage:
        """Read a region, see `SlideReader.read`; edges are right within half a pixel of the file."""
        left, columns = _span(x, width, self.file_pixels[0], self._reader.width)
        top, rows = _span(y, height, self.file_pixels[1], self._reader.height)
        finest = max(1.0, downsample * min(self.file_pixels))
        pixels = self._reader.read(left, top, columns, rows, finest)
        out_width, out_height = shrunk_size(width, height, downsample)
        # One side at a time: averaging is for shrinking, and between pixels it is the line through them.
        if out_width <= pixels.shape[1]:
            pixels = shrink(pixels, out_width, pixels.shape[0])
        if out_height <= pixels.shape[0]:
            pixels = shrink(pixels, pixels.shape[1], out_height)
        return np.asarray(cv2.resize(pixels, (out_width, out_height), interpolation=cv2.INTER_LINEAR), np.uint8)

    def close(self) -> None:
        """Close the other reader."""
        self._reader.close()


def _span(start: int, length: int, step: float, limit: int) -> tuple[int, int]:
    """The first and the number of the file's pixels that cover a stretch of square ones best."""
    first = min(round(start * step), limit - 1)
    return first, max(1, min(round((start + length) * step), limit) - first)
