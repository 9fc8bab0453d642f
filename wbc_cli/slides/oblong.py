"""Slides whose pixels are not square, shown with pixels that are."""

from __future__ import annotations

import math

import cv2
import numpy as np

from wbc_cli.slides.pixel_size import PixelSize
from wbc_cli.slides.pixels import shrink, shrunk_size
from wbc_cli.slides.reader import RESAMPLED, ReaderWrapper, RGBImage, SlideReader

_CURVE = 2  # pixels on either side that a cubic curve hangs on
_SQUARE = 0.01  # by how much the sides of a pixel may differ: cells do not show it


def is_oblong(pixel_um: PixelSize | None) -> bool:
    """Tell whether pixels are visibly not square."""
    return pixel_um is not None and max(pixel_um) > (1 + _SQUARE) * min(pixel_um)


class SquareReader(ReaderWrapper):
    """Another reader's slide as a `SlideReader` of square pixels, as large as the shorter sides of its own.

    Level-0 pixels are these.
    """

    def __init__(self, reader: SlideReader, pixel_um: PixelSize) -> None:
        """Read from another reader, which is closed with this one.

        Args:
            reader: the slide.
            pixel_um: width and height of its pixels in micrometres.
        """
        super().__init__(reader)
        self.um_per_px = side = min(pixel_um)
        self.width, self.height = round(reader.width * pixel_um[0] / side), round(reader.height * pixel_um[1] / side)
        self.file_pixels = reader.width / self.width, reader.height / self.height
        self.bounds = round(reader.bounds[0] / self.file_pixels[0]), round(reader.bounds[1] / self.file_pixels[1])
        self.flags = (*reader.flags, RESAMPLED)

    def read(self, x: int, y: int, width: int, height: int, downsample: float = 1.0) -> RGBImage:
        """Read a region, see `SlideReader.read`; between pixels of the file it is a cubic curve through them."""
        out_width, out_height = shrunk_size(width, height, downsample)
        factor = max(1.0, downsample * min(self.file_pixels))
        left, columns = _span(x, width, self.file_pixels[0], self.reader.width)
        top, rows = _span(y, height, self.file_pixels[1], self.reader.height)
        pixels = self.reader.read(left, top, columns, rows, factor)
        # Along the shorter side the pixels are the file's own, and there may be more of them than are wanted.
        if self.file_pixels[0] == 1.0:
            pixels = shrink(pixels, out_width, pixels.shape[0])
        if self.file_pixels[1] == 1.0:
            pixels = shrink(pixels, pixels.shape[1], out_height)
        step_x, shift_x = _steps(x, width / out_width, self.file_pixels[0], left, columns / pixels.shape[1])
        step_y, shift_y = _steps(y, height / out_height, self.file_pixels[1], top, rows / pixels.shape[0])
        warped = cv2.warpAffine(
            pixels,
            np.array([[step_x, 0, shift_x], [0, step_y, shift_y]]),
            (out_width, out_height),
            flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        return np.asarray(warped, np.uint8)


def _span(start: int, length: int, pixels: float, limit: int) -> tuple[int, int]:
    """Find the first and number of the file's pixels that show a stretch of square ones, and those that curves need."""
    margin = 0 if pixels == 1.0 else _CURVE
    first = max(0, math.floor(start * pixels) - margin)
    return first, min(math.ceil((start + length) * pixels) + margin, limit) - first


def _steps(start: int, downsample: float, pixels: float, first: int, factor: float) -> tuple[float, float]:
    """Relate the place of an answer's pixel to that of what was read: how far one step goes, and where the first is.

    Args:
        start: of the region, in square pixels.
        downsample: square pixels to one of the answer.
        pixels: the file's pixels to a square one.
        first: where in the file was read from.
        factor: the file's pixels to one of what was read.
    """
    step = downsample * pixels / factor
    return step, (start * pixels - first) / factor + (step - 1) / 2
