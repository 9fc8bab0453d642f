"""A large slide on one page: a map of where its cells lie, and windows around some of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from wbc_cli.cells import Cell, SlideResult
from wbc_cli.classes import BY_NAME
from wbc_cli.products.drawing import View, cell_label, counted, draw_cell, stacked
from wbc_cli.products.legend import legend
from wbc_cli.products.lettering import FAINT, INK, PAPER, typeface
from wbc_cli.products.selection import sample
from wbc_cli.slides.reader import RGBImage, SlideReader

WIDTH = 1600
MAP_HEIGHT = 900
COLUMNS = 8
MAX_WINDOWS = 56  # windows: seven full rows
PANEL = WIDTH // COLUMNS
WINDOW = PANEL - 12
CAPTION = 36
FIELD_UM = 25.0  # one scale for all windows, so that sizes compare
HALO: dict[str, Any] = {"stroke_width": 2, "stroke_fill": PAPER}


def mosaic(result: SlideResult, reader: SlideReader) -> RGBImage:
    """Draw a page 1600 pixels wide: map, legend, and at most 56 windows (those to review first, some of every class).

    Raises:
        SlideError: a region cannot be decoded.
    """
    chosen = sample(result.cells, MAX_WINDOWS)
    windows = [_row(result, reader, chosen[i : i + COLUMNS]) for i in range(0, len(chosen), COLUMNS)]
    title = f"{result.name}: {counted(len(result.cells))}"
    if len(chosen) < len(result.cells):
        title += f", windows on {len(chosen)} of them (those to review first, and some of every class)"
    strip = legend(result, title, WIDTH, 20, WINDOW / FIELD_UM)
    return stacked([_map(result, reader, {cell.id for cell in chosen}), strip, *windows])


def _map(result: SlideResult, reader: SlideReader, shown: set[int]) -> RGBImage:
    """Draw the slide at a glance, a dot a cell, with the numbers of the cells that have a window below."""
    scale = min(WIDTH / result.width, MAP_HEIGHT / result.height)
    canvas = Image.fromarray(View(0, 0, result.width, result.height, scale).read(reader))
    draw, digits = ImageDraw.Draw(canvas), typeface(13).font
    for cell in result.cells:
        x, y = cell.x * scale, cell.y * scale
        draw.circle((x, y), 5, BY_NAME[cell.class_name].colour, PAPER, 1)
        if cell.id in shown:
            right = x + 45 < canvas.width
            draw.text((x + 8 if right else x - 8, y), str(cell.id), INK, digits, "lm" if right else "rm", **HALO)
    return np.array(canvas)


def _row(result: SlideResult, reader: SlideReader, cells: list[Cell]) -> RGBImage:
    canvas = Image.new("RGB", (WIDTH, PANEL + CAPTION), PAPER)
    for column, cell in enumerate(cells):
        left = column * PANEL + (PANEL - WINDOW) // 2
        canvas.paste(Image.fromarray(_window(result, reader, cell)), (left, 0))
        typeface(13).write(canvas, (left, WINDOW + 4), cell_label(cell), INK, "la")
        typeface(12).write(canvas, (left, WINDOW + 21), " ".join((f"cell {cell.id}", *cell.flags)), FAINT, "la")
    return np.array(canvas)


def _window(result: SlideResult, reader: SlideReader, cell: Cell) -> RGBImage:
    x0, y0, x1, y1 = cell.box
    side = max(FIELD_UM / result.scale.um_per_px, 1.1 * max(x1 - x0, y1 - y0))
    view = View.square((x0 + x1 - side) / 2, (y0 + y1 - side) / 2, side, WINDOW)
    picture = view.read(reader)
    draw_cell(picture, view, cell, BY_NAME[cell.class_name].colour, 2)
    return picture
