"""thumbnails.zip: a small picture of each cell, made while the slide is open, for the report.

Each is a file of its own in a plain archive, so that any of them can be put on a page without decoding the others.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from PIL import Image

from wbc_cli.cells import SlideResult
from wbc_cli.products.drawing import View
from wbc_cli.products.selection import sample
from wbc_cli.slides.reader import RGBImage, SlideReader

SIDE = 128  # pixels
FIELD_UM = 25.0  # one scale for all, so that sizes compare; a larger cell is shown whole
MAX_THUMBNAILS = 20_000  # of a slide: as many as a report shows
QUALITY, METHOD = 75, 2  # of WebP: a third of the bytes of JPEG, in about a millisecond

SUFFIX = ".webp"


def write_thumbnails(result: SlideResult, reader: SlideReader, path: Path) -> None:
    """Write a picture for each cell, `<id>.webp`: the cell in the middle, nothing drawn over it.

    Of more than 20,000 cells those to review first have one, and some of every class.

    Raises:
        SlideError: a region cannot be decoded.
        OSError: the disk is full or read-only.
    """
    with ZipFile(path, "w", ZIP_STORED) as archive:
        for cell in sorted(sample(result.cells, MAX_THUMBNAILS), key=lambda cell: cell.id):
            x0, y0, x1, y1 = cell.box
            um_per_px = result.scale.um_per_px
            side = shown_um(max(x1 - x0, y1 - y0) * um_per_px) / um_per_px
            view = View.square((x0 + x1 - side) / 2, (y0 + y1 - side) / 2, side, SIDE)
            # without a time of its own an entry has that of 1980, and the same slide the same bytes
            archive.writestr(ZipInfo(f"{cell.id}{SUFFIX}"), _webp(view.read(reader)))


def shown_um(length_um: float) -> float:
    """Return how wide the picture of a cell is, by the longer side of its box; both in micrometres."""
    return max(FIELD_UM, 1.1 * length_um)


def read_thumbnails(path: Path, ids: Iterable[int]) -> dict[int, bytes]:
    """Read the WebP files of some cells; those that have none are left out, as if the archive were missing."""
    try:
        with ZipFile(path) as archive:
            there = set(archive.namelist())
            return {i: archive.read(f"{i}{SUFFIX}") for i in ids if f"{i}{SUFFIX}" in there}
    except (FileNotFoundError, BadZipFile):
        return {}


def _webp(picture: RGBImage) -> bytes:
    data = io.BytesIO()
    Image.fromarray(picture).save(data, "WEBP", quality=QUALITY, method=METHOD)
    return data.getvalue()
