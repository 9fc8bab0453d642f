"""Names beside the cells of a picture, placed so that they hide as little as possible."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from wbc_cli.cells import Cell
from wbc_cli.classes import BY_NAME
from wbc_cli.products.drawing import cell_label
from wbc_cli.products.lettering import Colour, Typeface, text_colour, typeface
from wbc_cli.slides.reader import RGBImage

Rectangle = tuple[int, int, int, int]

CELL_SHOWN, LABEL_SHOWN = 1, 4  # hiding a label is worse than hiding a bit of a cell


def draw_labels(picture: RGBImage, cells: tuple[Cell, ...], zoom: int, size: int) -> None:
    """Write class and confidence beside every cell, where they hide no cell and no other label.

    Where the whole text has no such place, the confidence alone is written, as the colour tells the class; where
    that has none either, it hides as little as it can.

    Args:
        picture: uint8 [h, w, 3], drawn on.
        cells: their boxes lie in the picture.
        zoom: pixels of the picture to one level-0 pixel.
        size: of the text in pixels.
    """
    letters = typeface(size)
    taken = _cells_shown(picture, cells, zoom)
    canvas = Image.fromarray(picture)
    for cell in cells:
        for label in (cell_label(cell), f"{cell.confidence:.2f}"):
            place = _best_place(cell, taken, zoom, _tag_size(label, letters))
            if _hidden(taken, place) == 0:
                break
        _draw_tag(canvas, place, label, BY_NAME[cell.class_name].colour, letters)
        x0, y0, x1, y1 = place
        taken[y0:y1, x0:x1] = LABEL_SHOWN
    picture[:] = np.asarray(canvas)


def _cells_shown(picture: RGBImage, cells: tuple[Cell, ...], zoom: int) -> NDArray[np.uint8]:
    shown = np.zeros(picture.shape[:2], np.uint8)
    for cell in cells:
        x0, y0, x1, y1 = (zoom * edge for edge in cell.box)
        shown[y0:y1, x0:x1][(cell.mask > 0).repeat(zoom, 0).repeat(zoom, 1)] = CELL_SHOWN
    return shown


def _tag_size(label: str, letters: Typeface) -> tuple[int, int]:
    return round(letters.width(label) + letters.size * 0.6), round(letters.size * 1.4)


def _best_place(cell: Cell, taken: NDArray[np.uint8], zoom: int, tag: tuple[int, int]) -> Rectangle:
    height, width = taken.shape
    wide, high = min(tag[0], width), min(tag[1], height)
    x0, y0, x1, y1 = cell.box
    places = []
    for left, top in _corners((x0 * zoom, y0 * zoom, x1 * zoom, y1 * zoom), wide, high):
        x, y = min(max(left, 0), width - wide), min(max(top, 0), height - high)
        places.append((x, y, x + wide, y + high))
    return min(places, key=lambda place: _hidden(taken, place))  # of equals the first, which _corners likes better


def _hidden(taken: NDArray[np.uint8], place: Rectangle) -> int:
    x0, y0, x1, y1 = place
    return int(taken[y0:y1, x0:x1].sum())


def _corners(box: Rectangle, wide: int, high: int) -> Iterator[tuple[int, int]]:
    """Propose where a tag could start around a box: above and below, then beside, then the same farther off."""
    x0, y0, x1, y1 = box
    for gap in (4, high):
        for top in (y0 - high - gap, y1 + gap):
            for left in ((x0 + x1 - wide) // 2, x0, x1 - wide):
                yield left, top
        for left in (x1 + gap, x0 - wide - gap):
            for top in ((y0 + y1 - high) // 2, y0, y1 - high):
                yield left, top


def _draw_tag(canvas: Image.Image, place: Rectangle, label: str, colour: Colour, letters: Typeface) -> None:
    x0, y0, x1, y1 = place
    ImageDraw.Draw(canvas).rounded_rectangle((x0, y0, x1 - 1, y1 - 1), (y1 - y0) // 5, colour)
    letters.write(canvas, ((x0 + x1) / 2, (y0 + y1) / 2), label, text_colour(colour), "mm")
