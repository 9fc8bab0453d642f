"""The stains of a smear and how light passes through them (Beer-Lambert)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray


class Stain(IntEnum):
    """What takes up light in a Romanowsky-stained smear; the planes of a drawing."""

    HAEMOGLOBIN = 0
    CHROMATIN = 1
    BLUE = 2  # cytoplasm rich in RNA
    EOSIN = 3  # eosinophil granules
    PURPLE = 4  # granules of platelets, basophils, neutrophils


@dataclass(frozen=True)
class Look:
    """How one laboratory's stain, lamp and camera show a smear.

    Attributes:
        background: sRGB where nothing lies.
        density: float64 [len(Stain), 3], optical density (natural logarithm) of one unit of each stain in R, G, B.
    """

    background: tuple[int, int, int]
    density: NDArray[np.float64]

    def varied(self, rng: np.random.Generator) -> Look:
        """Return the look of another day: every density a little stronger or weaker, the lamp a little warmer."""
        strength = rng.normal(1, 0.05) * rng.normal(1, 0.03, self.density.shape)
        red, green, blue = np.clip(np.array(self.background) + rng.normal(0, 2.5, 3), 0, 252).astype(int).tolist()
        return Look((red, green, blue), self.density * strength)


CREAM = Look(
    (253, 229, 204),
    np.array([[0.21, 0.31, 0.22], [1.20, 1.96, 0.42], [0.50, 0.52, 0.12], [0.25, 0.70, 0.40], [0.92, 1.75, 0.42]]),
)
NEUTRAL = Look(
    (238, 234, 232),
    np.array([[0.17, 0.33, 0.22], [1.12, 1.75, 0.42], [0.46, 0.46, 0.10], [0.20, 0.66, 0.52], [0.82, 1.55, 0.40]]),
)
ROSE = Look(
    (240, 235, 224),
    np.array([[0.17, 0.36, 0.25], [1.15, 1.85, 0.46], [0.48, 0.50, 0.14], [0.22, 0.72, 0.48], [0.80, 1.65, 0.46]]),
)
