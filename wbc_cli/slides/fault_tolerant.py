"""Slides of which a few tiles cannot be decoded: white in their place."""

from __future__ import annotations

import logging
import math
from contextlib import suppress

import numpy as np

from wbc_cli.errors import SlideError
from wbc_cli.slides.pixels import WHITE, shrink, shrunk_size
from wbc_cli.slides.reader import ReaderWrapper, RGBImage, SlideReader
from wbc_cli.slides.unreadable_tiles import Rectangle, UnreadableTiles

log = logging.getLogger(__name__)

MAX_UNREADABLE_SHARE = 0.01
"""The share of a slide's area that may be unreadable; beyond it the slide fails."""

_MIN_TILE_SIDE = 64  # pixels a side; smaller tiles, such as strips of 8 rows, are tried several at a time
_WHOLE_PERCENT = 0.1  # share from which on a digit behind the point says nothing
_AT_ONCE = 4096 * 4096  # level-0 pixels that are read in full where a coarser level is damaged


class FaultTolerantReader(ReaderWrapper):
    """A slide as a `SlideReader` that shows white where a tile cannot be decoded; threads may share it.

    The full picture stands in for a damaged coarser level.

    Attributes:
        gaps: the tiles that reads have come upon so far and that are shown white.
    """

    def __init__(self, reader: SlideReader, tile_size: tuple[int, int]) -> None:
        """Read from another reader, which is closed with this one.

        Args:
            reader: the slide.
            tile_size: width and height of its level-0 tiles in pixels.
        """
        super().__init__(reader)
        tile_width, tile_height = (side * math.ceil(_MIN_TILE_SIDE / side) for side in tile_size)
        self.gaps = UnreadableTiles(reader.width, reader.height, (tile_width, tile_height))

    def read(self, x: int, y: int, width: int, height: int, downsample: float = 1.0) -> RGBImage:
        """Read a region, see `SlideReader.read`; what cannot be decoded of it is white.

        Raises:
            SlideError: more than MAX_UNREADABLE_SHARE of the slide cannot be decoded.
        """
        try:
            return self.reader.read(x, y, width, height, downsample)
        except SlideError as error:
            log.info("%s", error)
        return self._patched(Rectangle(x, y, x + width, y + height), downsample)

    def _patched(self, region: Rectangle, downsample: float) -> RGBImage:
        """Put together what can be decoded of a region, split along its tiles as far as is needed."""
        width, height = region.x1 - region.x0, region.y1 - region.y0
        columns, rows = shrunk_size(width, height, downsample)
        picture = np.empty((rows, columns, 3), np.uint8)
        picture[:] = WHITE
        rectangles = _quarters(region, self.gaps.tile_size)
        while rectangles:
            rectangle = rectangles.pop()
            pixels = self._decoded(rectangle, downsample)
            if pixels is not None:
                left, right = _span(rectangle.x0 - region.x0, rectangle.x1 - region.x0, columns / width, columns)
                top, bottom = _span(rectangle.y0 - region.y0, rectangle.y1 - region.y0, rows / height, rows)
                picture[top:bottom, left:right] = shrink(pixels, right - left, bottom - top)
            elif len(parts := _quarters(rectangle, self.gaps.tile_size)) > 1:
                rectangles += parts
            else:
                self._give_up(rectangle)
        return picture

    def _decoded(self, rectangle: Rectangle, downsample: float) -> RGBImage | None:
        """Decode a rectangle at a downsample, or at 1 if only the full picture can be decoded; None if neither can."""
        width, height = rectangle.x1 - rectangle.x0, rectangle.y1 - rectangle.y0
        downsamples = {downsample}
        if width * height <= _AT_ONCE and not self.gaps.touch(rectangle):
            downsamples.add(1.0)
        for factor in sorted(downsamples, reverse=True):
            with suppress(SlideError):
                return self.reader.read(rectangle.x0, rectangle.y0, width, height, factor)
        return None

    def _give_up(self, rectangle: Rectangle) -> None:
        self.gaps.add(rectangle.x0, rectangle.y0)
        if (share := self.gaps.share) > MAX_UNREADABLE_SHARE:
            percent = f"{100 * share:.{0 if share > _WHOLE_PERCENT else 1}f}"
            raise SlideError(
                f"{self.path}: {percent} % of the slide cannot be decoded, more than {MAX_UNREADABLE_SHARE:.0%}; "
                f"the last tile was that at ({rectangle.x0}, {rectangle.y0}). Copy the slide again from its source."
            )


def gaps_of(reader: SlideReader) -> UnreadableTiles:
    """Return what a reader has shown white so far; nothing where it raises an error instead."""
    gaps = _gaps(reader)
    return UnreadableTiles(reader.width, reader.height, (reader.width, reader.height)) if gaps is None else gaps


def is_slide(reader: SlideReader) -> bool:
    """Tell whether a reader is a FaultTolerantReader, or wraps one: plain images have none."""
    return _gaps(reader) is not None


def _gaps(reader: SlideReader) -> UnreadableTiles | None:
    while isinstance(reader, ReaderWrapper):
        if isinstance(reader, FaultTolerantReader):
            return reader.gaps
        reader = reader.reader
    return None


def _quarters(rectangle: Rectangle, tile_size: tuple[int, int]) -> list[Rectangle]:
    """Cut a rectangle along the tile borders nearest to its middle; the rectangle itself if it lies in one tile."""
    across, down = (
        _halves(start, end, side) for start, end, side in zip(rectangle[:2], rectangle[2:], tile_size, strict=True)
    )
    return [Rectangle(x0, y0, x1, y1) for y0, y1 in down for x0, x1 in across]


def _halves(start: int, end: int, side: int) -> list[tuple[int, int]]:
    border = round((start + end) / 2 / side) * side
    return [(start, border), (border, end)] if start < border < end else [(start, end)]


def _span(start: int, end: int, scale: float, limit: int) -> tuple[int, int]:
    """Return the first and end of the pixels of a shrunk picture that stand for a stretch of it, one at least."""
    first = min(round(start * scale), limit - 1)
    return first, max(first + 1, round(end * scale))
