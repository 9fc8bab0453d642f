"""Hamamatsu NDPI, read on its own grid of tiles.

Each level is one huge JPEG, in which a restart marker follows each stretch of a few thousand pixels, 8 or 16 high.
Stretches below each other, one after the other behind a header that tells their size, are a JPEG again: a tile.
"""

from __future__ import annotations

import itertools
import math
import re
import struct
from pathlib import Path

import numpy as np
from tifffile import PHOTOMETRIC, TiffFile, TiffPage

from wbc_cli.slides import jpeg
from wbc_cli.slides.jpeg_tiles import REDUCTIONS, JpegTiles
from wbc_cli.slides.openers import open_on_grid
from wbc_cli.slides.reader import RGBImage
from wbc_cli.slides.slide import OpenSlideReader
from wbc_cli.slides.tiff import DAMAGE
from wbc_cli.slides.tile_layout import Layout, Level, TileDecoder, downsample_of, is_plain
from wbc_cli.slides.tiled import TileGridReader

_MAGNIFICATION, _DEPTH = 65421, 65424  # tags; below 0 are the macro picture and the map
_TILE_ROWS = 64  # of a tile, in pixels: an eighth of it is whole blocks
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
_LOOKED_AT = 64  # places of a level at which there must be a marker


def open_ndpi(path: Path, _field: int | None = None) -> OpenSlideReader | TileGridReader:
    """Open an NDPI, see `openers.open_on_grid`.

    Raises:
        SlideError: it cannot be opened.
    """
    return open_on_grid(path, read_layout(path))


def read_layout(path: Path) -> Layout | None:
    """Find the tiles of an NDPI, of its levels that have restart markers, in the middle one of several planes.

    Returns:
        None where the full picture has none, or is not of JPEG in 8 bits, and where the file is damaged.
    """
    try:
        with TiffFile(path, is_ndpi=True) as tiff:
            pages = [page for page in tiff.pages if isinstance(page, TiffPage) and _is_level(page)]
            pages.sort(key=lambda page: page.imagewidth, reverse=True)
            if not pages or not is_plain(pages[0]) or len({page.imagewidth for page in pages}) < len(pages):
                return None
            levels = tuple(_level(path, page, pages[0]) for page in pages if is_plain(page))
            if not all(_has_markers(level, tiff) for level in levels):
                return None
            return Layout(levels)
    except DAMAGE:
        return None


def _is_level(page: TiffPage) -> bool:
    return bool(page.tags.valueof(_MAGNIFICATION, 0) > 0 and page.tags.valueof(_DEPTH, 0) == 0)


def _level(path: Path, page: TiffPage, first: TiffPage) -> Level:
    """Gather the stretches below each other into tiles.

    Raises:
        ValueError: there are not as many as the picture takes.
    """
    columns, rows = math.ceil(page.imagewidth / page.tilewidth), math.ceil(page.imagelength / page.tilelength)
    together = _TILE_ROWS // page.tilelength
    places = np.array([page.dataoffsets, page.databytecounts], np.int64).reshape(2, rows, columns)
    if places.min() <= 0:
        raise ValueError("its restart markers are not in order")
    filled = np.pad(places, ((0, 0), (0, -rows % together), (0, 0)))
    offsets, sizes = filled.reshape(2, -1, together, columns).swapaxes(2, 3).reshape(2, -1, together)
    return Level(
        width=page.imagewidth,
        height=page.imagelength,
        tile_width=page.tilewidth,
        tile_height=_TILE_ROWS,
        columns=columns,
        downsample=downsample_of(page, first),
        path=path,
        offsets=offsets,
        sizes=sizes,
        reductions=REDUCTIONS,
        decode=_decoder(page, np.count_nonzero(sizes, axis=1).tolist()),
    )


def _decoder(page: TiffPage, stretches: list[int]) -> TileDecoder:
    """Make what decodes a tile.

    Args:
        page: of the level.
        stretches: how many there are in each tile.
    """
    header: bytes = page.jpegheader or b""
    size_at = next(part.start for part in jpeg.segments(header) if part.marker in jpeg.FRAMES) + 1
    width, rows, ycbcr = page.tilewidth, page.tilelength, page.photometric == PHOTOMETRIC.YCBCR

    def decode_tile(data: bytes, index: int, reduction: int) -> RGBImage:
        numbers = itertools.count()
        scan = _RESTART.sub(lambda _: bytes((0xFF, 0xD0 + next(numbers) % 8)), data)
        height, found = stretches[index] * rows, next(numbers)
        if found not in {stretches[index], stretches[index] - 1}:  # the level's last stretch has none behind it
            raise ValueError("a restart marker is not where the file says")
        scan = scan[:-2] if found == stretches[index] else scan
        own_header = header[:size_at] + struct.pack(">H", height) + header[size_at + 2 :]
        tiles = JpegTiles(b"", ycbcr=ycbcr, width=width, height=height)
        return tiles.decode(own_header + scan + jpeg.EOI, reduction)

    return decode_tile


def _has_markers(level: Level, tiff: TiffFile) -> bool:
    """Tell whether restart markers are where the file says, which not all programs have written down right."""
    starts = np.sort(level.offsets[level.sizes > 0])[1:]
    for start in starts[:: max(1, len(starts) // _LOOKED_AT)].tolist():
        tiff.filehandle.seek(start - 2)
        if not _RESTART.fullmatch(tiff.filehandle.read(2)):
            return False
    return True
