"""Where in a TIFF its tiles lie, and whether they are so plain that they can be read without OpenSlide."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tifffile import COMPRESSION, PHOTOMETRIC, SAMPLEFORMAT, TiffFile, TiffPage

from wbc_cli.slides import pixel_size
from wbc_cli.slides.damage import refuse_hole, refuse_lost
from wbc_cli.slides.jpeg_tiles import REDUCTIONS, JpegTiles
from wbc_cli.slides.reader import RGBImage
from wbc_cli.slides.tiff import DAMAGE, MAX_SLIDE_PIXELS, pixel_um

_MAX_TILE_PIXELS = 1 << 24  # 48 MB as RGB
# Not Aperio's 33003: the stream does not say whether its YCbCr, which OpenSlide knows how to take, is RGB already.
_JPEG2000 = {COMPRESSION.JPEG2000, COMPRESSION.APERIO_JP2000_RGB}
_LOSSLESS = {COMPRESSION.NONE, COMPRESSION.LZW, COMPRESSION.DEFLATE, COMPRESSION.ADOBE_DEFLATE}
_END_OF_CODESTREAM = b"\xff\xd9"
_APERIO_UM_PER_PX = re.compile(r"\|\s*MPP\s*=\s*([\d.,]+)")

TileDecoder = Callable[[bytes, int, int], RGBImage]


@dataclass(frozen=True)
class Level:
    """A picture of the pyramid, and the tiles that it consists of.

    Attributes:
        width, height: pixels of what was scanned.
        tile_width, tile_height: pixels of a tile; those at the right and lower edges reach beyond the picture.
        columns: tiles in a row.
        downsample: level-0 pixels to one of its pixels.
        path: the file that the tiles are in.
        offsets, sizes: int64 [tiles, parts], bytes, row by row; a tile's parts belong behind each other, and where it
            has fewer than others the sizes of the rest are 0.
        reductions: by how much a tile can be shrunk while it is decoded, ascending from 1.
        decode: from a tile's bytes, its index and a reduction to uint8 [tile_height / reduction, tile_width /
            reduction, 3], at the edges perhaps without what is beyond the picture. It raises one of `tiff.DAMAGE`.
        margins: pixels of the slide that were not scanned, on the left, above, on the right and below.
    """

    width: int
    height: int
    tile_width: int
    tile_height: int
    columns: int
    downsample: float
    path: Path
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    reductions: tuple[int, ...]
    decode: TileDecoder
    margins: tuple[int, int, int, int] = (0, 0, 0, 0)

    @property
    def slide_size(self) -> tuple[int, int]:
        """Width and height of the whole slide in pixels of this level."""
        left, above, right, below = self.margins
        return left + self.width + right, above + self.height + below

    @property
    def rows(self) -> int:
        """The number of rows of tiles."""
        return -(-self.height // self.tile_height)


@dataclass(frozen=True)
class Layout:
    """A slide of tiles.

    Attributes:
        levels: by falling size, the first is the full picture.
        pixel_um: width and height of a level-0 pixel as the file states it, or None.
        bounds: as `SlideReader` says.
    """

    levels: tuple[Level, ...]
    pixel_um: pixel_size.PixelSize | None = None
    bounds: tuple[int, int] = (0, 0)


def read_layout(path: Path, page: int = 0) -> Layout | None:
    """Find the tiles of a TIFF's page, which must be plain, and so must all that are smaller copies of it.

    Plain is: one plane of 8-bit RGB or YCbCr, interleaved, without alpha, all of its tiles in the file, in a
    compression that is known here. Each level's first tile is decoded to see that this holds.

    Returns:
        None for all other files, among them those that are damaged or cannot be read.
    """
    try:
        with TiffFile(path) as tiff:
            pages = _pyramid(tiff, page)
            if pages is None:
                return None
            levels = tuple(level_of(path, own, pages[0]) for own in pages)
            if not all(is_whole(level, tiff) for level in levels):
                return None
            return Layout(levels, _pixel_um(tiff, pages[0]))
    except DAMAGE:
        return None


def _pyramid(tiff: TiffFile, page: int) -> list[TiffPage] | None:
    """Find the pages of the levels by falling size, as OpenSlide chooses them; None if one of them is not plain.

    `TiffFile.series` knows fewer: Aperio's second page for it is a thumbnail, and levels are each of half, a third or
    a fourth of the one before.
    """
    first = tiff.pages[page]
    if not isinstance(first, TiffPage) or not is_plain(first) or first.is_reduced:
        return None
    others = [own for own in tiff.pages if isinstance(own, TiffPage) and own is not first]
    if not _is_aperio(first):  # those of one field follow it, before the next field
        others = list(takewhile(lambda page: page.is_reduced, (own for own in others if own.index > first.index)))
    elif any(page.shape[:2] == first.shape[:2] for page in others if page.is_tiled):  # planes of a stack
        return None
    others += [page for page in first.pages or () if isinstance(page, TiffPage)]
    smaller = [page for page in others if page.is_tiled and _is_smaller_copy(page, first)]
    alike = {(page.compression, page.photometric) for page in (first, *smaller)}
    if len(alike) > 1 or not all(is_plain(page) for page in smaller):
        return None
    return [first, *sorted(smaller, key=lambda page: page.imagewidth, reverse=True)]


def is_plain(page: TiffPage) -> bool:
    """Tell whether the pixels of a page are such that its tiles can be decoded here."""
    jpeg = page.compression == COMPRESSION.JPEG and page.photometric in {PHOTOMETRIC.RGB, PHOTOMETRIC.YCBCR}
    rgb = page.compression in _JPEG2000 | _LOSSLESS and page.photometric == PHOTOMETRIC.RGB
    return bool(
        (jpeg or rgb)
        and page.is_tiled
        and (page.bitspersample, page.samplesperpixel, page.sampleformat) == (8, 3, SAMPLEFORMAT.UINT)
        and page.planarconfig == 1
        and (page.imagedepth, page.tiledepth, page.fillorder, page.tags.valueof("Orientation", 1)) == (1, 1, 1, 1)
        and not page.extrasamples
        and page.tilewidth * page.tilelength <= _MAX_TILE_PIXELS
        and page.imagewidth * page.imagelength <= MAX_SLIDE_PIXELS
    )


def _is_smaller_copy(page: TiffPage, first: TiffPage) -> bool:
    """Tell whether a page is smaller and of the same proportions, each side being right within two pixels."""
    skew = abs(first.imagewidth * page.imagelength - first.imagelength * page.imagewidth)
    return bool(page.imagewidth < first.imagewidth and skew <= 2 * (first.imagewidth + first.imagelength))


def level_of(path: Path, page: TiffPage, first: TiffPage) -> Level:
    """Describe a plain page as a level of the pyramid whose full picture is the first page."""
    width, height = page.tilewidth, page.tilelength
    jpeg = page.compression == COMPRESSION.JPEG
    return Level(
        width=page.imagewidth,
        height=page.imagelength,
        tile_width=width,
        tile_height=height,
        columns=-(-page.imagewidth // width),
        downsample=downsample_of(page, first),
        path=path,
        offsets=np.array(page.dataoffsets, np.int64)[:, np.newaxis],
        sizes=np.array(page.databytecounts, np.int64)[:, np.newaxis],
        reductions=tuple(r for r in REDUCTIONS if width % r == 0 and height % r == 0) if jpeg else (1,),
        decode=_jpeg_decoder(page) if jpeg else _other_decoder(page),
    )


def downsample_of(page: TiffPage, first: TiffPage) -> float:
    """Compute how many of the first page's pixels make one of a page's, as OpenSlide does."""
    return (first.imagewidth / page.imagewidth + first.imagelength / page.imagelength) / 2


def _jpeg_decoder(page: TiffPage) -> TileDecoder:
    ycbcr = page.photometric == PHOTOMETRIC.YCBCR
    tiles = JpegTiles(page.jpegtables or b"", ycbcr=ycbcr, width=page.tilewidth, height=page.tilelength)
    return lambda data, _, reduction: tiles.decode(data, reduction)


def _other_decoder(page: TiffPage) -> TileDecoder:
    decode = page.decode  # made here, while the file is open
    compression, row = page.compression, page.tilewidth * page.samplesperpixel

    def decode_tile(data: bytes, index: int, _: int) -> RGBImage:
        if compression in _JPEG2000 and _END_OF_CODESTREAM not in data:  # the codec would make up what is missing
            raise ValueError("its JPEG 2000 is cut short")
        refuse_lost(compression, data, row)
        planes, _position, _shape = decode(data, index)
        tile: RGBImage = np.asarray(planes, np.uint8)[0]
        if compression == COMPRESSION.NONE:
            refuse_hole(tile)
        return tile

    return decode_tile


def is_whole(level: Level, tiff: TiffFile) -> bool:
    """Tell whether the file holds every tile, as far as that shows without decoding more than the first."""
    if not len(level.offsets) == len(level.sizes) == level.rows * level.columns:
        return False
    # A size of 0 is Aperio's sign for a tile that must be made up from another level.
    if level.sizes.min() <= 0 or (level.offsets + level.sizes).max() > tiff.filehandle.size:
        return False
    tiff.filehandle.seek(int(level.offsets[0, 0]))
    level.decode(tiff.filehandle.read(int(level.sizes[0, 0])), 0, 1)
    return True


def _is_aperio(page: TiffPage) -> bool:
    return bool(page.description.startswith("Aperio"))


def _pixel_um(tiff: TiffFile, first: TiffPage) -> pixel_size.PixelSize | None:
    if not _is_aperio(first):
        return pixel_um(tiff, first)
    stated = _APERIO_UM_PER_PX.search(first.description)
    return pixel_size.plausible(float(stated[1].replace(",", "."))) if stated else None
