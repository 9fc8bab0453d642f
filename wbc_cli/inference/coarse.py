"""The coarse pass: the saliency prior over a whole slide, which says where to look closely."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from wbc_cli.inference.bands import MARGIN, Band, Grid, bands, read_coarse
from wbc_cli.model.saliency import (
    COARSE_UM_PER_PX,
    GLASS,
    STRIDE,
    FieldStatistics,
    field_statistics,
    prior_input,
    stain_density,
)
from wbc_cli.parallel import Tasks
from wbc_cli.slides.fault_tolerant import gaps_of
from wbc_cli.slides.reader import SlideReader
from wbc_cli.slides.unreadable_tiles import Box

_SAMPLES, _SAMPLE = 4, 128  # squares a side, and their side in coarse pixels
_FAINTEST = 0.5  # density; no labelled cell of the training data stays below it throughout
_APART_UM = 5.0  # candidates nearer than this are one cell, seen in one window
_LEAST = 0.1  # saliency of a place that is worth a look at all
_ANYWAY = 3
_SMOOTH = 0.8  # map pixels: single ones are seldom cells
_AROUND = 10  # map pixels around a place that is looked at again
_AT_ONCE = 32  # of such places: memory does not grow with their number
_BEGINNINGS = [(down, right) for down in range(STRIDE) for right in range(STRIDE)]
_NEIGHBOURS = np.ones((3, 3), np.uint8)

Saliency = Callable[[NDArray[np.float32]], NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class SlideColours:
    """What the densities of a slide are measured against.

    Attributes:
        glass: uint8 [3], its colour where nothing lies.
        statistics: of the densities of what is stained.
    """

    glass: NDArray[np.uint8]
    statistics: FieldStatistics


def slide_colours(reader: SlideReader, um_per_px: float) -> SlideColours:
    """Measure the colours of a slide on squares spread over it.

    Raises:
        SlideError: a region cannot be read.
    """
    squares = _squares(reader, um_per_px)
    glass = _glass(squares)
    # As one picture one pixel high: statistics care for pixels and not for where they lie.
    pixels = np.concatenate([square.reshape(-1, 3) for square in squares])
    density = torch.from_numpy(cv2.LUT(pixels[None], density_table(glass)))
    return SlideColours(glass, field_statistics(density.permute(0, 2, 1)[..., None]))


def slide_glass(reader: SlideReader, um_per_px: float) -> NDArray[np.uint8]:
    """The colour of a slide where nothing lies, uint8 [3], from squares spread over it.

    Raises:
        SlideError: a region cannot be read.
    """
    return _glass(_squares(reader, um_per_px))


def _squares(reader: SlideReader, um_per_px: float) -> list[NDArray[np.uint8]]:
    """Squares spread over a slide at the coarse scale, those that can be read where some can."""
    side = min(round(_SAMPLE * COARSE_UM_PER_PX / um_per_px), reader.width, reader.height)
    downsample = COARSE_UM_PER_PX / um_per_px
    squares = {
        Box(x, y, x + side, y + side): read_coarse(reader, x, y, side, side, downsample)
        for x in _spread(reader.width, side)
        for y in _spread(reader.height, side)
    }
    readable = [square for box, square in squares.items() if not gaps_of(reader).touch(box)]
    return readable or list(squares.values())


def _glass(squares: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    counts = np.zeros((3, 256), np.int64)
    for square in squares:
        counts += np.stack([np.bincount(square[..., c].ravel(), minlength=256) for c in range(3)])
    shares = counts.cumsum(axis=1) / counts.sum(axis=1, keepdims=True)
    return np.asarray((shares >= GLASS).argmax(axis=1), np.uint8)


def candidates(
    reader: SlideReader,
    saliency: Saliency,
    um_per_px: float,
    colours: SlideColours,
    threshold: float,
    tasks: Tasks,
) -> NDArray[np.float64]:
    """Where the prior sees white cells.

    The few most salient places are taken even where they stay below the threshold: on a slide they cost nothing, and
    a crop of one cell has little glass to tell the stain by.

    Args:
        reader: the slide.
        saliency: the prior, as `Engine.saliency`.
        um_per_px: scale of the slide's level 0.
        colours: from `slide_colours`.
        threshold: least saliency, 0 to 1; places from half of it on are looked at again before they are left out.
        tasks: reads and looks at blocks.

    Returns:
        float [n, 2], x and y in level-0 pixels, from the most salient to the least.

    Raises:
        SlideError: a region cannot be read.
    """
    grid = Grid.of(reader, um_per_px)

    def look(band: Band, left: int) -> NDArray[np.float64]:
        return _look(band, left, grid, saliency, colours, threshold)

    found = [np.empty((0, 3))]
    for band in bands(reader, grid, tasks):
        looks = [tasks.submit(look, band, left) for left in range(0, band.rows.shape[1], grid.side)]
        found += [peaks.result() for peaks in looks]
    return _apart(np.concatenate(found), _APART_UM / um_per_px, threshold)[:, :2]


def _look(
    band: Band, left: int, grid: Grid, saliency: Saliency, colours: SlideColours, threshold: float
) -> NDArray[np.float64]:
    """Peaks of the saliency in one block of a band: float [n, 3], x, y in level-0 pixels and saliency."""
    start = max(0, left - MARGIN)
    block = band.rows[:, start : left + grid.side + MARGIN]
    pixels = prior_pixels(block, colours)
    if pixels[..., :3].max(initial=0) < _FAINTEST:
        return np.empty((0, 3))
    peaks = _peaks(saliency(pixels[None])[0])
    x = (peaks[:, 0] + 0.5) * STRIDE + start
    y = (peaks[:, 1] + 0.5) * STRIDE + band.top
    # Places of the last half pixel may lie a little beyond the slide, and are its own, too.
    own = (x >= left) & (x < left + grid.side) & (y >= band.first) & (y < band.first + grid.side)
    x, y, peaks = x[own], y[own], peaks[own]
    # Of 563 places above the threshold, in slides and fields, none fell below it when looked at again.
    doubtful = np.flatnonzero((peaks[:, 2] >= threshold / 2) & (peaks[:, 2] < threshold))
    peaks[doubtful, 2] = _again(pixels, peaks[doubtful, :2], saliency)
    return np.column_stack([x * grid.unit, y * grid.unit, peaks[:, 2]])


def density_table(glass: NDArray[np.uint8]) -> NDArray[np.float32]:
    """`stain_density` of every 8-bit value against the glass, float32 [1, 256, 3], for cv2.LUT."""
    light = torch.arange(256, dtype=torch.float32)[:, None] / 255
    table: NDArray[np.float32] = stain_density(light, torch.from_numpy(glass).float() / 255)[None].numpy()
    return table


def prior_pixels(rgb: NDArray[np.uint8], colours: SlideColours) -> NDArray[np.float32]:
    """What the prior sees of coarse pixels, float32 [h, w, 6], see `saliency.prior_input`."""
    density = torch.from_numpy(density_table(colours.glass)).permute(0, 2, 1)[..., None]
    both = prior_input(density, colours.statistics)[0, :, :, 0].T.numpy()
    pixels = np.empty((*rgb.shape[:2], 6), np.float32)
    for first in (0, 3):  # a table has as many channels as the picture
        pixels[..., first : first + 3] = cv2.LUT(rgb, np.ascontiguousarray(both[None, :, first : first + 3]))
    return pixels


def _spread(length: int, side: int) -> list[int]:
    """Where squares of a side begin that lie spread over a length, few, or overlapping where they cover all of it."""
    count = min(_SAMPLES, -(-length // side))
    return [int(start) for start in np.linspace(0, length - side, count)]


def _peaks(saliency: NDArray[np.float32]) -> NDArray[np.float64]:
    """Local maxima: float [n, 3], column, row (map pixels) and saliency, smoothed."""
    smooth = cv2.GaussianBlur(saliency, (0, 0), _SMOOTH, borderType=cv2.BORDER_REPLICATE)
    rows, columns = np.nonzero((smooth == cv2.dilate(smooth, _NEIGHBOURS)) & (smooth >= _LEAST))
    return np.column_stack([columns, rows, smooth[rows, columns]]).astype(np.float64)


def _again(pixels: NDArray[np.float32], places: NDArray[np.float64], saliency: Saliency) -> NDArray[np.float32]:
    """Saliency of places [n, 2] (column and row of the map) that does not hang on how their pixels fall.

    The prior gives one answer for STRIDE x STRIDE coarse pixels, and another when the picture begins one pixel further.
    The answers of all such beginnings are put together: a map of all coarse pixels, smoothed. Of what only one of them
    sees, most is no cell.
    """
    if not len(places):
        return np.empty(0, np.float32)
    reach, side = STRIDE * _AROUND, 2 * STRIDE * _AROUND
    padded = np.pad(pixels, ((reach, reach + STRIDE), (reach, reach + STRIDE), (0, 0)), mode="edge")
    patches = sliding_window_view(padded, (side, side), axis=(0, 1))
    middle = slice(side // 2 - STRIDE, side // 2 + 2 * STRIDE)
    found = []
    for some in np.array_split((places * STRIDE).astype(int), -(-len(places) // _AT_ONCE)):
        # A pass for all beginnings: on such small pictures, what a pass costs is not its pixels.
        begun = np.stack([patches[y + down, x + right] for x, y in some for down, right in _BEGINNINGS])
        answers = saliency(begun.transpose(0, 2, 3, 1)).reshape(len(some), STRIDE, STRIDE, side // STRIDE, -1)
        maps = answers.transpose(0, 3, 1, 4, 2).reshape(len(some), side, side)
        found += [cv2.GaussianBlur(whole, (0, 0), 1.0)[middle, middle].max() for whole in maps]
    return np.array(found, np.float32)


def _apart(points: NDArray[np.float64], distance: float, threshold: float) -> NDArray[np.float64]:
    """Candidates [n, 3] from the most salient on, without those that lie nearer than `distance` to one before.

    Those below the threshold are left out as soon as there are the few that are taken anyway.
    """
    order = np.lexsort((-points[:, 2], points[:, 0], points[:, 1], -points[:, 2].round(4)))
    cells: dict[tuple[int, int], list[tuple[float, float]]] = {}
    kept: list[tuple[float, float, float]] = []
    for x, y, saliency in points[order].tolist():
        if saliency < threshold and len(kept) >= _ANYWAY:
            continue
        column, row = int(x // distance), int(y // distance)
        near = [p for i in (-1, 0, 1) for j in (-1, 0, 1) for p in cells.get((column + i, row + j), ())]
        if all((x - px) ** 2 + (y - py) ** 2 >= distance**2 for px, py in near):
            cells.setdefault((column, row), []).append((x, y))
            kept.append((x, y, saliency))
    return np.array(kept).reshape(-1, 3)
