"""The drawn cells as one smear's camera sees them: integers of optical density, made once and stamped often."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from wbc_cli.synthetic.brush import DRAW_UM
from wbc_cli.synthetic.cells import WHITE_CELLS, Drawing, draw_platelet, draw_red_cell
from wbc_cli.synthetic.stains import Look

UNIT = 2048
"""Optical density 1 in the integers that stamps are added up in: exact sums, so any order gives the same pixels."""
TURNS = 8
"""Quarter turns and mirror images of a drawing."""
OPTICS_UM = 0.09
SHARPENING, SHARPENING_UM = 0.3, 0.2

Density = NDArray[np.int16]
Indices = NDArray[np.intp]


class Kind(NamedTuple):
    """How a kind of cell is drawn, and how many different drawings of it one smear has."""

    draw: Callable[[np.random.Generator], Drawing]
    varieties: int


KINDS: dict[str, Kind] = {
    "red cell": Kind(draw_red_cell, 48),
    "platelet": Kind(draw_platelet, 24),
    **{name: Kind(draw, 40) for name, draw in WHITE_CELLS.items()},
}


class Stamp(NamedTuple):
    """A cell as the camera sees it.

    Attributes:
        name: its kind, a key of `KINDS`.
        radius_um: of the cell, about.
        density: int16 [side, side, 3], optical density times `UNIT`, the cell in its middle.
    """

    name: str
    radius_um: float
    density: Density


class Stamps(list[Stamp]):
    """The stamps of one smear."""

    def __init__(self, seed: int, look: Look, um_per_px: float, blur_um: float) -> None:
        """Start with no stamps; see `Smear` for the arguments."""
        super().__init__()
        self._seed, self._look, self._um_per_px, self._blur_um = seed, look, um_per_px, blur_um

    def choose(self, rng: np.random.Generator, name: str, count: int) -> Indices:
        """Choose a stamp at random for each of `count` cells of the kind `name`; draw those chosen.

        Returns:
            intp [count], places in this list.
        """
        codes, which = np.unique(rng.integers(0, KINDS[name].varieties * TURNS, count), return_inverse=True)
        start = len(self)
        photographs: dict[int, Stamp] = {}
        for code in codes.tolist():
            variety, turn = divmod(code, TURNS)
            if variety not in photographs:
                photographs[variety] = self._photograph(name, variety)
            stamp = photographs[variety]
            turned = np.rot90(stamp.density if turn < 4 else stamp.density[::-1], turn)
            self.append(stamp._replace(density=np.ascontiguousarray(turned)))
        return np.asarray(start + which, np.intp)

    def _photograph(self, name: str, variety: int) -> Stamp:
        drawing = KINDS[name].draw(np.random.default_rng([self._seed, list(KINDS).index(name), variety]))
        density = drawing.stains @ self._look.density.astype(np.float32)
        density = cv2.GaussianBlur(density, (0, 0), np.hypot(OPTICS_UM, self._blur_um) / DRAW_UM)
        side = round(len(density) * DRAW_UM / self._um_per_px)
        smaller = self._um_per_px > DRAW_UM
        density = cv2.resize(density, (side, side), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC)
        density += SHARPENING * (density - cv2.GaussianBlur(density, (0, 0), SHARPENING_UM / self._um_per_px))
        return Stamp(name, drawing.radius_um, np.round(density * UNIT).astype(np.int16))
