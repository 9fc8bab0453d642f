"""The one way the rest of the tool sees an image or a slide."""

from __future__ import annotations

from abc import ABC, abstractmethod
from inspect import get_annotations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wbc_cli.slides.pixel_size import PixelSize

RGBImage = NDArray[np.uint8]

NO_COLOUR = "no_colour"
"""The flag of a grey picture."""

INVERTED = "inverted"
"""The flag of a picture that is the negative of one in transmitted light."""

SHARPEST = "sharpest_plane"
"""The flag of a picture that is one of a stack."""

RESAMPLED = "oblong_pixels"
"""The flag of a slide whose pixels are not square."""

UNEVEN = "light_evened"
"""The flag of a picture whose light field was divided out before it was looked at."""


class SlideReader(ABC):
    """An open image or slide; readers derive from it.

    A new attribute is written down here alone: whatever wraps a reader takes it over.

    Attributes:
        path: the file.
        width, height: level-0 pixels.
        um_per_px: micrometres a level-0 pixel as the file states it, or None.
        pixel_um: width and height of the file's own pixels in micrometres, or None.
        file_pixels: how many of these make a level-0 pixel, across and down: other than 1 where they are not square.
        flags: what is to be said of the picture, in short words.
        bounds: x and y of the scanned area's corner in level-0 pixels, where viewers that crop to it have their (0, 0).
    """

    path: Path
    width: int
    height: int
    um_per_px: float | None
    pixel_um: PixelSize | None
    file_pixels: tuple[float, float] = (1.0, 1.0)
    flags: tuple[str, ...] = ()
    bounds: tuple[int, int] = (0, 0)

    @abstractmethod
    def read(self, x: int, y: int, width: int, height: int, downsample: float = 1.0) -> RGBImage:
        """Read a region that lies inside the slide.

        Args:
            x, y, width, height: the region in level-0 pixels.
            downsample: level-0 pixels to one pixel of the answer (>= 1).

        Returns:
            uint8 [max(1, round(height / downsample)), max(1, round(width / downsample)), 3], sRGB, averaged
            over the pixels it stands for (area interpolation, no aliasing).

        Raises:
            SlideError: the region cannot be decoded.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of the file; the reader is of no more use."""


class TiledReader(SlideReader):
    """A slide that is decoded tile by tile, of which a few may be damaged.

    Attributes:
        tile_size: width and height of a level-0 tile in pixels.
    """

    tile_size: tuple[int, int]


class ReaderWrapper(SlideReader):
    """What readers have in common that show another reader's slide in a changed way: its attributes, and its end.

    Attributes:
        reader: the other one, closed with this one; the rest is as `SlideReader` says.
    """

    def __init__(self, reader: SlideReader) -> None:
        self.reader = reader
        for name in get_annotations(SlideReader):
            setattr(self, name, getattr(reader, name))

    def close(self) -> None:
        """Let go of the file; the reader is of no more use."""
        self.reader.close()
