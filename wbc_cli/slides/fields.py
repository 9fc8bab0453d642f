"""What pictures a TIFF holds: several fields, the planes of a stack, and what lies beside a scan."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from openslide import OpenSlide
from tifffile import TiffFile, TiffPageSeries

from wbc_cli.errors import SlideError
from wbc_cli.slides import pixel_size
from wbc_cli.slides.formats import TIFF
from wbc_cli.slides.tiff import DAMAGE, pixel_um

_BESIDE = re.compile(r"label|macro|thumb|overview|preview|navigation|barcode", re.IGNORECASE)
_MIN_AREA_SHARE = 0.25  # of the largest: what is smaller, and has not its scale, lies beside it, as a label does
_SAME_SCALE = 0.02
_ALIKE = 0.8  # correlation from which on the smaller of two pictures is a copy
_MAX_COMPARED_PIXELS = 50_000_000  # the smaller of two pictures of like proportions is a copy where one is larger
_SIDE = 32  # pixels, at which pictures are compared
_FILE = re.compile(r"<(?:\w+:)?UUID\b[^>]*\bFileName=\"([^\"/\\]+)\"")
_CHANNEL = re.compile(r"<(?:\w+:)?Channel\b([^>]*)")
_COLOURS = (("red", "-16776961"), ("green", "16711935"), ("blue", "65535"))  # by name, and as OME writes them


@dataclass(frozen=True)
class Field:
    """A picture of a TIFF.

    Attributes:
        series: the pages that it is among, all of one size and kind.
        planes: of a stack each plane, else one; each is the place of a page in the series, or the places of the three
            that are its red, green and blue.
        page: the place in the file of the one page that it is; None if it is several, or a part of one.
        pixel_um: a pixel's size if the file has it and it is plausible, or None.
    """

    series: TiffPageSeries
    planes: tuple[tuple[int, ...], ...]
    page: int | None
    pixel_um: pixel_size.PixelSize | None


def is_in_one_page(series: TiffPageSeries) -> bool:
    """Tell whether all planes of a series lie behind each other, and the file describes the first one only."""
    return len(series.pages) == 1 and math.prod(series.shape) > math.prod(series.keyframe.shape)


@contextmanager
def open_tiff(path: Path) -> Iterator[TiffFile]:
    """Open a TIFF; where nobody can follow its description, its pages are taken by themselves.

    Raises:
        One of tiff.DAMAGE.
    """
    with TiffFile(path) as tiff:
        try:
            described = bool(tiff.series)
        except DAMAGE:
            described = False
        if described:
            yield tiff
            return
    with TiffFile(path, is_ome=False, is_imagej=False, is_shaped=False) as tiff:
        yield tiff


def fields_of(tiff: TiffFile) -> list[Field]:
    """Find the fields of a TIFF, without thumbnails, labels, overviews, masks and the smaller levels of pyramids.

    Raises:
        SlideError: one has channels that make no colours.
        One of tiff.DAMAGE.
    """
    sizes = [pixel_um(tiff, series.keyframe, place) for place, series in enumerate(tiff.series)]
    pictures = list(zip(tiff.series, sizes, strict=True))
    kept = [picture for picture in pictures if not _is_beside(picture[0])] or pictures
    largest = max(kept, key=lambda picture: _area(picture[0]))
    kept = [picture for picture in kept if picture is largest or _is_field(picture, largest)]
    return [
        Field(series, planes, _page(tiff, series, planes), size)
        for series, size in kept
        for planes in _split(tiff, series)
    ]


@dataclass(frozen=True)
class Contents:
    """What a TIFF is made of.

    Attributes:
        fields: how many it has.
        files: all that its OME-XML says it is spread over, its own among them; else none.
    """

    fields: int = 1
    files: frozenset[Path] = frozenset()


def contents_of(path: Path) -> Contents:
    """Count the fields of a TIFF; 1 for what cannot be read, as opening it says why."""
    try:
        with TiffFile(path) as tiff:
            if len(tiff.pages) == 1 and not (tiff.is_ome or tiff.is_imagej or tiff.is_shaped):
                return Contents()
        with open_tiff(path) as tiff:
            named = {path.with_name(name) for name in _FILE.findall(tiff.ome_metadata or "")}
            fields = len(fields_of(tiff))
    except (*DAMAGE, SlideError):
        return Contents()
    if fields > 1 and OpenSlide.detect_format(path) not in (None, *TIFF.vendors):
        return Contents()
    return Contents(fields, frozenset(named | {path}) if len(named) > 1 else frozenset())


def _page(tiff: TiffFile, series: TiffPageSeries, planes: tuple[tuple[int, ...], ...]) -> int | None:
    (first, *more) = planes
    if more or len(first) > 1 or is_in_one_page(series):
        return None
    own = series.pages[first[0]]
    return int(own.index) if own is not None and own.parent is tiff else None


def _is_beside(series: TiffPageSeries) -> bool:
    page = series.keyframe
    named = f"{series.name} {page.description[:100] if not page.description.startswith('<') else ''}"
    return bool(page.is_reduced or page.is_mask or _BESIDE.search(named))


def _area(series: TiffPageSeries) -> int:
    return int(series.keyframe.imagewidth * series.keyframe.imagelength)


_Picture = tuple[TiffPageSeries, pixel_size.PixelSize | None]


def _is_field(picture: _Picture, largest: _Picture) -> bool:
    """Tell whether a picture is a field like the largest one, not a smaller copy of it, its label or an overview."""
    (series, size), (most, its_size) = picture, largest
    page, other = series.keyframe, most.keyframe
    if (page.samplesperpixel, page.bitspersample) != (other.samplesperpixel, other.bitspersample):
        return False
    if _area(series) == _area(most):
        return True
    if size and its_size and not math.isclose(size[0], its_size[0], rel_tol=_SAME_SCALE):
        return False
    skew = abs(page.imagewidth * other.imagelength - page.imagelength * other.imagewidth)
    if skew <= 2 * (other.imagewidth + other.imagelength) and _is_copy(series, most):
        return False
    return bool(size and its_size) or _area(series) >= _MIN_AREA_SHARE * _area(most)


def _is_copy(small: TiffPageSeries, large: TiffPageSeries) -> bool:
    if _area(large) > _MAX_COMPARED_PIXELS:
        return True
    first, second = (_glance(series) for series in (small, large))
    return bool(np.corrcoef(first.ravel(), second.ravel())[0, 1] > _ALIKE)


def _glance(series: TiffPageSeries) -> NDArray[np.float32]:
    """Read a series' first page, small and grey."""
    samples = series.keyframe.asarray(squeeze=False)[:, 0].astype(np.float32)  # [planes, H, W, samples]
    return np.asarray(cv2.resize(samples.mean(axis=(0, 3)), (_SIDE, _SIDE), interpolation=cv2.INTER_AREA), np.float32)


def _split(tiff: TiffFile, series: TiffPageSeries) -> list[tuple[tuple[int, ...], ...]]:
    """Divide a series into fields, as `Field.planes`."""
    within = series.keyframe.axes
    if not series.axes.endswith(within):
        return [((place,),) for place in range(len(series.pages))]
    axes, shape = series.axes.removesuffix(within), series.shape[: len(series.axes) - len(within)]
    count = dict(zip(axes, shape, strict=True))
    order = sorted(range(len(axes)), key=lambda axis: "ZC".find(axes[axis]))
    places = np.arange(math.prod(shape)).reshape(shape).transpose(order)
    planes, channels = count.get("Z", 1), count.get("C", 1)
    if channels > 1 and series.keyframe.samplesperpixel == 1:
        if channels != 3:
            raise SlideError(
                f"{tiff.filehandle.path}: has {channels} channels, which make no colour picture. Export it as RGB."
            )
        places = places.reshape(-1, planes, channels)[..., _colour_order(tiff, series)]
    else:
        places = places.reshape(-1, planes, 1)
    return [tuple(tuple(map(int, plane)) for plane in field) for field in places]


def _colour_order(tiff: TiffFile, series: TiffPageSeries) -> list[int]:
    """Find which of three channels are red, green and blue: as OME-XML names or colours them, else in this order."""
    described = _CHANNEL.findall(tiff.ome_metadata or "") if series.kind == "ome" else []
    words = [set(re.findall(r"[a-z]+|-?\d+", attributes.lower())) for attributes in described[:3]]
    found = [[place for place, own in enumerate(words) if own & set(colour)] for colour in _COLOURS]
    order = [places[0] for places in found if len(places) == 1]
    return order if sorted(order) == [0, 1, 2] else [0, 1, 2]
