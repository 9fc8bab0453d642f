"""How files are opened: through OpenSlide, on their own grid of tiles, or decoded whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from openslide import OpenSlide

from wbc_cli.errors import SlideError
from wbc_cli.slides.fields import fields_of, open_tiff
from wbc_cli.slides.image import ImageReader
from wbc_cli.slides.planes import refuse_compression
from wbc_cli.slides.slide import OpenSlideReader
from wbc_cli.slides.tiff import DAMAGE
from wbc_cli.slides.tile_layout import Layout, Level
from wbc_cli.slides.tiled import TileGridReader
from wbc_cli.slides.unsupported import refuse_unsupported

_COMPARED = 256  # pixels a side of a place of each level
_PLACES = (0.5, 0.25, 0.75, 0.0, 1.0)  # of the way across and down
_ALIKE = 5.0  # grey levels of difference on average: JPEG decoders differ by 1, other colours or places by far more


def open_with_openslide(path: Path, _field: int | None = None) -> OpenSlideReader:
    """Open what only OpenSlide reads right: tiles that overlap, are missing or lie in an order of their own.

    Raises:
        SlideError: it cannot be opened.
    """
    return OpenSlideReader(path)


def open_aperio(path: Path, _field: int | None = None) -> OpenSlideReader | TileGridReader:
    """Open an SVS, on its own grid of tiles if that is plain.

    Raises:
        SlideError: it cannot be opened.
    """
    return TileGridReader.open_plain(path) or OpenSlideReader(path)


def open_on_grid(path: Path, layout: Layout | None) -> OpenSlideReader | TileGridReader:
    """Open a slide on its own grid of tiles where it looks there as in OpenSlide, else through that.

    Args:
        path: the file.
        layout: where its tiles are, if they are plain.

    Raises:
        SlideError: it cannot be opened.
    """
    slide = OpenSlideReader(path)
    if layout is None:
        return slide
    try:
        own = TileGridReader(path, replace(layout, pixel_um=slide.pixel_um, bounds=slide.bounds))
    except OSError:
        return slide
    own.tile_size = slide.tile_size  # so that what is marked as damaged is the same
    chosen, other = (own, slide) if _are_alike(own, slide, layout.levels) else (slide, own)
    other.close()
    return chosen


def _are_alike(own: TileGridReader, slide: OpenSlideReader, levels: tuple[Level, ...]) -> bool:
    """Compare the sizes of all levels, and a place of each."""
    sizes = [level.slide_size for level in levels]
    if sizes[0] != slide.level_sizes[0] or not set(sizes) <= set(slide.level_sizes):
        return False
    return all(_looks_alike(own, slide, level) for level in levels)


def _looks_alike(own: TileGridReader, slide: OpenSlideReader, level: Level) -> bool:
    """Compare a place of a level, the first of a few that is not damaged."""
    width, height = min(level.width, _COMPARED), min(level.height, _COMPARED)
    for share in _PLACES:
        left = level.margins[0] + int((level.width - width) * share)
        top = level.margins[1] + int((level.height - height) * share)
        x, y, *size = (int(side * level.downsample) for side in (left, top, width, height))
        try:
            seen = [reader.read(x, y, size[0], size[1], level.downsample).astype(int) for reader in (own, slide)]
        except SlideError:
            continue
        return bool(np.abs(seen[0] - seen[1]).mean() <= _ALIKE)
    return False


def open_picture(path: Path, field: int | None = None) -> ImageReader:
    """Decode a picture that is no TIFF.

    Raises:
        SlideError: it is damaged, or of a kind that is not read.
    """
    _refuse_missing_field(path, field or 0, 1)
    refuse_unsupported(path)
    return ImageReader(path)


def open_tiff_field(path: Path, field: int | None = None) -> ImageReader | OpenSlideReader | TileGridReader:
    """Open a field of a TIFF of no vendor's own kind.

    Raises:
        SlideError: it is damaged, of a kind that is not read, or has several fields and none is named.
    """
    try:
        with open_tiff(path) as tiff:
            fields = fields_of(tiff)
    except DAMAGE:
        fields = []  # no TIFF, or the reader that opens it says what is wrong
    if field is None and len(fields) > 1:
        raise SlideError(f"{path}: holds {len(fields)} fields. Save each as a file of its own.")
    number = field or 0
    _refuse_missing_field(path, number, len(fields))
    own = fields[number] if fields else None
    if own and own.page is not None and (tiled := TileGridReader.open_plain(path, own.page)):
        return tiled
    if own:
        refuse_compression(path, own.series.keyframe)
    if OpenSlide.detect_format(path) is None:
        refuse_unsupported(path)
        return ImageReader(path, number)
    # OpenSlide makes 8-bit RGB of the first page, whatever it is: of 12 bits in 16 a nearly black one.
    if own is None or (own.page == 0 and own.series.keyframe.bitspersample == 8):
        return OpenSlideReader(path)
    return ImageReader(path, number)


def _refuse_missing_field(path: Path, number: int, count: int) -> None:
    if number >= max(1, count):
        raise SlideError(f"{path}: has no field {number + 1} any more. Run again to see which it has.")
