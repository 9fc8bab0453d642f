"""What TIFFs say of themselves: the sizes of their pixels, and whether all tiles are there."""

from __future__ import annotations

import logging
import math
import struct
import xml.etree.ElementTree as ET
from pathlib import Path

from tifffile import TiffFile, TiffFileError, TiffPage

from wbc_cli.errors import SlideError
from wbc_cli.slides import pixel_size

# What tifffile and the codecs behind it raise on damaged files, which their own classes do not cover.
DAMAGE = (
    *(TiffFileError, OSError, ValueError, RuntimeError, LookupError),
    *(TypeError, AttributeError, ArithmeticError, struct.error, ET.ParseError),
)
# What it warns of is an error here, or of no consequence, and its words do not say which file is meant.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)

MAX_SLIDE_PIXELS = 500_000_000_000
"""The most pixels that are believed of a slide: 76 x 26 mm of glass at 0.08 um a pixel are 310,000 million."""

_UM_PER_RESOLUTION_UNIT = {2: pixel_size.UM_PER_INCH, 3: pixel_size.UM_PER_CM}


def refuse_missing_tiles(path: Path) -> None:
    """Refuse a TIFF whose size is larger than its directory has tiles for: OpenSlide shows the rest as background.

    Raises:
        SlideError: it is one.
    """
    try:
        with TiffFile(path) as tiff:
            tiled = (page for page in tiff.pages if isinstance(page, TiffPage) and page.is_tiled)
            listed = [(min(len(p.dataoffsets), len(p.databytecounts)), math.prod(p.chunked), p) for p in tiled]
    except DAMAGE:
        return  # another format, or OpenSlide says what is wrong
    for present, needed, page in listed:
        if present < needed:
            raise SlideError(
                f"{path}: lists {present} tiles, and its {page.imagewidth} x {page.imagelength} pixels take {needed}. "
                "Copy it again from its source."
            )


def pixel_um(tiff: TiffFile, page: TiffPage, image: int = 0) -> pixel_size.PixelSize | None:
    """Read a pixel's size as OME-XML, ImageJ or the page's resolution states it, if that is plausible.

    Args:
        tiff: the file.
        page: one of its pages.
        image: the place of its picture among those that an OME-XML describes.
    """
    if from_ome := pixel_size.from_ome(tiff.pages.first.description, image):
        return from_ome
    across, down = (_density(page, tag) for tag in ("XResolution", "YResolution"))
    if tiff.imagej_metadata and "unit" in tiff.imagej_metadata:
        return pixel_size.from_named_unit(across, down, str(tiff.imagej_metadata["unit"]))
    um_per_unit = _UM_PER_RESOLUTION_UNIT.get(int(page.resolutionunit))
    return pixel_size.from_density(across, down, um_per_unit) if um_per_unit else None


def _density(page: TiffPage, tag: str) -> float:
    stated = page.tags.get(tag)
    return stated.value[0] / stated.value[1] if stated is not None and stated.value[1] else 0.0


def too_large(path: Path, width: int, height: int) -> SlideError:
    """Make the error for a picture that should not be decoded into memory as a whole."""
    return SlideError(
        f"{path}: {width} x {height} pixels are too many for a plain image. Convert it to an 8-bit pyramidal slide, "
        "for example with `vips tiffsave IN OUT.tif --tile --pyramid --compression jpeg --bigtiff`."
    )
