"""From what files hold to 8-bit RGB, and from there to a smaller picture."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from wbc_cli.slides.reader import RGBImage, SlideReader

Floats = NDArray[np.floating[Any]]

WHITE = (255, 255, 255)
LEVEL_TOLERANCE = 1.01
"""How much coarser than asked for a level may be: levels are rounded to whole pixels, so that a fourth of the size has
a downsample of 4.0003."""

_BAND_PIXELS = 64_000_000  # of a level, read at once: 256 MB as RGBA
_INTEGER_RANGES = tuple(float(2**bits - 1) for bits in (8, 10, 12, 14, 16, 32))
_STRAY = 1e-3  # share of the samples that may be beyond the range: hot pixels
_OVERSHOOT = 1.1  # of floats around 1, as sharpening and interpolation leave them


def to_uint8(samples: NDArray[Any]) -> NDArray[np.uint8]:
    """Bring samples of any type to 0-255, by the range that they use.

    Cameras put 10, 12 or 14 bits into 16: the range is the smallest of 8, 10, 12, 14, 16 and 32 bits that holds the
    samples (bright-field pictures have a bright background, so the largest come near the top), but for a few stray
    ones: those are white. Floats within 0-1, or hardly above, have the range 1. What is negative or not a number
    becomes 0.
    """
    if samples.dtype == np.uint8:
        return samples
    if samples.dtype == np.bool_:
        return samples.astype(np.uint8) * np.uint8(255)
    is_float = np.issubdtype(samples.dtype, np.floating)
    if samples.dtype != np.uint16:  # of the rest OpenCV takes only some types
        samples = np.nan_to_num(samples.astype(np.float32), nan=0.0, posinf=0.0).clip(min=0.0)
    top = _top(samples)
    ranges = (_OVERSHOOT, *_INTEGER_RANGES) if is_float else _INTEGER_RANGES
    full = next((limit for limit in ranges if top <= limit), top)
    full = 1.0 if full == _OVERSHOOT else full
    shape = samples.shape  # OpenCV drops a last axis of one
    return np.asarray(cv2.convertScaleAbs(samples, alpha=255.0 / full), np.uint8).reshape(shape)


def _top(samples: NDArray[Any]) -> float:
    """Return the largest of the samples but for the stray ones, of which a small picture has none."""
    place = samples.size - 1 - math.floor(samples.size * _STRAY)
    return float(np.partition(samples, place, axis=None)[place])


def to_rgb(image: NDArray[np.uint8], background: tuple[int, int, int] = WHITE) -> RGBImage:
    """Make RGB of grey, grey and alpha, RGB or RGBA (uint8 [H, W] or [H, W, 1 to 4]), laid on the background."""
    if image.ndim == 2:
        image = image[..., np.newaxis]
    has_alpha = image.shape[2] in {2, 4}
    colour = image[..., :-1] if has_alpha else image
    if colour.shape[2] == 1:
        colour = np.repeat(colour, 3, axis=2)
    if has_alpha and (alpha := image[..., -1:].astype(np.uint16)).min() < 255:
        # The sum stays below 65,536: 16 bits are half of what floats would take on a large picture.
        mixed = colour * alpha + np.array(background, np.uint16) * (255 - alpha)
        colour = ((mixed + 127) // 255).astype(np.uint8)
    elif image.shape[2] == 4:  # several times as fast as numpy's copy
        colour = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGBA2RGB), np.uint8)
    return np.ascontiguousarray(colour)


def cmyk_to_rgb(image: NDArray[np.uint8]) -> RGBImage:
    """Make RGB of uint8 [H, W, 4] cyan, magenta, yellow, black, without colour management."""
    ink = 255 - image.astype(np.uint16)
    return ((ink[..., :3] * ink[..., 3:] + 127) // 255).astype(np.uint8)


def shrink(image: RGBImage, width: int, height: int) -> RGBImage:
    """Resize so that each new pixel is the average of the area that it covers; a copy in any case."""
    if image.shape[:2] == (height, width):
        return image.copy()
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def shrink_in_bands(read: Callable[[int, int], RGBImage], columns: int, rows: int, width: int, height: int) -> RGBImage:
    """Shrink a picture that is too large to be held whole.

    Args:
        read: gives the rows from the first to before the last, uint8 [last - first, columns, 3].
        columns, rows: of the picture.
        width, height: of the answer.
    """
    picture = np.empty((height, width, 3), np.uint8)
    band = max(1, math.floor(_BAND_PIXELS / (columns * rows) * height))
    for top in range(0, height, band):
        bottom = min(top + band, height)
        first, last = round(top * rows / height), round(bottom * rows / height)
        picture[top:bottom] = shrink(read(first, max(last, first + 1)), width, bottom - top)
    return picture


def map_over_region(
    values: NDArray[np.floating[Any]],
    reader: SlideReader,
    x: int,
    y: int,
    width: int,
    height: int,
    size: tuple[int, int],
) -> NDArray[np.floating[Any]]:
    """Interpolate a coarse map of a whole picture over a region of it.

    Args:
        values: float [h, w], over the whole picture.
        reader: the picture.
        x, y, width, height: the region in level-0 pixels.
        size: width and height of the answer in pixels.

    Returns:
        float [height, width] of `size`, of the same precision.
    """
    columns, rows = size
    scale_x, scale_y = values.shape[1] / reader.width, values.shape[0] / reader.height
    step_x, step_y = width / columns * scale_x, height / rows * scale_y
    # Places of the map are the middles of what they stand for, and so are pixels.
    matrix = np.array([[step_x, 0, x * scale_x + step_x / 2 - 0.5], [0, step_y, y * scale_y + step_y / 2 - 0.5]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(values, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE))


def shrunk_size(width: int, height: int, downsample: float) -> tuple[int, int]:
    """Return the width and height of a region's picture, as `SlideReader.read` promises them."""
    return max(1, round(width / downsample)), max(1, round(height / downsample))
