"""Which reader suits a file."""

from __future__ import annotations

import math
from pathlib import Path

from openslide import OpenSlide

from wbc_cli.slides.fault_tolerant import FaultTolerantReader
from wbc_cli.slides.formats import HEAD_BYTES, read_head, recognise
from wbc_cli.slides.oblong import SquareReader, is_oblong
from wbc_cli.slides.openers import open_picture, open_with_openslide
from wbc_cli.slides.reader import SlideReader, TiledReader
from wbc_cli.slides.unsupported import refuse_overview


def choose_reader(path: Path, field: int | None = None) -> SlideReader:
    """Open a file, see `wbc_cli.slides.open_slide`.

    Raises:
        SlideError: as there.
    """
    refuse_overview(path)
    reader = _open(path, field)
    square: SlideReader = reader
    if reader.pixel_um and is_oblong(reader.pixel_um):
        square = SquareReader(reader, reader.pixel_um)
    if not isinstance(reader, TiledReader):
        return square
    across, down = (
        max(1, math.floor(side / step)) for side, step in zip(reader.tile_size, square.file_pixels, strict=True)
    )
    return FaultTolerantReader(square, (across, down))


def _open(path: Path, field: int | None) -> SlideReader:
    vendor = OpenSlide.detect_format(path)
    if known := recognise(read_head(path, HEAD_BYTES), vendor):
        return known.open(path, field)
    # A kind that a later OpenSlide knows, or none at all, of which the reader of pictures says what is wrong with it.
    return open_with_openslide(path) if vendor else open_picture(path, field)
