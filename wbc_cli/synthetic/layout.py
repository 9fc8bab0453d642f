"""Where the cells of a smear lie: white cells apart or in touching pairs, red cells and platelets between them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from wbc_cli.errors import UsageError

Points = NDArray[np.float64]

GAP_UM = 5.0
"""The least free way between two white cells that are not a touching pair."""
PAIR_EVERY = 6
"""Every sixth white cell touches the one before it."""
OVERLAP_UM = 5.5
"""Red cells whose centres are nearer than this lie on each other."""
TRIES = 2000


def place_white_cells(rng: np.random.Generator, size_um: tuple[float, float], radii: Sequence[float]) -> Points:
    """Place white cells at random, centres inside the smear.

    Args:
        rng: source of chance.
        size_um: width and height of the smear.
        radii: um, one a cell, in the order of the cells.

    Returns:
        float64 [len(radii), 2], centres x, y in um.

    Raises:
        UsageError: so many cells do not fit.
    """
    reach = 2 * max(radii, default=1.0) + GAP_UM
    centres: list[tuple[float, float]] = []
    buckets: dict[tuple[int, int], list[int]] = {}  # squares `reach` wide, so that only nine of them hold neighbours

    def is_free(x: float, y: float, radius: float, partner: int | None) -> bool:
        column, row = int(x / reach), int(y / reach)
        near = (i for dx, dy in product((-1, 0, 1), repeat=2) for i in buckets.get((column + dx, row + dy), ()))
        return all(
            i == partner or np.hypot(centres[i][0] - x, centres[i][1] - y) > radii[i] + radius + GAP_UM for i in near
        )

    for index, radius in enumerate(radii):
        partner = index - 1 if index % PAIR_EVERY == PAIR_EVERY - 1 else None
        for _ in range(TRIES):
            if partner is None:
                x, y = rng.uniform((0, 0), size_um)
            else:
                angle = rng.uniform(0, 2 * np.pi)
                apart = 0.97 * (radii[partner] + radius)
                x, y = centres[partner][0] + apart * np.cos(angle), centres[partner][1] + apart * np.sin(angle)
            if 0 <= x < size_um[0] and 0 <= y < size_um[1] and is_free(x, y, radius, partner):
                break
        else:
            raise UsageError(
                f"{len(radii)} white cells do not fit into a smear of {size_um[0]:.0f} x {size_um[1]:.0f} um: "
                "ask for fewer cells or a larger smear"
            )
        centres.append((float(x), float(y)))
        buckets.setdefault((int(x / reach), int(y / reach)), []).append(index)
    return np.array(centres, np.float64).reshape(-1, 2)


def place_between(
    rng: np.random.Generator,
    size_um: tuple[float, float],
    per_um2: float,
    obstacles: Points,
    clearances: NDArray[np.float64],
) -> Points:
    """Scatter cells over the smear and a little beyond its edges, leaving out those too near to an obstacle.

    The cells lie on a shaken lattice with gaps. They overlap in pairs now and then and never three deep, as in the
    monolayer of a smear, which is the part that is counted.

    Args:
        rng: source of chance.
        size_um: width and height of the smear.
        per_um2: cells a square micrometre, before any is left out.
        obstacles: float64 [n, 2], centres in um.
        clearances: float64 [n], um that a centre must keep from each obstacle.

    Returns:
        float64 [m, 2], centres x, y in um.
    """
    filled = 0.88
    pitch = float(np.sqrt(filled / per_um2))
    columns, rows = (int(np.ceil(side / pitch)) + 2 for side in size_um)
    y, x = np.mgrid[-1 : rows - 1, -1 : columns - 1].reshape(2, -1).astype(np.float64)
    x += 0.5 * (y % 2)
    points = np.stack([x, y], axis=1) * pitch + rng.normal(0, 0.19 * pitch, (len(x), 2))
    points = points[rng.random(len(points)) < filled]
    overlaps = cKDTree(points).query_pairs(OVERLAP_UM, output_type="ndarray")
    points = points[np.bincount(overlaps.ravel(), minlength=len(points)) < 2]
    near = cKDTree(points).query_ball_point(obstacles, clearances)
    return np.delete(points, [index for found in near for index in found], axis=0)
