"""A virtual smear of any size, of which any region can be rendered on its own."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from wbc_cli.slides.reader import RGBImage
from wbc_cli.synthetic.layout import place_between, place_white_cells
from wbc_cli.synthetic.stains import CREAM, Look
from wbc_cli.synthetic.stamps import UNIT, Density, Stamps

SHARES = {"neutrophil": 0.42, "lymphocyte": 0.24, "monocyte": 0.13, "eosinophil": 0.12, "basophil": 0.09}
"""The shares of the white cells; the rare ones come more often than in blood, so that a small demo shows every type."""
RED_CELLS_PER_UM2 = 0.0112
PLATELETS_PER_UM2 = 0.0004
RED_CELL_KEEPS_UM, PLATELET_KEEPS_UM = 3.3, 2.5
"""The least ways from a white cell or platelet to a red cell's centre, and from a white cell to a platelet's."""
NOISE, NOISE_SIDE = 0.02, 512


@dataclass(frozen=True)
class TrueCell:
    """A white cell or platelet that the smear really holds.

    Attributes:
        class_name: a name of `classes.CLASSES`.
        x, y: its centre in pixels (0.5, 0.5 is the middle of the first).
        radius: pixels, about.
    """

    class_name: str
    x: float
    y: float
    radius: float


class Smear:
    """A stained smear whose every pixel follows from its arguments.

    Attributes:
        width, height: pixels.
        um_per_px: micrometres a pixel.
        truth: white cells and platelets whose centre lies inside, white cells first.
    """

    def __init__(
        self,
        width: int,
        height: int,
        um_per_px: float,
        white_cells: int,
        seed: int,
        look: Look = CREAM,
        blur_um: float = 0.0,
    ) -> None:
        """Lay out the smear; nothing is rendered yet.

        Args:
            width, height: pixels.
            um_per_px: micrometres a pixel.
            white_cells: how many.
            seed: of every random choice.
            look: stain, lamp and camera, varied a little by the seed.
            blur_um: defocus, the deviation of a Gaussian, beyond the blur of sharp optics.

        Raises:
            UsageError: so many white cells do not fit.
        """
        self.width, self.height, self.um_per_px = width, height, um_per_px
        rng = np.random.default_rng(seed)
        look = look.varied(rng)
        self._stamps = Stamps(seed, look, um_per_px, blur_um)
        self._lay_out(rng, white_cells)
        background = -np.log(np.array(look.background) / 255)
        (light,) = rng.spawn(1)  # the layout draws more the larger the smear; a seed has one light at every size
        self._film_x = _units(background + _film(light, width, um_per_px))
        self._film_y = _units(_film(light, height, um_per_px))
        noise = rng.normal(0, NOISE, (NOISE_SIDE, NOISE_SIDE, 3))
        self._noise = _units(cv2.GaussianBlur(noise, (0, 0), 0.6, borderType=cv2.BORDER_REFLECT))
        densities = np.arange(65536, dtype=np.uint16).view(np.int16)
        # A sum below 0 is brighter than the lamp: the camera clips it.
        self._brightness = np.round(255 * np.exp(-np.maximum(densities, 0) / UNIT)).astype(np.uint8)

    def render(self, x: int, y: int, width: int, height: int) -> RGBImage:
        """Render a region that lies inside the smear.

        Args:
            x, y, width, height: the region in pixels.

        Returns:
            uint8 [height, width, 3], sRGB; the same pixels however the smear is cut into regions.
        """
        rows, columns = np.arange(y, y + height) % NOISE_SIDE, np.arange(x, x + width) % NOISE_SIDE
        density = self._noise[rows[:, None], columns]
        density += self._film_x[x : x + width]
        density += self._film_y[y : y + height, None]
        first, last = np.searchsorted(self._top, (y - self._largest, y + height))
        left = self._left[first:last]
        seen = first + np.flatnonzero((left > x - self._largest) & (left < x + width))
        for index in seen.tolist():
            stamp = self._stamps[self._stamp[index]].density
            _add(density, stamp, int(self._top[index]) - y, int(self._left[index]) - x)
        return self._brightness[density.view(np.uint16)]

    def _lay_out(self, rng: np.random.Generator, white_cells: int) -> None:
        """Choose and place every cell, in the order of upper edges, so that `render` finds its own quickly."""
        size_um = (self.width * self.um_per_px, self.height * self.um_per_px)
        counts = rng.multinomial(white_cells, list(SHARES.values())).tolist()
        chosen = [self._stamps.choose(rng, name, count) for name, count in zip(SHARES, counts, strict=True)]
        white = rng.permutation(np.concatenate(chosen))
        white_um = place_white_cells(rng, size_um, self._radii(white).tolist())
        platelet_um = place_between(rng, size_um, PLATELETS_PER_UM2, white_um, self._radii(white) + PLATELET_KEEPS_UM)
        listed = np.concatenate([white, self._stamps.choose(rng, "platelet", len(platelet_um))])
        listed_um = np.concatenate([white_um, platelet_um])
        red_um = place_between(rng, size_um, RED_CELLS_PER_UM2, listed_um, self._radii(listed) + RED_CELL_KEEPS_UM)
        self.truth = tuple(
            TrueCell(self._stamps[index].name, x, y, self._stamps[index].radius_um / self.um_per_px)
            for index, (x, y) in zip(listed.tolist(), (listed_um / self.um_per_px).tolist(), strict=True)
            if 0 <= x < self.width and 0 <= y < self.height
        )
        self._place(
            np.concatenate([listed, self._stamps.choose(rng, "red cell", len(red_um))]),
            np.concatenate([listed_um, red_um]),
        )

    def _place(self, stamp: NDArray[np.intp], centre_um: NDArray[np.float64]) -> None:
        sides = np.array([len(s.density) for s in self._stamps])
        self._largest = int(sides.max())
        corner = np.round(centre_um / self.um_per_px - sides[stamp, None] / 2).astype(np.int32)
        order = np.argsort(corner[:, 1], kind="stable")
        self._left, self._top = corner[order].T.copy()
        self._stamp = stamp[order]

    def _radii(self, stamp: NDArray[np.intp]) -> NDArray[np.float64]:
        return np.array([self._stamps[index].radius_um for index in stamp.tolist()], np.float64)


def _units(density: NDArray[np.float64]) -> Density:
    return np.round(density * UNIT).astype(np.int16)


def _film(rng: np.random.Generator, length: int, um_per_px: float) -> NDArray[np.float64]:
    """Return the slow drift of lamp and plasma stain along one axis, float64 [length, 3]."""
    place = np.arange(length)[:, None] * um_per_px
    waves = 2 * np.pi * place / rng.uniform(90, 400, (1, 4)) + rng.uniform(0, 2 * np.pi, (1, 4))
    return np.cos(waves) @ (rng.normal(0, 0.010, (4, 1)) + rng.normal(0, 0.002, (4, 3)))


def _add(density: Density, stamp: Density, top: int, left: int) -> None:
    """Add the part of the stamp that lies inside the region."""
    y0, x0 = max(top, 0), max(left, 0)
    part = density[y0 : max(top + len(stamp), 0), x0 : max(left + len(stamp), 0)]
    part += stamp[y0 - top : y0 - top + part.shape[0], x0 - left : x0 - left + part.shape[1]]
