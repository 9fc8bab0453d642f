"""Shapes and textures that the synthetic cells are drawn with, on a canvas measured in micrometres.

Shapes are signed distances (positive inside), so that edges soften, rims darken and parts join by simple arithmetic.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

DRAW_UM = 0.1
"""The micrometres a pixel of every drawing; the smear resamples it to its own scale."""

Plane = NDArray[np.float32]


def turned_canvas(rng: np.random.Generator, reach_um: float) -> tuple[Plane, Plane]:
    """Return the coordinates x and y, float32 [side, side] in um, of a canvas around the origin, turned at random."""
    steps = int(np.ceil(reach_um / DRAW_UM))
    axis = np.arange(-steps, steps + 1, dtype=np.float32) * np.float32(DRAW_UM)
    x, y = np.meshgrid(axis, axis)
    angle = rng.uniform(0, 2 * np.pi)
    cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return cosine * x - sine * y, sine * x + cosine * y


def speckle(rng: np.random.Generator, like: Plane, grain_um: float) -> Plane:
    """Return smooth noise shaped as `like`, of mean 0 and deviation 1, with spots about `grain_um` in radius."""
    noise = cv2.GaussianBlur(rng.standard_normal(like.shape, dtype=np.float32), (0, 0), grain_um / DRAW_UM)
    return np.asarray((noise - noise.mean()) / noise.std(), np.float32)


def soft(distance: Plane, edge_um: float = 0.15) -> Plane:
    """Return the share of each pixel that the shape covers, 0 to 1, with an edge `edge_um` wide either side."""
    return np.asarray(np.clip(0.5 + distance / (2 * edge_um), 0, 1), np.float32)


def band(distance: Plane, at_um: float, width_um: float) -> Plane:
    """Return a soft line, 1 at its middle, that runs `at_um` inside the shape's edge."""
    return np.asarray(np.exp(-(((distance - at_um) / width_um) ** 2)), np.float32)


def grains(rng: np.random.Generator, like: Plane, grain_um: float, fill: float) -> Plane:
    """Return granules about `grain_um` in radius, 0 to 1, which cover the share `fill` of the canvas."""
    # A band of frequencies, not a low pass: granules of one size rather than patches of every size.
    noise = speckle(rng, like, grain_um) - 0.7 * speckle(rng, like, 0.2 * grain_um)
    noise = cv2.GaussianBlur(noise, (0, 0), 0.4 * grain_um / DRAW_UM)
    noise -= cv2.GaussianBlur(noise, (0, 0), 2 * grain_um / DRAW_UM)
    return soft((noise - np.quantile(noise, 1 - fill)) / noise.std(), 0.5)


def blob(rng: np.random.Generator, x: Plane, y: Plane, radius_um: float, rough: float, waves: int = 5) -> Plane:
    """Return the distance to a rounded outline around the origin, uneven by about the share `rough` of its radius."""
    angle = np.arctan2(y, x)
    ripple = np.zeros_like(x)
    for wave in range(2, waves + 1):
        ripple += rng.normal(0, 1 / wave) * np.cos(wave * angle + rng.uniform(0, 2 * np.pi))
    return radius_um * (1 + rough * ripple) - np.hypot(x, y)


def tube(x: Plane, y: Plane, path: NDArray[np.float64], radii: NDArray[np.float64]) -> Plane:
    """Return the distance to a tube along `path` [points, 2], `radii` [points] um thick."""
    distance = np.full_like(x, -np.inf)
    for (px, py), radius in zip(path, radii, strict=True):
        np.maximum(distance, np.float32(radius) - np.hypot(x - np.float32(px), y - np.float32(py)), out=distance)
    return distance


def warp(rng: np.random.Generator, x: Plane, y: Plane, shift_um: float, grain_um: float) -> tuple[Plane, Plane]:
    """Return the coordinates bent by smooth noise, so that what is drawn on them looks grown, not constructed."""
    return x + shift_um * speckle(rng, x, grain_um), y + shift_um * speckle(rng, x, grain_um)
