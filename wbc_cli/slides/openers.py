"""How files are opened: through OpenSlide, on their own grid of tiles, or decoded whole."""

from __future__ import annotations

from pathlib import Path

from openslide import OpenSlide

from wbc_cli.errors import SlideError
from wbc_cli.slides.fields import fields_of, open_tiff
from wbc_cli.slides.image import ImageReader
from wbc_cli.slides.planes import refuse_compression
from wbc_cli.slides.slide import OpenSlideReader
from wbc_cli.slides.tiff import DAMAGE
from wbc_cli.slides.tiled import TiledTiffReader
from wbc_cli.slides.unsupported import refuse_unsupported


def open_with_openslide(path: Path, _field: int | None = None) -> OpenSlideReader:
    """Open what only OpenSlide reads right: tiles that overlap, are missing or lie in an order of their own.

    Raises:
        SlideError: it cannot be opened.
    """
    return OpenSlideReader(path)


def open_aperio(path: Path, _field: int | None = None) -> OpenSlideReader | TiledTiffReader:
    """Open an SVS, on its own grid of tiles if that is plain.

    Raises:
        SlideError: it cannot be opened.
    """
    return TiledTiffReader.open_plain(path) or OpenSlideReader(path)


def open_picture(path: Path, field: int | None = None) -> ImageReader:
    """Decode a picture that is no TIFF.

    Raises:
        SlideError: it is damaged, or of a kind that is not read.
    """
    _refuse_missing_field(path, field or 0, 1)
    refuse_unsupported(path)
    return ImageReader(path)


def open_tiff_field(path: Path, field: int | None = None) -> ImageReader | OpenSlideReader | TiledTiffReader:
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
    if own and own.page is not None and (tiled := TiledTiffReader.open_plain(path, own.page)):
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
