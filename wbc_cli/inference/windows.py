"""Cutting the network's windows out of a slide, and finding where to cut."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from wbc_cli.model.saliency import COARSE_UM_PER_PX, STRIDE, SaliencyPrior
from wbc_cli.slides.reader import RGBImage, SlideReader

_BLOCK = 1024  # coarse pixels a side
_MARGIN = 32  # coarse pixels around a block, beyond the prior's reach
_SAMPLE_BLOCKS = 16
_APART_UM = 5.0  # candidates nearer than this are one cell, seen in one window


@dataclass(frozen=True)
class Place:
    """A square window: upper left corner and side in level-0 pixels; may reach beyond the slide."""

    x: int
    y: int
    side: int

    @classmethod
    def around(cls, x: float, y: float, side: int) -> Place:
        """The window whose middle is nearest to a point."""
        return cls(round(x - side / 2), round(y - side / 2), side)

    @property
    def middle(self) -> tuple[float, float]:
        """X and y of the window's middle."""
        return self.x + self.side / 2, self.y + self.side / 2


@dataclass(frozen=True, eq=False)
class Tone:
    """A slide's colours: what the prior is standardised by, and what lies around the slide.

    Attributes:
        mean: float32 [3], 0 to 1.
        deviation: of all channels around their means.
        background: uint8 [3].
    """

    mean: NDArray[np.float32]
    deviation: float
    background: NDArray[np.uint8]


def slide_tone(reader: SlideReader, um_per_px: float) -> Tone:
    """Colour statistics from blocks spread over the slide at 1 um a pixel (all of it where it is small)."""
    blocks = list(_blocks(reader, um_per_px))
    chosen = np.unique(np.linspace(0, len(blocks) - 1, min(_SAMPLE_BLOCKS, len(blocks))).round().astype(int))
    coarse = [_read_coarse(reader, *blocks[int(i)], um_per_px) for i in chosen]
    pixels = np.concatenate([c.reshape(-1, 3) for c in coarse]).astype(np.float32) / 255
    mean = pixels.mean(axis=0)
    background = np.percentile(pixels[:: max(1, len(pixels) // 100_000)], 80, axis=0) * 255
    return Tone(mean, float(np.sqrt(np.square(pixels - mean).mean())), background.astype(np.uint8))


def candidates(
    reader: SlideReader, prior: SaliencyPrior, um_per_px: float, tone: Tone, threshold: float
) -> NDArray[np.float64]:
    """Where the prior sees white cells.

    Args:
        reader: the slide.
        prior: trained, in evaluation mode.
        um_per_px: scale of the slide's level 0.
        tone: the slide's colours.
        threshold: least saliency, 0 to 1.

    Returns:
        float [n, 2], x and y in level-0 pixels, from the most salient to the least.
    """
    device = next(prior.parameters()).device
    points = []
    for x, y, width, height in _blocks(reader, um_per_px):
        margin = round(_MARGIN * COARSE_UM_PER_PX / um_per_px)
        left, top = max(0, x - margin), max(0, y - margin)
        right, bottom = min(reader.width, x + width + margin), min(reader.height, y + height + margin)
        coarse = _read_coarse(reader, left, top, right - left, bottom - top, um_per_px)
        pixels = torch.from_numpy((coarse / np.float32(255) - tone.mean) / np.float32(tone.deviation + 0.02))
        with torch.no_grad():
            saliency = torch.sigmoid(prior(pixels.permute(2, 0, 1)[None].to(device)))[0, 0].cpu().numpy()
        peaks = _peaks(saliency, threshold)
        unit = np.array([(right - left) / coarse.shape[1], (bottom - top) / coarse.shape[0]]) * STRIDE
        places = (peaks[:, :2] + 0.5) * unit + (left, top)
        # A little beyond the block: a peak that both neighbours see across their border must not be lost to both.
        reach = 2 * STRIDE * COARSE_UM_PER_PX / um_per_px
        inside = (places >= (x - reach, y - reach)).all(axis=1)
        inside &= (places < (x + width + reach, y + height + reach)).all(axis=1)
        points.append(np.column_stack([places, peaks[:, 2]])[inside])
    return _apart(np.concatenate(points), _APART_UM / um_per_px)


def cut(reader: SlideReader, place: Place, size: int, background: NDArray[np.uint8]) -> RGBImage:
    """The pixels of a window, uint8 [size, size, 3]; outside the slide the background's colour."""
    canvas = np.empty((place.side, place.side, 3), np.uint8)
    canvas[:] = background
    left, top = max(0, place.x), max(0, place.y)
    right, bottom = min(reader.width, place.x + place.side), min(reader.height, place.y + place.side)
    if right > left and bottom > top:
        canvas[top - place.y : bottom - place.y, left - place.x : right - place.x] = reader.read(
            left, top, right - left, bottom - top
        )
    shrinking = cv2.INTER_AREA if place.side >= size else cv2.INTER_CUBIC
    window: RGBImage = cv2.resize(canvas, (size, size), interpolation=shrinking)
    return window


def _blocks(reader: SlideReader, um_per_px: float) -> Iterator[tuple[int, int, int, int]]:
    step = max(1, round(_BLOCK * COARSE_UM_PER_PX / um_per_px))
    for y in range(0, reader.height, step):
        for x in range(0, reader.width, step):
            yield x, y, min(step, reader.width - x), min(step, reader.height - y)


def _read_coarse(reader: SlideReader, x: int, y: int, width: int, height: int, um_per_px: float) -> RGBImage:
    downsample = COARSE_UM_PER_PX / um_per_px
    rgb = reader.read(x, y, width, height, max(1.0, downsample))
    if downsample < 1:
        size = (max(1, round(width / downsample)), max(1, round(height / downsample)))
        rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_LINEAR).astype(np.uint8)
    return rgb


def _peaks(saliency: NDArray[np.float32], threshold: float) -> NDArray[np.float64]:
    """Local maxima: float [n, 3], column, row (map pixels) and saliency."""
    smooth = cv2.GaussianBlur(saliency, (0, 0), 1.0, borderType=cv2.BORDER_REPLICATE)
    highest = ndimage.maximum_filter(smooth, size=3)
    rows, columns = np.nonzero((smooth == highest) & (ndimage.maximum_filter(saliency, size=3) >= threshold))
    return np.column_stack([columns, rows, smooth[rows, columns]]).astype(np.float64)


def _apart(points: NDArray[np.float64], distance: float) -> NDArray[np.float64]:
    """Keep the most salient of candidates that lie nearer to each other than `distance`."""
    order = np.lexsort((points[:, 0], points[:, 1], -points[:, 2].round(4)))
    cells: dict[tuple[int, int], list[tuple[float, float]]] = {}
    kept = []
    for x, y, _ in points[order]:
        column, row = int(x // distance), int(y // distance)
        near = [p for i in (-1, 0, 1) for j in (-1, 0, 1) for p in cells.get((column + i, row + j), ())]
        if all((x - px) ** 2 + (y - py) ** 2 >= distance**2 for px, py in near):
            cells.setdefault((column, row), []).append((x, y))
            kept.append((x, y))
    return np.array(kept).reshape(-1, 2)
