"""The metrics that a slide's quality is judged by, measured around a few of its cells."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from wbc_cli.cells import ATYPICAL, NUCLEUS, Cell, Quality
from wbc_cli.classes import OTHER
from wbc_cli.inference.windows import Window
from wbc_cli.slides.reader import RGBImage, SlideReader

_MAX_CELLS = 16  # cells that are measured: the median of so many is steady, and reading them again costs little
_MIN_CELLS = 20  # cells that a share is taken of: of fewer it says little
_NEAR_MARGIN_UM = 2.0  # of a cell: its own outline is often its sharpest edge
_SIGMAS_UM = (0.4, 0.8, 1.6)  # lobes and coarse granules are 1 um wide
_MIN_CONTRAST = 0.005  # of the background: where there is less, there is nothing but noise
_MIN_INTENSITY = 0.01 * 255  # of the light: keeps the logarithm from running away in the dark
_CLIPPED_INTENSITY = 254
_MIN_DENSITY = 1e-3  # density: keeps the division from zero
_FAR_MARGIN_UM = 10.0  # of a cell: room for one more on every side
# Of a nucleus's density: where it is as dark, there is a nucleus, whether or not a cell was found there.
_NUCLEAR_DENSITY_SHARE = 0.5

T = TypeVar("T")


def measure_quality(
    reader: SlideReader,
    cells: Sequence[Cell],
    windows: Sequence[Window],
    um_per_px: float,
    background: NDArray[np.uint8],
) -> Quality:
    """Measure a slide on a few of its cells; where it has none, on a few of the windows that were searched.

    Which ones depends on the cells and windows alone, so that a slide has the same metrics whatever else is analysed.

    Args:
        reader: the open slide.
        cells: all of them, in their order; platelets and dirt are passed over.
        windows: those of the search, in its order.
        um_per_px: micrometres a level-0 pixel.
        background: uint8 [3], the colour of the slide where nothing lies.

    Raises:
        SlideError: a region cannot be read.
    """
    cells = [cell for cell in cells if cell.class_name != OTHER]
    near, far = (round(margin / um_per_px) for margin in (_NEAR_MARGIN_UM, _FAR_MARGIN_UM))
    enough = len(cells) >= _MIN_CELLS
    focus, clipped, green, colour, hue, crowding = [], [], [], [], [], []
    for cell in _spread(cells):
        rgb, mask = _around(reader, cell, near)
        focus.append(sharpness(rgb[..., 1], um_per_px, float(background[1])))
        clipped.append(float(np.mean(rgb[mask > 0] >= _CLIPPED_INTENSITY)))
        if (mask == NUCLEUS).any():
            nucleus = np.median(_density(rgb[mask == NUCLEUS], background), axis=0)
            green.append(float(nucleus[1]))
            colour.append(1 - max(0.0, nucleus.min()) / max(_MIN_DENSITY, nucleus.max()))
            hue.append(float(nucleus[0] - nucleus[2]) / max(_MIN_DENSITY, float(nucleus.max())))
            if enough:
                crowding.append(_nuclear_share(_around(reader, cell, far)[0], float(nucleus[1]), background))
    if not cells:
        squares = (_square(reader, window) for window in _spread(windows))
        focus = [sharpness(rgb[..., 1], um_per_px, float(background[1])) for rgb in squares]
    return Quality(
        focus=_median([figure for figure in focus if figure is not None]),
        background=round(float(np.mean(background)), 1),
        clipped=_median(clipped),
        nucleus=_median(green),
        colour=_median(colour),
        hue=_median(hue),
        crowding=_median(crowding),
        atypical=round(sum(ATYPICAL in cell.flags for cell in cells) / len(cells), 3) if enough else None,
        cells_per_mm2=round(len(cells) / (reader.width * reader.height * um_per_px**2) * 1e6, 1),
    )


def sharpness(grey: NDArray[np.uint8], um_per_px: float, background: float) -> float | None:
    """Divide the contrast between 0.4 and 0.8 um by that between 0.8 and 1.6 um.

    Both by differences of Gaussians (Marr and Hildreth, 1980). The ratio hangs on neither stain nor exposure, and
    hardly on noise, which such wide filters average out: 0.7 at sharp edges, 0.25 at those blurred far beyond 1.6 um.

    Args:
        grey: uint8 [h, w], one channel.
        um_per_px: micrometres a pixel.
        background: the value where nothing lies.

    Returns:
        The ratio; None where there is no contrast.
    """
    fine, middle, coarse = (
        cv2.GaussianBlur(grey.astype(np.float32), (0, 0), sigma / um_per_px, borderType=cv2.BORDER_REPLICATE)
        for sigma in _SIGMAS_UM
    )
    contrast = float(np.std(middle - coarse))
    return float(np.std(fine - middle)) / contrast if contrast > _MIN_CONTRAST * background else None


def _around(reader: SlideReader, cell: Cell, margin: int) -> tuple[RGBImage, NDArray[np.uint8]]:
    """Read a cell with a margin of the slide: level-0 pixels, uint8 [h, w, 3], and its mask, uint8 [h, w]."""
    x0, y0, x1, y1 = cell.box
    left, top = max(0, x0 - margin), max(0, y0 - margin)
    right, bottom = min(reader.width, x1 + margin), min(reader.height, y1 + margin)
    mask = np.pad(cell.mask, ((y0 - top, bottom - y1), (x0 - left, right - x1)))
    return reader.read(left, top, right - left, bottom - top), mask


def _square(reader: SlideReader, window: Window) -> RGBImage:
    """Read what of a window lies on the slide, uint8 [h, w, 3] in level-0 pixels."""
    left, top = max(0, window.x), max(0, window.y)
    right, bottom = min(reader.width, window.x + window.side), min(reader.height, window.y + window.side)
    return reader.read(left, top, right - left, bottom - top)


def _spread(items: Sequence[T]) -> list[T]:
    """Choose a few, from the first to the last."""
    return [items[i] for i in np.linspace(0, len(items) - 1, min(len(items), _MAX_CELLS)).round().astype(int)]


def _density(rgb: NDArray[np.uint8], background: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Compute optical densities, float64 of one shape, against the background (natural logarithm; Beer-Lambert)."""
    density: NDArray[np.float64] = np.log((background + _MIN_INTENSITY) / (rgb + _MIN_INTENSITY))
    return density


def _nuclear_share(rgb: RGBImage, nucleus: float, background: NDArray[np.uint8]) -> float:
    """Compute the share of a picture that is about as dense in green as a nucleus."""
    return float(np.mean(_density(rgb, background)[..., 1] > _NUCLEAR_DENSITY_SHARE * nucleus))


def _median(figures: Sequence[float]) -> float | None:
    return round(median(figures), 3) if figures else None
