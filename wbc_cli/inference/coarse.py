"""The coarse pass: the saliency prior over a whole slide, whose peaks are the candidates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from wbc_cli.inference.coarse_strips import MARGIN_PX, Grid, Strip, read_coarse, strips
from wbc_cli.model.saliency import (
    BACKGROUND_QUANTILE,
    COARSE_UM_PER_PX,
    STRIDE,
    FieldStatistics,
    field_statistics,
    prior_input,
    stain_density,
)
from wbc_cli.resources.parallel import Tasks
from wbc_cli.slides.fault_tolerant import gaps_of
from wbc_cli.slides.reader import SlideReader
from wbc_cli.slides.unreadable_tiles import Rectangle

_SAMPLES_PER_SIDE, _SAMPLE_SIDE_PX = 4, 128  # squares a side, and their side in coarse pixels
_MIN_CELL_DENSITY = 0.5  # density; no labelled cell of the training data stays below it throughout
_MIN_DISTANCE_UM = 5.0  # candidates nearer than this are one cell, seen in one window
_MIN_SALIENCY = 0.1  # of a peak
_MIN_CANDIDATES = 3
_DOUBTFUL_SHARE = 0.5  # of the threshold: what is less salient is a candidate only where there are hardly any
# Of the sure candidates: of 1,781 cells in the fields of four laboratories that their prior had not seen, five were
# doubtful only, and in the order of saliency all among as many as a tenth of the sure ones.
_MAX_DOUBTFUL = 0.1
_SMOOTHING_SIGMA_PX = 0.8  # map pixels: single ones are seldom cells
_PATCH_RADIUS_PX = 10  # map pixels around a peak whose saliency is averaged over shifts
_PATCHES_PER_PASS = 32  # memory does not grow with the number of peaks
_SHIFTS = [(down, right) for down in range(STRIDE) for right in range(STRIDE)]
_NEIGHBOURHOOD = np.ones((3, 3), np.uint8)

Saliency = Callable[[NDArray[np.float32]], NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class SlideColours:
    """The colours that the stain densities of a slide are measured against.

    Attributes:
        background: uint8 [3], the colour of the slide where nothing lies.
        statistics: of the densities of what is stained.
    """

    background: NDArray[np.uint8]
    statistics: FieldStatistics


def slide_colours(reader: SlideReader, um_per_px: float) -> SlideColours:
    """Measure the colours of a slide on squares spread over it.

    Raises:
        SlideError: a region cannot be read.
    """
    squares = _squares(reader, um_per_px)
    background = _background_colour(squares)
    # As one picture one pixel high: statistics care for pixels and not for where they lie.
    pixels = np.concatenate([square.reshape(-1, 3) for square in squares])[None]
    return SlideColours(background, field_statistics(densities(pixels, background)))


def slide_background(reader: SlideReader, um_per_px: float) -> NDArray[np.uint8]:
    """Measure the colour of a slide where nothing lies, uint8 [3], on squares spread over it.

    Raises:
        SlideError: a region cannot be read.
    """
    return _background_colour(_squares(reader, um_per_px))


def _squares(reader: SlideReader, um_per_px: float) -> list[NDArray[np.uint8]]:
    """Read squares spread over a slide at the coarse scale, and keep those that are readable where some are."""
    side = min(round(_SAMPLE_SIDE_PX * COARSE_UM_PER_PX / um_per_px), reader.width, reader.height)
    downsample = COARSE_UM_PER_PX / um_per_px
    squares = {
        Rectangle(x, y, x + side, y + side): read_coarse(reader, x, y, side, side, downsample)
        for x in _spread(reader.width, side)
        for y in _spread(reader.height, side)
    }
    readable = [square for place, square in squares.items() if not gaps_of(reader).touch(place)]
    return readable or list(squares.values())


def _background_colour(squares: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    counts = np.zeros((3, 256), np.int64)
    for square in squares:
        counts += np.stack([np.bincount(square[..., c].ravel(), minlength=256) for c in range(3)])
    shares = counts.cumsum(axis=1) / counts.sum(axis=1, keepdims=True)
    return np.asarray((shares >= BACKGROUND_QUANTILE).argmax(axis=1), np.uint8)


def candidates(
    reader: SlideReader,
    saliency: Saliency,
    um_per_px: float,
    colours: SlideColours,
    threshold: float,
    tasks: Tasks,
) -> NDArray[np.float64]:
    """Find where the prior's saliency has peaks: the candidates for white cells.

    Those that reach only half of the threshold are taken as well, the most salient first: under a stain that the prior
    has never seen cells are less salient. Up to three they are as many as reach all of it, and beyond that a tenth, so
    that the cost stays bounded. The three most salient ones are taken in any case: on a slide they cost nothing, and a
    small field has little background to tell the stain by.

    Args:
        reader: the slide.
        saliency: the prior, as `Engine.saliency`.
        um_per_px: scale of the slide's level 0.
        colours: from `slide_colours`.
        threshold: saliency of a sure candidate, 0 to 1; peaks between half of it and it are averaged over shifts.
        tasks: reads blocks and runs the prior on them.

    Returns:
        float [n, 2], x and y in level-0 pixels, from the most salient to the least.

    Raises:
        SlideError: a region cannot be read.
    """
    grid = Grid.of(reader, um_per_px)

    def block_peaks(strip: Strip, left: int) -> NDArray[np.float64]:
        return _block_peaks(strip, left, grid, saliency, colours, threshold)

    found = [np.empty((0, 3))]
    for strip in strips(reader, grid, tasks):
        blocks = [tasks.submit(block_peaks, strip, left) for left in range(0, strip.rows.shape[1], grid.side)]
        found += [peaks.result() for peaks in blocks]
    return _suppress_neighbours(np.concatenate(found), _MIN_DISTANCE_UM / um_per_px, threshold)[:, :2]


def _block_peaks(
    strip: Strip, left: int, grid: Grid, saliency: Saliency, colours: SlideColours, threshold: float
) -> NDArray[np.float64]:
    """Find the peaks of the saliency in one block of a strip: float64 [n, 3], x, y in level-0 pixels and saliency."""
    start = max(0, left - MARGIN_PX)
    block = strip.rows[:, start : left + grid.side + MARGIN_PX]
    density = densities(block, colours.background)
    if float(density.max()) < _MIN_CELL_DENSITY:
        return np.empty((0, 3))
    pixels = prior_pixels(density, colours.statistics)
    peaks = _local_maxima(saliency(pixels[None])[0])
    x = (peaks[:, 0] + 0.5) * STRIDE + start
    y = (peaks[:, 1] + 0.5) * STRIDE + strip.top
    # Peaks in the last half pixel may lie a little beyond the slide, and are its own, too.
    own = (x >= left) & (x < left + grid.side) & (y >= strip.first) & (y < strip.first + grid.side)
    x, y, peaks = x[own], y[own], peaks[own]
    # Of 563 peaks above the threshold, in slides and fields, none fell below it when averaged over shifts.
    doubtful = np.flatnonzero((peaks[:, 2] >= _DOUBTFUL_SHARE * threshold) & (peaks[:, 2] < threshold))
    peaks[doubtful, 2] = _shift_averaged_saliency(pixels, peaks[doubtful, :2], saliency)
    return np.column_stack([x * grid.unit, y * grid.unit, peaks[:, 2]])


def density_table(background: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Tabulate `stain_density` of every 8-bit value against the background, float32 [1, 256, 3], for cv2.LUT."""
    light = torch.arange(256, dtype=torch.float32)[:, None] / 255
    table: NDArray[np.float32] = stain_density(light, torch.from_numpy(background).float() / 255)[None].numpy()
    return table


def densities(rgb: NDArray[np.uint8], background: NDArray[np.uint8]) -> torch.Tensor:
    """Compute the stain densities of coarse pixels, uint8 [h, w, 3], against the background: float32 [1, 3, h, w]."""
    return torch.from_numpy(cv2.LUT(rgb, density_table(background))).permute(2, 0, 1)[None]


def prior_pixels(density: torch.Tensor, statistics: FieldStatistics) -> NDArray[np.float32]:
    """Make the prior's input as the engine takes it, float32 [h, w, INPUTS], of the `densities` of one picture."""
    return prior_input(density, statistics)[0].permute(1, 2, 0).numpy()


def _spread(length: int, side: int) -> list[int]:
    """Spread squares over a length and return where they begin; they overlap where they cover all of it."""
    count = min(_SAMPLES_PER_SIDE, -(-length // side))
    return [int(start) for start in np.linspace(0, length - side, count)]


def _local_maxima(saliency: NDArray[np.float32]) -> NDArray[np.float64]:
    """Find the local maxima of the smoothed saliency: float64 [n, 3], column, row (map pixels) and saliency."""
    smooth = cv2.GaussianBlur(saliency, (0, 0), _SMOOTHING_SIGMA_PX, borderType=cv2.BORDER_REPLICATE)
    rows, columns = np.nonzero((smooth == cv2.dilate(smooth, _NEIGHBOURHOOD)) & (smooth >= _MIN_SALIENCY))
    return np.column_stack([columns, rows, smooth[rows, columns]]).astype(np.float64)


def _shift_averaged_saliency(
    pixels: NDArray[np.float32], positions: NDArray[np.float64], saliency: Saliency
) -> NDArray[np.float32]:
    """Compute the saliency of positions [n, 2] (column and row of the map) whatever grid their pixels fall on.

    The prior gives one value for STRIDE x STRIDE coarse pixels, and another when the picture begins one pixel further.
    The outputs of all such shifts are put together: a map of all coarse pixels, smoothed. Of what is salient in only
    one of them, most is no cell.
    """
    if not len(positions):
        return np.empty(0, np.float32)
    reach, side = STRIDE * _PATCH_RADIUS_PX, 2 * STRIDE * _PATCH_RADIUS_PX
    padded = np.pad(pixels, ((reach, reach + STRIDE), (reach, reach + STRIDE), (0, 0)), mode="edge")
    patches = sliding_window_view(padded, (side, side), axis=(0, 1))
    middle = slice(side // 2 - STRIDE, side // 2 + 2 * STRIDE)
    found = []
    for batch in np.array_split((positions * STRIDE).astype(int), -(-len(positions) // _PATCHES_PER_PASS)):
        # A pass for all shifts: on such small pictures, what a pass costs is not its pixels.
        shifted = np.stack([patches[y + down, x + right] for x, y in batch for down, right in _SHIFTS])
        outputs = saliency(shifted.transpose(0, 2, 3, 1)).reshape(len(batch), STRIDE, STRIDE, side // STRIDE, -1)
        maps = outputs.transpose(0, 3, 1, 4, 2).reshape(len(batch), side, side)
        found += [cv2.GaussianBlur(whole, (0, 0), 1.0)[middle, middle].max() for whole in maps]
    return np.array(found, np.float32)


def _suppress_neighbours(points: NDArray[np.float64], distance: float, threshold: float) -> NDArray[np.float64]:
    """Keep candidates [n, 3] from the most salient on, without those nearer than `distance` to one before.

    Of those below the threshold as many are kept as `candidates` says.
    """
    order = np.lexsort((-points[:, 2], points[:, 0], points[:, 1], -points[:, 2].round(4)))
    squares: dict[tuple[int, int], list[tuple[float, float]]] = {}
    kept: list[tuple[float, float, float]] = []
    sure = 0
    for x, y, saliency in points[order].tolist():
        doubtful = min(sure, max(_MIN_CANDIDATES, _MAX_DOUBTFUL * sure))
        most = sure + doubtful if saliency >= _DOUBTFUL_SHARE * threshold else 0
        if saliency < threshold and len(kept) >= max(_MIN_CANDIDATES, most):
            continue
        column, row = int(x // distance), int(y // distance)
        near = [p for i in (-1, 0, 1) for j in (-1, 0, 1) for p in squares.get((column + i, row + j), ())]
        if all((x - px) ** 2 + (y - py) ** 2 >= distance**2 for px, py in near):
            squares.setdefault((column, row), []).append((x, y))
            kept.append((x, y, saliency))
            sure += saliency >= threshold
    return np.array(kept).reshape(-1, 3)
