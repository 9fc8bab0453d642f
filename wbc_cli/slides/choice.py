"""Which reader suits a file."""

from __future__ import annotations

import math
from pathlib import Path

from openslide import OpenSlide

from wbc_cli.errors import SlideError
from wbc_cli.slides.fields import PLAIN_TIFF, fields_of, open_tiff
from wbc_cli.slides.formats import refuse_overview, refuse_unsupported
from wbc_cli.slides.image import ImageReader
from wbc_cli.slides.oblong import SquareReader, is_oblong
from wbc_cli.slides.patchy import PatchyReader
from wbc_cli.slides.planes import refuse_compression
from wbc_cli.slides.reader import SlideReader
from wbc_cli.slides.slide import OpenSlideReader
from wbc_cli.slides.tiff import DAMAGE
from wbc_cli.slides.tiled import TiledTiffReader

_APERIO = "aperio"


def choose_reader(path: Path, field: int | None = None) -> SlideReader:
    """Open a file, see `wbc_cli.slides.open_slide`.

    Raises:
        SlideError: as there.
    """
    refuse_overview(path)
    reader = _choose(path, OpenSlide.detect_format(path), field)
    square: SlideReader = reader
    if reader.pixel_um and is_oblong(reader.pixel_um):
        square = SquareReader(reader, reader.pixel_um)
    if isinstance(reader, ImageReader):
        return square
    across, down = (
        max(1, math.floor(side / step)) for side, step in zip(reader.tile_size, square.file_pixels, strict=True)
    )
    return PatchyReader(square, (across, down))


def _choose(path: Path, vendor: str | None, field: int | None) -> ImageReader | OpenSlideReader | TiledTiffReader:
    if vendor in PLAIN_TIFF:
        return _choose_picture(path, vendor, field)
    # The other formats inside TIFF have tiles that overlap, are missing or lie beside each other in ways of their own.
    return (vendor == _APERIO and TiledTiffReader.open_plain(path)) or OpenSlideReader(path)


def _choose_picture(
    path: Path, vendor: str | None, field: int | None
) -> ImageReader | OpenSlideReader | TiledTiffReader:
    try:
        with open_tiff(path) as tiff:
            fields = fields_of(tiff)
    except DAMAGE:
        fields = []  # no TIFF, or the reader that opens it says what is wrong
    if field is None and len(fields) > 1:
        raise SlideError(f"{path}: holds {len(fields)} fields. Save each as a file of its own.")
    number = field or 0
    if number >= max(1, len(fields)):
        raise SlideError(f"{path}: has no field {number + 1} any more. Run again to see which it has.")
    own = fields[number] if fields else None
    if own and own.page is not None and (tiled := TiledTiffReader.open_plain(path, own.page)):
        return tiled
    if own:
        refuse_compression(path, own.series.keyframe)
    if vendor is None:
        refuse_unsupported(path)
        return ImageReader(path, number)
    # OpenSlide makes 8-bit RGB of the first page, whatever it is: of 12 bits in 16 a nearly black one.
    if own is None or (own.page == 0 and own.series.keyframe.bitspersample == 8):
        return OpenSlideReader(path)
    return ImageReader(path, number)
