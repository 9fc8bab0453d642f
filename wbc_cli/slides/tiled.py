"""Slides read on the file's own grid of tiles, which is several times as fast as through OpenSlide."""

from __future__ import annotations

import math
from contextlib import ExitStack
from pathlib import Path
from threading import Lock
from typing import Self

import cv2
import numpy as np

from wbc_cli.errors import SlideError
from wbc_cli.slides.pixels import LEVEL_TOLERANCE, shrink, shrink_in_bands, shrunk_size
from wbc_cli.slides.reader import RGBImage, TiledReader
from wbc_cli.slides.tiff import DAMAGE
from wbc_cli.slides.tile_cache import TileCache
from wbc_cli.slides.tile_layout import Layout, Level, read_layout

_CACHE_BYTES = 64_000_000
_WHITE = 255  # of what was not scanned, as in OpenSlide


class TileGridReader(TiledReader):
    """A slide of plain tiles whose places in its files are known as a `SlideReader`; threads may share it.

    Pixels are those that `OpenSlideReader` gives, JPEG within rounding. Where the file lacks a level that is coarse
    enough, JPEG tiles are shrunk by up to 8 while they are decoded.
    """

    def __init__(self, path: Path, layout: Layout) -> None:
        """Open the file, whose layout was read before.

        Raises:
            OSError: it cannot be opened.
        """
        self.path = path
        self._levels = layout.levels
        self.width, self.height = layout.levels[0].slide_size
        self.tile_size = layout.levels[0].tile_width, layout.levels[0].tile_height
        self.bounds = layout.bounds
        self.pixel_um = layout.pixel_um
        self.um_per_px = self.pixel_um and min(self.pixel_um)
        self._cache = TileCache(_CACHE_BYTES)
        self._lock = Lock()
        with ExitStack() as opened:
            paths = {level.path for level in layout.levels}
            # And no memory maps: a file that is cut short meanwhile would end the process.
            self._files = {each: opened.enter_context(each.open("rb")) for each in paths}
            self._opened = opened.pop_all()

    @classmethod
    def open_plain(cls, path: Path, page: int = 0) -> Self | None:
        """Open the picture that begins with a TIFF's page; None if it is not plain: another reader has to say why."""
        layout = read_layout(path, page)
        try:
            return None if layout is None else cls(path, layout)
        except OSError:
            return None

    def read(self, x: int, y: int, width: int, height: int, downsample: float = 1.0) -> RGBImage:
        """Read a region, see `SlideReader.read`.

        It comes from the coarsest level that is fine enough, its tiles shrunk while they are decoded where even that
        is too fine, in bands where that is large. Edges are rounded to whole pixels of what is decoded, so that they
        are right within half of one; at level 0 without shrinking they are exact.
        """
        out_width, out_height = shrunk_size(width, height, downsample)
        level, reduction = self._source(downsample)
        step = level.downsample * reduction
        limit_x, limit_y = (math.ceil(side / reduction) for side in level.slide_size)
        left, columns = _span(x, width, step, limit_x)
        top, rows = _span(y, height, step, limit_y)
        if (columns, rows) == (out_width, out_height):
            return self._pixels(level, reduction, left, top, columns, rows)

        def read_rows(first: int, last: int) -> RGBImage:
            return self._pixels(level, reduction, left, top + first, columns, last - first)

        return shrink_in_bands(read_rows, columns, rows, out_width, out_height)

    def close(self) -> None:
        """Close the file; the reader is of no more use."""
        self._opened.close()
        self._cache.clear()

    def _source(self, downsample: float) -> tuple[Level, int]:
        """Choose the coarsest level that is fine enough, and by how much to shrink its tiles."""
        most = downsample * LEVEL_TOLERANCE
        level = max((own for own in self._levels if own.downsample <= most), key=lambda own: own.downsample)
        return level, max(r for r in level.reductions if level.downsample * r <= most)

    def _pixels(self, level: Level, reduction: int, left: int, top: int, columns: int, rows: int) -> RGBImage:
        """Put together a region of a level that is shrunk by the reduction, positions in pixels of that."""
        left, top = left - round(level.margins[0] / reduction), top - round(level.margins[1] / reduction)
        picture = np.empty((rows, columns, 3), np.uint8)
        if any(level.margins):
            picture.fill(_WHITE)
        width, height = level.tile_width // reduction, level.tile_height // reduction
        for row in range(max(0, top // height), min(level.rows, (top + rows - 1) // height + 1)):
            for column in range(max(0, left // width), min(level.columns, (left + columns - 1) // width + 1)):
                tile = self._tile(level, reduction, column, row)
                x, y = column * width - left, row * height - top
                part = picture[max(y, 0) : y + tile.shape[0], max(x, 0) : x + tile.shape[1]]
                part[:] = tile[max(-y, 0) :, max(-x, 0) :][: part.shape[0], : part.shape[1]]
        return picture

    def _tile(self, level: Level, reduction: int, column: int, row: int) -> RGBImage:
        """Return the part of a tile that is inside the level, not to be written to.

        Neighbouring windows share tiles of the full picture, which are kept; coarse pictures are looked at once.
        """
        index = row * level.columns + column
        keep = level is self._levels[0] and reduction == 1
        if keep and (kept := self._cache.get(index)) is not None:
            return kept
        x, y = column * level.tile_width, row * level.tile_height
        width, height = min(level.tile_width, level.width - x), min(level.tile_height, level.height - y)
        try:
            tile = self._decode(level, reduction, index, width, height)
        except DAMAGE as error:
            left, top, *_ = level.margins
            place = f"({round((left + x) * level.downsample)}, {round((top + y) * level.downsample)})"
            raise SlideError(
                f"{self.path}: the region of {round(width * level.downsample)} x {round(height * level.downsample)} "
                f"pixels at {place} cannot be decoded ({error}). Copy the slide again from its source."
            ) from error
        if keep:
            tile.flags.writeable = False
            self._cache.put(index, tile)
        return tile

    def _decode(self, level: Level, reduction: int, index: int, width: int, height: int) -> RGBImage:
        data = self._bytes(level, index)
        if width % reduction == 0 and height % reduction == 0:
            tile = level.decode(data, index, reduction)[: height // reduction, : width // reduction]
        else:
            # Shrinking would mix what is beyond the edge of the picture, often black, into its last pixels.
            inside = level.decode(data, index, 1)[:height, :width]
            right, below = -width % reduction, -height % reduction
            inside = np.asarray(cv2.copyMakeBorder(inside, 0, below, 0, right, cv2.BORDER_REPLICATE), np.uint8)
            tile = shrink(inside, inside.shape[1] // reduction, inside.shape[0] // reduction)
        if tile.shape != (math.ceil(height / reduction), math.ceil(width / reduction), 3):
            raise ValueError(f"it has the shape {tile.shape}")
        return tile

    def _bytes(self, level: Level, index: int) -> bytes:
        data = b""
        for offset, size in zip(level.offsets[index].tolist(), level.sizes[index].tolist(), strict=True):
            with self._lock:
                self._files[level.path].seek(offset)
                part = self._files[level.path].read(size)
            if len(part) < size:
                raise ValueError("the file ends before its pixels do")
            data += part
        return data


def _span(start: int, length: int, step: float, limit: int) -> tuple[int, int]:
    """Return the first and the number of the pixels, `step` apart and `limit` in all, that cover a stretch best."""
    first = min(math.floor(start / step + 0.5), limit - 1)
    end = min(math.floor((start + length) / step + 0.5), limit)
    return first, max(1, end - first)
