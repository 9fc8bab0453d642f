"""Plain TIFF and OME-TIFF: the first full page as RGB, and its scale."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from tifffile import COMPRESSION, EXTRASAMPLE, PHOTOMETRIC, TiffFile, TiffFileError, TiffPage

from wbc_cli.errors import SlideError
from wbc_cli.slides import scale
from wbc_cli.slides.pixels import cmyk_to_rgb, to_rgb, to_uint8
from wbc_cli.slides.reader import RGBImage

# What tifffile and the codecs behind it raise on damaged files, which their own classes do not cover.
DAMAGE = (
    *(TiffFileError, OSError, ValueError, RuntimeError, LookupError),
    *(TypeError, AttributeError, ArithmeticError, struct.error),
)
MOST_PIXELS = 500_000_000_000
"""No slide has more: 76 x 26 mm of glass at 0.08 um a pixel are 310,000 million."""

_UM_PER_RESOLUTION_UNIT = {2: scale.UM_PER_INCH, 3: scale.UM_PER_CM}
_PLAIN = {PHOTOMETRIC.MINISWHITE, PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.RGB}


def is_8_bit_colour(path: Path) -> bool:
    """Tell whether OpenSlide, which makes 8-bit RGB of the first page, shows this TIFF as it is meant.

    It does not for other depths (12 bits in 16 come out nearly black) and for colours kept in separate pages.
    """
    try:
        with TiffFile(path) as tiff:
            return bool(tiff.pages.first.bitspersample == 8 and not _colours_in_pages(tiff))
    except DAMAGE:
        return True  # OpenSlide has recognised it, and says what is wrong


def read_tiff(path: Path, max_pixels: int) -> tuple[RGBImage, float | None]:
    """Decode the first page that is no thumbnail; of a stack the first plane.

    Returns:
        uint8 [H, W, 3], and micrometres a pixel if the file has a plausible value.

    Raises:
        SlideError: the file is damaged, of a kind that cannot be shown as RGB, or has more than `max_pixels`.
    """
    try:
        with TiffFile(path) as tiff:
            full = (page for page in tiff.pages if isinstance(page, TiffPage) and not page.is_reduced)
            page = next(full, tiff.pages.first)
            if page.imagewidth * page.imagelength > max_pixels:
                raise too_large(path, page.imagewidth, page.imagelength)
            ends = (start + size for start, size in zip(page.dataoffsets, page.databytecounts, strict=True))
            if max(ends) > tiff.filehandle.size:  # the JPEG codec would make grey of what is missing
                raise ValueError("the file ends before its pixels do")
            if _colours_in_pages(tiff):
                image = to_rgb(to_uint8(np.moveaxis(tiff.series[0].asarray(), 0, 2)))
            else:
                image = _page_rgb(path, page)
            return image, um_per_px(tiff, page)
    except DAMAGE as error:
        raise SlideError(f"{path}: damaged or cut short TIFF ({error}). Copy it again from its source.") from error


def refuse_missing_tiles(path: Path) -> None:
    """Refuse a TIFF whose size is larger than its directory has tiles for: OpenSlide shows the rest as empty glass.

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


def um_per_px(tiff: TiffFile, page: TiffPage) -> float | None:
    """Micrometres a pixel as OME-XML, ImageJ or the page's resolution states it, if that is plausible."""
    if tiff.ome_metadata and (from_ome := scale.from_ome(tiff.ome_metadata)):
        return from_ome
    resolution = page.tags.get("XResolution")
    if resolution is None or not resolution.value[1]:
        return None
    pixels = resolution.value[0] / resolution.value[1]
    if tiff.imagej_metadata and "unit" in tiff.imagej_metadata:
        return scale.from_named_unit(pixels, str(tiff.imagej_metadata["unit"]))
    um_per_unit = _UM_PER_RESOLUTION_UNIT.get(int(page.resolutionunit))
    return scale.from_density(pixels, um_per_unit) if um_per_unit else None


def too_large(path: Path, width: int, height: int) -> SlideError:
    """Make the error for a picture that should not be decoded into memory as a whole."""
    return SlideError(
        f"{path}: {width} x {height} pixels are too many for a plain image. Convert it to an 8-bit pyramidal slide, "
        "for example with `vips tiffsave IN OUT.tif --tile --pyramid --compression jpeg --bigtiff`."
    )


def _colours_in_pages(tiff: TiffFile) -> bool:
    try:
        series = tiff.series[0]
    except DAMAGE:
        return False  # a description that tifffile cannot follow; the pages can be read all the same
    return bool(series.axes == "CYX" and series.shape[0] == 3)


def _page_rgb(path: Path, page: TiffPage) -> RGBImage:
    kind, jpeg = page.photometric, page.compression in {COMPRESSION.JPEG, COMPRESSION.OJPEG}
    unknown = kind not in _PLAIN | {PHOTOMETRIC.PALETTE, PHOTOMETRIC.SEPARATED} and not (
        kind == PHOTOMETRIC.YCBCR and jpeg  # the JPEG decoder makes RGB of it
    )
    if unknown or page.samplesperpixel > 5:
        raise SlideError(
            f"{path}: a TIFF of {page.samplesperpixel} samples a pixel, colours {kind!r}, cannot be shown as RGB. "
            "Convert it to 8-bit RGB."
        )
    samples = _interleaved(page)
    if kind == PHOTOMETRIC.PALETTE and page.colormap is not None:
        palette = (page.colormap >> (8 if page.colormap.max() > 255 else 0)).astype(np.uint8)  # [3, colours]
        return np.ascontiguousarray(palette.T[samples[..., 0]])
    image = to_uint8(samples)
    if kind == PHOTOMETRIC.SEPARATED:
        return cmyk_to_rgb(image[..., :4])
    if kind == PHOTOMETRIC.MINISWHITE:
        image = 255 - image
    colours = 1 if kind in {PHOTOMETRIC.MINISWHITE, PHOTOMETRIC.MINISBLACK} else 3
    match page.extrasamples[:1]:
        case (EXTRASAMPLE.UNASSALPHA,):
            return to_rgb(image[..., : colours + 1])
        case (EXTRASAMPLE.ASSOCALPHA,):  # already multiplied: white is added where it is transparent
            clear = 255 - to_rgb(image[..., colours : colours + 1])
            return np.asarray(cv2.add(to_rgb(image[..., :colours]), clear), np.uint8)
    return to_rgb(image[..., :colours])


def _interleaved(page: TiffPage) -> NDArray[Any]:
    """Decode a page to [H, W, S], of a volume the first plane."""
    samples = page.asarray(squeeze=False)  # [planes, depth, H, W, samples]
    return np.moveaxis(samples[:, 0], 0, -1).reshape(*samples.shape[2:4], -1)
