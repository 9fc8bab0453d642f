"""The figures that a slide's quality is judged by, measured around a few of its cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from wbc_cli.cells import ATYPICAL, NUCLEUS, Cell, Quality
from wbc_cli.classes import OTHER
from wbc_cli.inference.windows import Place
from wbc_cli.slides.reader import RGBImage, SlideReader

_SAMPLE = 16  # cells that are measured: the median of so many is steady, and reading them again costs little
_FEWEST = 20  # cells that a share is taken of: of fewer it says little
_NEAR_UM = 2.0  # of a cell: its own outline is often its sharpest edge
_BANDS_UM = (0.4, 0.8, 1.6)  # lobes and coarse granules are 1 um wide
_LEAST_CONTRAST = 0.005  # of the glass: where there is less, there is nothing but noise
_LEAST = 0.01 * 255  # of the light: keeps the logarithm from running away in the dark
_WHITE = 254
_PALEST = 1e-3  # density: keeps the division from zero
_FAR_UM = 10.0  # of a cell: room for one more on every side
_NUCLEAR = 0.5  # of a nucleus's density: where it is as dark, there is a nucleus, whether or not a cell was found there

T = TypeVar("T")


def measure(
    reader: SlideReader,
    cells: Sequence[Cell],
    places: Sequence[Place],
    um_per_px: float,
    glass: NDArray[np.uint8],
) -> Quality:
    """Measure a slide on a few of its cells; where it has none, on a few of the places that were looked at.

    Which ones hangs on the cells and places alone, so that a slide has the same figures whatever else is analysed.

    Args:
        reader: the open slide.
        cells: all of them, in their order; platelets and dirt are passed over.
        places: where the search looked, in its order.
        um_per_px: scale of the slide.
        glass: uint8 [3], its colour where nothing lies.

    Raises:
        SlideError: a region cannot be read.
    """
    cells = [cell for cell in cells if cell.class_name != OTHER]
    near, far = (round(margin / um_per_px) for margin in (_NEAR_UM, _FAR_UM))
    enough = len(cells) >= _FEWEST
    focus, clipped, green, colour, hue, crowding = [], [], [], [], [], []
    for cell in _spread(cells):
        rgb, mask = _around(reader, cell, near)
        focus.append(sharpness(rgb[..., 1], um_per_px, float(glass[1])))
        clipped.append(float(np.mean(rgb[mask > 0] >= _WHITE)))
        if (mask == NUCLEUS).any():
            nucleus = np.median(_density(rgb[mask == NUCLEUS], glass), axis=0)
            green.append(float(nucleus[1]))
            colour.append(1 - max(0.0, nucleus.min()) / max(_PALEST, nucleus.max()))
            hue.append(float(nucleus[0] - nucleus[2]) / max(_PALEST, float(nucleus.max())))
            if enough:
                wide, _ = _around(reader, cell, far)
                crowding.append(float(np.mean(_density(wide, glass)[..., 1] > _NUCLEAR * nucleus[1])))
    if not cells:
        squares = (_square(reader, place) for place in _spread(places))
        focus = [sharpness(rgb[..., 1], um_per_px, float(glass[1])) for rgb in squares]
    return Quality(
        focus=_median([figure for figure in focus if figure is not None]),
        glass=round(float(np.mean(glass)), 1),
        clipped=_median(clipped),
        nucleus=_median(green),
        colour=_median(colour),
        hue=_median(hue),
        crowding=_median(crowding),
        atypical=round(sum(ATYPICAL in cell.flags for cell in cells) / len(cells), 3) if enough else None,
        cells_per_mm2=round(len(cells) / (reader.width * reader.height * um_per_px**2) * 1e6, 1),
    )


def sharpness(grey: NDArray[np.uint8], um_per_px: float, glass: float) -> float | None:
    """Contrast between 0.4 and 0.8 um over that between 0.8 and 1.6 um.

    Both by differences of Gaussians (Marr and Hildreth, 1980). The ratio hangs on neither stain nor exposure, and
    hardly on noise, which such wide filters average out: 0.7 at sharp edges, 0.25 at those blurred far beyond 1.6 um.

    Args:
        grey: [h, w], one channel.
        um_per_px: its scale.
        glass: its value where nothing lies.

    Returns:
        None where there is nothing to see.
    """
    fine, middle, coarse = (
        cv2.GaussianBlur(grey.astype(np.float32), (0, 0), sigma / um_per_px, borderType=cv2.BORDER_REPLICATE)
        for sigma in _BANDS_UM
    )
    contrast = float(np.std(middle - coarse))
    return float(np.std(fine - middle)) / contrast if contrast > _LEAST_CONTRAST * glass else None


def _around(reader: SlideReader, cell: Cell, margin: int) -> tuple[RGBImage, NDArray[np.uint8]]:
    """A cell with as much of the slide as lies around it: level-0 pixels [h, w, 3] and its mask [h, w]."""
    x0, y0, x1, y1 = cell.box
    left, top = max(0, x0 - margin), max(0, y0 - margin)
    right, bottom = min(reader.width, x1 + margin), min(reader.height, y1 + margin)
    mask = np.pad(cell.mask, ((y0 - top, bottom - y1), (x0 - left, right - x1)))
    return reader.read(left, top, right - left, bottom - top), mask


def _square(reader: SlideReader, place: Place) -> RGBImage:
    """What of a place lies on the slide."""
    left, top = max(0, place.x), max(0, place.y)
    right, bottom = min(reader.width, place.x + place.side), min(reader.height, place.y + place.side)
    return reader.read(left, top, right - left, bottom - top)


def _spread(items: Sequence[T]) -> list[T]:
    """A few, from the first to the last."""
    return [items[i] for i in np.linspace(0, len(items) - 1, min(len(items), _SAMPLE)).round().astype(int)]


def _density(rgb: NDArray[np.uint8], glass: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Optical density against the glass, natural logarithm (Beer-Lambert)."""
    density: NDArray[np.float64] = np.log((glass + _LEAST) / (rgb + _LEAST))
    return density


def _median(figures: Sequence[float]) -> float | None:
    return round(float(np.median(figures)), 3) if figures else None
