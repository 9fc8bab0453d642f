"""explain.png: a sheet with a row a cell that shows what its class rests on."""

from __future__ import annotations

import textwrap
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from wbc_cli.cells import Cell, SlideResult
from wbc_cli.classes import BY_NAME, CLASSES
from wbc_cli.morphology import describe
from wbc_cli.products.drawing import NOTICE, View, cell_label, counted, draw_cell
from wbc_cli.products.lettering import FAINT, INK, PAPER, typeface
from wbc_cli.products.png import write_png
from wbc_cli.products.selection import needs_review, review_order
from wbc_cli.slides.reader import RGBImage, SlideReader

MAX_ROWS = 24  # rows that a person can go through on one sheet
PANEL = 168
GAP = 12
ROW = PANEL + GAP
HEAD = 112
BARS_AT = 3 * (PANEL + GAP) + 2 * GAP
BARS_NAME = 150
BARS_LENGTH = 150
FIGURES_AT = BARS_AT + BARS_NAME + BARS_LENGTH + 64
WIDTH = FIGURES_AT + 336
LOOK_LETTERS, LOOK_LINES = 50, 3
WARNING = (180, 30, 30)
FAINTEST, DENSEST = 0.2, 0.75  # how much a map hides of the picture where it is 0 and 1


def write_explain(result: SlideResult, reader: SlideReader, path: Path) -> None:
    """Write the sheet: at most 24 cells, those that need review first, then the least confident.

    A row shows the window that the network saw, the saliency prior and Grad-CAM over it, the probability of every
    class, and the figures. A slide without cells gets a sheet that says so.

    Raises:
        SlideError: a window cannot be decoded.
        OSError: the disk is full or read-only.
    """
    cells = review_order(result.cells)[:MAX_ROWS]
    sheet = Image.new("RGB", (WIDTH, HEAD + max(1, len(cells)) * ROW), PAPER)
    _draw_title(sheet, result, len(cells))
    if cells:
        _draw_column_heads(sheet, cells[0].explanation.side * result.scale.um_per_px)
    else:
        typeface(20).write(sheet, (WIDTH / 2, HEAD + ROW / 2), "No cells were found on this slide.", INK, "mm")
    for i, cell in enumerate(cells):
        top = HEAD + i * ROW
        for column, panel in enumerate(_panels(reader, cell)):
            sheet.paste(Image.fromarray(panel), (GAP + column * (PANEL + GAP), top))
        _draw_bars(sheet, cell, top)
        _draw_figures(sheet, cell, top)
    write_png(np.asarray(sheet), path)


def _draw_title(sheet: Image.Image, result: SlideResult, shown: int) -> None:
    bold = typeface(22, bold=True)
    title = f"{result.name}: why these classes" + (f", {shown} of {counted(len(result.cells))}" if shown else "")
    bold.write(sheet, (GAP, 24), bold.shortened(title, WIDTH - 2 * GAP), INK, "lm")
    waiting = sum(map(needs_review, result.cells))
    order = f"{waiting} to review first, then the least confident. " if waiting else "Least confident first. "
    typeface(14).write(sheet, (GAP, 52), (order if shown else "") + NOTICE, FAINT, "lm")


def _draw_column_heads(sheet: Image.Image, side_um: float) -> None:
    names = (f"Window, {side_um:.0f} µm", "Saliency prior", "Grad-CAM", "Probability of each class", "Figures")
    lefts = (*(GAP + i * (PANEL + GAP) for i in range(3)), BARS_AT, FIGURES_AT)
    for name, left in zip(names, lefts, strict=True):
        typeface(15, bold=True).write(sheet, (left, HEAD - 18), name, INK, "lm")
    ramp = np.tile(np.linspace(0, 1, 36, dtype=np.float32), (10, 1))
    for left in lefts[1:3]:  # the colours of the maps, 0 to 1
        right = left + PANEL
        sheet.paste(Image.fromarray(_viridis(ramp)), (right - 36, HEAD - 22))
        typeface(10).write(sheet, (right - 36, HEAD - 24), "0", FAINT, "ls")
        typeface(10).write(sheet, (right, HEAD - 24), "1", FAINT, "rs")


def _panels(reader: SlideReader, cell: Cell) -> list[RGBImage]:
    why = cell.explanation
    view = View.square(why.x, why.y, why.side, PANEL)
    window = view.read(reader)
    outlined = window.copy()
    draw_cell(outlined, view, cell, BY_NAME[cell.class_name].colour, 2)
    maps = [window.copy() for _ in range(2)]
    rows, columns = view.on_slide(reader)
    for picture, heat in zip(maps, (why.saliency, why.cam), strict=True):
        picture[rows, columns] = _heated(window, heat)[rows, columns]
        cv2.polylines(picture, view.outlines(cell.mask > 0, *cell.box[:2]), True, PAPER, 1, cv2.LINE_AA)
    return [outlined, *maps]


def _heated(window: RGBImage, heat: NDArray[np.float32]) -> RGBImage:
    """Lay a map from 0 to 1 over the grey picture, denser where it is higher."""
    size = window.shape[1::-1]
    level = cv2.resize(np.clip(heat, 0, 1), size, interpolation=cv2.INTER_LINEAR).astype(np.float32, copy=False)
    density = (FAINTEST + (DENSEST - FAINTEST) * level)[..., None]
    grey = cv2.cvtColor(window, cv2.COLOR_RGB2GRAY)[..., None]
    blend: RGBImage = np.rint(density * _viridis(level) + (1 - density) * grey).astype(np.uint8)
    return blend


def _viridis(level: NDArray[np.float32]) -> RGBImage:
    """Colour 0 to 1 so that colour-blind eyes and grey print can tell it apart."""
    bgr = cv2.applyColorMap(np.rint(255 * level).astype(np.uint8), cv2.COLORMAP_VIRIDIS)
    return np.ascontiguousarray(bgr[..., ::-1], np.uint8)


def _draw_bars(sheet: Image.Image, cell: Cell, top: int) -> None:
    draw, letters = ImageDraw.Draw(sheet), typeface(13)
    step, left = PANEL / len(CLASSES), BARS_AT + BARS_NAME
    for i, (kind, probability) in enumerate(zip(CLASSES, cell.probabilities, strict=True)):
        y = top + (i + 0.5) * step
        letters.write(sheet, (left - 8, y), kind.label, INK, "rm")
        draw.rectangle((left, y - 6, left + BARS_LENGTH, y + 6), (238, 238, 238))
        draw.rectangle((left, y - 6, left + BARS_LENGTH * float(probability), y + 6), kind.colour)
        letters.write(sheet, (left + BARS_LENGTH + 8, y), f"{probability:.2f}", INK, "lm")


def _agreement(cell: Cell) -> str:
    shifted = "" if cell.cam_stability is None else f", {cell.cam_stability:.2f} with itself shifted"
    return f"r {cell.cam_saliency:.2f} with the prior{shifted}"


def _draw_figures(sheet: Image.Image, cell: Cell, top: int) -> None:
    typeface(16, bold=True).write(sheet, (FIGURES_AT, top + 12), cell_label(cell), INK, "lm")
    figures = (
        f"cell {cell.id} at {cell.x:.0f}, {cell.y:.0f}",
        f"area {cell.area_um2:.0f} µm², nucleus {cell.nucleus_area_um2:.0f} µm²",
        f"saliency in cell {cell.saliency:.2f}",
        f"Grad-CAM energy in cell {cell.cam_in_cell:.0%}",
        _agreement(cell),
    )
    for i, figure in enumerate(figures):
        typeface(14).write(sheet, (FIGURES_AT, top + 32 + 18 * i), figure, INK, "lm")
    look = textwrap.wrap(describe(cell.morphology), LOOK_LETTERS)
    for i, line in enumerate(look[:LOOK_LINES]):
        typeface(12).write(sheet, (FIGURES_AT, top + 122 + 14 * i), line, FAINT, "lm")
    if cell.flags:
        warning = f"! {', '.join(cell.flags)}"
        typeface(14, bold=True).write(sheet, (FIGURES_AT, top + 164), warning, WARNING, "lm")
