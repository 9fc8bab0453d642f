"""The pixels of a field of a TIFF: its colours, and of a stack the sharpest plane."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from tifffile import COMPRESSION, EXTRASAMPLE, PHOTOMETRIC, TIFF, TiffFrame, TiffPage, TiffPageSeries

from wbc_cli.errors import SlideError
from wbc_cli.slides import jpeg
from wbc_cli.slides.damage import refuse_hole, refuse_lost
from wbc_cli.slides.fields import Field, is_in_one_page
from wbc_cli.slides.pixels import cmyk_to_rgb, to_rgb, to_uint8
from wbc_cli.slides.reader import RGBImage

_PLAIN = {PHOTOMETRIC.MINISWHITE, PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.RGB}
_UNSUPPORTED: dict[int, str] = {
    COMPRESSION.OJPEG: "old-style JPEG (6)",
    COMPRESSION.APERIO_JP2000_YCBC: "Aperio's JPEG 2000 (33003), which does not say what its colours are",
    COMPRESSION.JPEG_LOSSY: "lossy DNG JPEG (34892)",
}


def read_field(path: Path, field: Field) -> tuple[RGBImage, bool]:
    """Decode a field.

    Returns:
        uint8 [H, W, 3], and whether it is the sharpest plane of several.

    Raises:
        SlideError: it is of a kind that cannot be shown as RGB.
        ValueError, or another of tiff.DAMAGE: it is damaged.
    """
    page = field.series.keyframe
    refuse_compression(path, page)
    best, sharpest, count = None, -1.0, 0
    for samples in _planes(field):
        count += 1
        sharpness = _sharpness(samples)
        if sharpness > sharpest:
            best, sharpest = samples, sharpness
    if best is None:
        raise ValueError("it has no pixels")
    if len(field.planes[0]) > 1:
        return to_rgb(to_uint8(best)), count > 1
    return _rgb(path, page, best), count > 1


def refuse_compression(path: Path, page: TiffPage) -> None:
    """Refuse a page whose pixels nothing here decodes, or not for certain.

    Raises:
        SlideError: it is one.
    """
    kind = _UNSUPPORTED.get(page.compression)
    if kind is None:
        try:
            TIFF.DECOMPRESSORS[page.compression]
        except KeyError:
            kind = f"compression {page.compression}"
    if page.compression == COMPRESSION.JPEG and page.bitspersample != 8:
        kind = f"JPEG of {page.bitspersample} bits"
    if kind:
        raise SlideError(
            f"{path}: its pixels are in {kind}. Save it with JPEG of 8 bits, LZW or deflate, or without compression."
        )


def _planes(field: Field) -> Iterator[NDArray[Any]]:
    """Yield the planes of a stack, each [H, W, samples]."""
    for channels in field.planes:
        volumes = [_decode(field.series, place) for place in channels]
        for depth in range(len(volumes[0])):
            yield np.concatenate([volume[depth] for volume in volumes], axis=2)


def _decode(series: TiffPageSeries, place: int) -> NDArray[Any]:
    """Decode a page of a series: [depth, H, W, samples].

    Raises:
        ValueError, or another of tiff.DAMAGE: it is damaged, or in a file that is not there.
    """
    first = series.keyframe
    if is_in_one_page(series):
        file, dtype = first.parent.filehandle, np.dtype(first.dtype).newbyteorder(first.parent.byteorder)
        samples = file.read_array(dtype, first.size, (series.dataoffset or 0) + place * first.nbytes)
        samples = samples.reshape(first.shaped)
        hole = samples
    else:
        page = series.pages[place]
        if page is None:
            raise ValueError("a plane is in a file that is missing")
        if page.parent.filehandle.closed:
            page.parent.filehandle.open()  # of another file of the same set
        _refuse_damage(page, first)
        samples = page.asarray(squeeze=False)  # [planes, depth, H, W, samples]
        in_rows = first.compression == COMPRESSION.NONE and not first.is_tiled
        hole = samples if in_rows else samples[:0]
    for plane in hole.reshape(-1, *hole.shape[2:]) if hole.size else ():
        refuse_hole(plane)
    return np.moveaxis(samples, 0, -1).reshape(*samples.shape[1:4], -1)


def _refuse_damage(page: TiffPage | TiffFrame, first: TiffPage) -> None:
    """Look for what the codecs would make grey or black without a word."""
    file, places = page.parent.filehandle, list(zip(page.dataoffsets, page.databytecounts, strict=True))
    if not places or min(size for _, size in places) <= 0:
        raise ValueError("some of its pixels are not there")
    if max(start + size for start, size in places) > file.size:
        raise ValueError("the file ends before its pixels do")
    width = first.tilewidth if first.is_tiled else first.imagewidth
    samples = first.samplesperpixel if first.planarconfig == 1 else 1
    for start, size in places:
        file.seek(start)
        data = file.read(size)
        if first.compression == COMPRESSION.JPEG:
            jpeg.check((first.jpegtables or jpeg.SOI + jpeg.EOI)[:-2] + data[2:])
        else:
            refuse_lost(first.compression, data, math.ceil(width * samples * first.bitspersample / 8))


def _sharpness(samples: NDArray[Any]) -> float:
    """Measure how much fine detail a plane has, for its brightness."""
    grey = samples.mean(axis=2, dtype=np.float32)
    return float(cv2.Laplacian(grey, cv2.CV_32F).var() / max(1e-6, float(grey.mean())) ** 2)


def _rgb(path: Path, page: TiffPage, samples: NDArray[Any]) -> RGBImage:
    """Make RGB of a page's samples [H, W, samples]."""
    kind, jpeg = page.photometric, page.compression == COMPRESSION.JPEG
    unknown = kind not in _PLAIN | {PHOTOMETRIC.PALETTE, PHOTOMETRIC.SEPARATED} and not (
        kind == PHOTOMETRIC.YCBCR and jpeg  # the JPEG decoder makes RGB of it
    )
    if unknown or page.samplesperpixel > 5:
        raise SlideError(
            f"{path}: a TIFF of {page.samplesperpixel} samples a pixel, colours {kind!r}, cannot be shown as RGB. "
            "Convert it to 8-bit RGB."
        )
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
