"""One background for all images, to see whether a model reads the class off it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from wbc_cli.evaluation.regions import read_mask
from wbc_cli.manifest import MaskLevels
from wbc_cli.slides.pixels import shrink, shrunk_size
from wbc_cli.slides.reader import ReaderWrapper, RGBImage, SlideReader

COLOUR = (224, 224, 224)  # about as bright as the background of most images, and of no stain
_DILATION_PX = 2  # the outline's own blur belongs to the cell


class CutOutReader(ReaderWrapper):
    """An image as a `SlideReader` that shows its masked cells before one and the same colour.

    Args:
        reader: the image; closed with this one.
        mask, levels: file of its mask, and how to read it, see `regions.read_mask`.

    Raises:
        UsageError: the mask cannot be read or does not fit.
    """

    def __init__(self, reader: SlideReader, mask: Path, levels: MaskLevels | None = None) -> None:
        super().__init__(reader)
        kernel = np.ones((2 * _DILATION_PX + 1,) * 2, np.uint8)
        self._outside = cv2.dilate(read_mask(mask, (reader.width, reader.height), levels), kernel) == 0

    def read(self, x: int, y: int, width: int, height: int, downsample: float = 1.0) -> RGBImage:
        """Read a region, see `SlideReader.read`."""
        region = self.reader.read(x, y, width, height)
        region[self._outside[y : y + height, x : x + width]] = COLOUR
        return shrink(region, *shrunk_size(width, height, downsample))
