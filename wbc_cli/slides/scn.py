"""Leica SCN, read on its own grid of tiles: a TIFF whose scan lies somewhere on the slide, as its XML says."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

from tifffile import TiffFile, TiffPage

from wbc_cli.slides.openers import open_on_grid
from wbc_cli.slides.slide import OpenSlideReader
from wbc_cli.slides.tiff import DAMAGE
from wbc_cli.slides.tile_layout import Layout, Level, is_plain, is_whole, level_of
from wbc_cli.slides.tiled import TileGridReader

_SIZE, _PLACE = ("sizeX", "sizeY"), ("offsetX", "offsetY")  # in nanometres


def open_scn(path: Path, _field: int | None = None) -> OpenSlideReader | TileGridReader:
    """Open an SCN, see `openers.open_on_grid`.

    Raises:
        SlideError: it cannot be opened.
    """
    return open_on_grid(path, read_layout(path))


def read_layout(path: Path) -> Layout | None:
    """Find the tiles of an SCN's scan, in its lowest plane.

    Returns:
        None where it has several scans, where the scan is not plain, and where the file is damaged.
    """
    try:
        with TiffFile(path) as tiff:
            slide = ET.fromstring(tiff.pages.first.description).find("{*}collection")
            if slide is None:
                return None
            size = _pair(slide, _SIZE)
            images = [image for image in slide.findall("{*}image") if not _is_overview(image, size)]
            if len(images) != 1:
                return None
            levels = _levels(path, tiff, images[0], size)
            return Layout(levels) if all(is_whole(level, tiff) for level in levels) else None
    except DAMAGE:
        return None


def _pair(element: ET.Element, names: tuple[str, str]) -> tuple[int, int]:
    return int(element.attrib[names[0]]), int(element.attrib[names[1]])


def _view(image: ET.Element) -> ET.Element:
    view = image.find("{*}view")
    if view is None:
        raise ValueError("it does not say where its scan lies")
    return view


def _is_overview(image: ET.Element, slide_size: tuple[int, int]) -> bool:
    view = _view(image)
    return _pair(view, _PLACE) == (0, 0) and _pair(view, _SIZE) == slide_size


def _levels(path: Path, tiff: TiffFile, image: ET.Element, slide_size: tuple[int, int]) -> tuple[Level, ...]:
    """Describe the levels of a scan, which lie on the slide where OpenSlide puts them.

    Raises:
        ValueError, or another of tiff.DAMAGE: they are not plain.
    """
    view = _view(image)
    numbers = [int(own.attrib["ifd"]) for own in image.iterfind("{*}pixels/{*}dimension") if own.get("z", "0") == "0"]
    pages = [page for page in map(tiff.pages.__getitem__, numbers) if isinstance(page, TiffPage) and is_plain(page)]
    if not pages or len(pages) < len(numbers):
        raise ValueError("its tiles are not plain")
    pages.sort(key=lambda page: page.imagewidth, reverse=True)
    levels: list[Level] = []
    for page in pages:
        pixel = _pair(view, _SIZE)[0] / page.imagewidth
        left, above = (int(place / pixel) for place in _pair(view, _PLACE))
        width, height = (math.ceil(side / pixel) for side in slide_size)
        full_width, full_height = levels[0].slide_size if levels else (width, height)
        levels.append(
            replace(
                level_of(path, page, pages[0]),
                margins=(left, above, width - left - page.imagewidth, height - above - page.imagelength),
                downsample=(full_width / width + full_height / height) / 2,
            )
        )
    return tuple(levels)
