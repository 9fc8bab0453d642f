"""What may lie around a cell or in an empty field, made from other training pixels; uint8 [S, S, 3] throughout."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

RGB = NDArray[np.uint8]


def other_background(rgb: RGB, cell: NDArray[np.bool_], backdrop: RGB) -> RGB:
    """Put a cell before other surroundings, so that nothing about its type can be read off its own.

    Args:
        rgb: the window.
        cell: [S / k, S / k], the cell's mask.
        backdrop: a window without cells, or one colour.
    """
    return blend(backdrop, rgb, cv2.dilate(cell.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0)


def blend(below: RGB, above: RGB, shape: NDArray[np.bool_]) -> RGB:
    """Lay the part of a window under `shape` (which may be coarser) over another, with a soft edge."""
    alpha = cv2.resize(shape.astype(np.float32), below.shape[:2], interpolation=cv2.INTER_LINEAR)
    alpha = cv2.GaussianBlur(alpha, (0, 0), 1.2)[..., None]
    mixed: RGB = (below * (1 - alpha) + above * alpha + 0.5).astype(np.uint8)
    return mixed


def one_colour(rgb: RGB, rng: Generator) -> RGB:
    """Make a plain window about as bright as the lightest part of another."""
    light = np.percentile(rgb.reshape(-1, 3), 90, axis=0)
    colour = (light * rng.uniform(0.85, 1.1) + rng.normal(0, 12, 3)).clip(0, 255)
    return np.broadcast_to(colour.astype(np.uint8), rgb.shape).copy()


def overlay(first: RGB, second: RGB) -> RGB:
    """Overlay two fields of red cells: their optical densities add up (Beer-Lambert), as in a thick smear."""
    light = np.percentile(second.reshape(-1, 3), 95, axis=0).clip(32, 255)
    overlaid: RGB = (first * np.minimum(second / light, 1.0)).clip(0, 255).astype(np.uint8)
    return overlaid


def compressed(rgb: RGB, rng: Generator) -> RGB:
    """Add the blocks and the colour smear of a JPEG file."""
    quality = int(rng.integers(20, 90))
    _, data = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)[..., ::-1].copy()
