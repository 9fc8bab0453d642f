"""overlay.png: the slide with its cells outlined and named."""

from __future__ import annotations

from pathlib import Path

from wbc_cli.cells import SlideResult
from wbc_cli.classes import BY_NAME
from wbc_cli.products.drawing import View, counted, draw_cell, stacked
from wbc_cli.products.labels import draw_labels
from wbc_cli.products.legend import legend
from wbc_cli.products.mosaic import mosaic
from wbc_cli.products.png import write_png
from wbc_cli.slides.reader import RGBImage, SlideReader

LARGEST_WHOLE = 2560  # above, a screen that shows the whole picture shows no cell legibly
LEGIBLE = 640  # smaller pictures are enlarged to about this
LARGEST_ZOOM = 16
NARROWEST = 640  # the legend needs as much


def write_overlay(result: SlideResult, reader: SlideReader, path: Path) -> None:
    """Write the overlay: the whole picture up to 2560 pixels a side, else a map of the slide and a mosaic of its cells.

    Raises:
        SlideError: a region cannot be decoded.
        OSError: the disk is full or read-only.
    """
    whole = max(result.width, result.height) <= LARGEST_WHOLE
    write_png(_whole_picture(result, reader) if whole else mosaic(result, reader), path)


def _whole_picture(result: SlideResult, reader: SlideReader) -> RGBImage:
    longest = max(result.width, result.height)
    zoom = min(LARGEST_ZOOM, max(1, round(LEGIBLE / longest)))
    size = min(28, max(16, longest * zoom // 70))
    view = View(0, 0, result.width, result.height, zoom)
    picture = view.read(reader)
    for cell in result.cells:
        draw_cell(picture, view, cell, BY_NAME[cell.class_name].colour, size // 6)
    draw_labels(picture, result.cells, zoom, size)
    title = f"{result.name}: {counted(len(result.cells))}"
    width, text = max(picture.shape[1], NARROWEST), max(16, size * 4 // 5)
    return stacked([picture, legend(result, title, width, text, zoom / result.scale.um_per_px)])
