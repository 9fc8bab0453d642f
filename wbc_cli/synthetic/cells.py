"""Drawings of single blood cells: how much of each stain every point of the cell holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wbc_cli.synthetic.brush import Plane, band, blob, grains, soft, speckle, tube, turned_canvas, warp
from wbc_cli.synthetic.stains import Stain


@dataclass(frozen=True, eq=False)
class Drawing:
    """One cell, centred on its canvas.

    Attributes:
        radius_um: of the whole cell, about.
        stains: float32 [side, side, len(Stain)], amount of each stain; pixels of `brush.DRAW_UM`.
    """

    radius_um: float
    stains: NDArray[np.float32]


def draw_red_cell(rng: np.random.Generator) -> Drawing:
    """Draw a red cell: a disc 7 to 8 um across, paler in its centre, a little oval."""
    radius = float(np.clip(rng.normal(3.7, 0.22), 3.0, 4.3))
    x, y = turned_canvas(rng, 1.25 * radius + 0.4)
    squeeze = np.float32(np.sqrt(rng.uniform(1.0, 1.22)))
    crenated = rng.random() < 0.05
    distance = blob(rng, x * squeeze, y / squeeze, radius, 0.10 if crenated else 0.025, 12 if crenated else 4)
    depth = np.clip(distance / radius, 0, 1)  # 0 at the edge, 1 in the centre
    pallor = rng.uniform(0.1, 1.0) * np.exp(-(((1 - depth) / rng.uniform(0.35, 0.6)) ** 3))
    rim = 0.12 * band(distance, 0.6, 0.4)
    amount = rng.uniform(0.88, 1.12) * soft(distance, 0.4) * (1.0 + rim - pallor + 0.02 * speckle(rng, x, 0.4))
    return _compose(radius, {Stain.HAEMOGLOBIN: amount, Stain.BLUE: rng.uniform(0, 0.06) * soft(distance, 0.25)})


def draw_platelet(rng: np.random.Generator) -> Drawing:
    """Draw a platelet: 2 to 4 um, a purple granular middle in a pale fuzzy rim."""
    radius = rng.uniform(1.05, 1.95)
    x, y = warp(rng, *turned_canvas(rng, 1.8 * radius + 1.0), 0.08, 0.4)
    distance = blob(rng, x, y, radius, 0.10)
    core = soft(distance - 0.25, 0.35)
    purple = core * (0.30 + rng.uniform(0.6, 0.9) * grains(rng, x, 0.13, 0.5))
    return _compose(radius, {Stain.PURPLE: purple, Stain.BLUE: 0.35 * soft(distance, 0.4)})


def draw_neutrophil(rng: np.random.Generator) -> Drawing:
    """Draw a neutrophil: 12 to 14 um, a chain of lobes, pale pink cytoplasm with fine granules."""
    radius = rng.uniform(6.0, 7.0)
    x, y, body = _body(rng, radius, 0.03)
    lobes = int(rng.choice([2, 3, 4, 5], p=[0.1, 0.42, 0.38, 0.1]))
    thickness = np.sqrt(52 / (np.pi * lobes)) * rng.uniform(0.88, 1.0)
    nucleus = _lobes(rng, x, y, lobes, thickness, orbit=0.46 * radius, step=rng.uniform(1.25, 1.55))
    fill = soft(body, 0.3)
    clouds = 1 + 0.20 * speckle(rng, x, 0.9) + 0.30 * speckle(rng, x, 0.15)
    dust = grains(rng, x, 0.10, 0.14) * np.clip(1 + 0.6 * speckle(rng, x, 0.3), 0, 2.5) * soft(body - 0.2, 0.3)
    return _nucleated(
        radius,
        nucleus,
        _chromatin(rng, nucleus, 1.0, 0.19),
        rng.uniform(0, 0.2),
        {
            Stain.BLUE: rng.uniform(0.12, 0.24) * fill * clouds + 0.05 * band(body, 0.3, 0.3),
            Stain.EOSIN: rng.uniform(0.03, 0.12) * fill * (2 - clouds),
            Stain.PURPLE: rng.uniform(0.2, 0.45) * dust,
        },
    )


def draw_eosinophil(rng: np.random.Generator) -> Drawing:
    """Draw an eosinophil: 12 to 14 um, two or three lobes, packed coarse orange-red granules."""
    radius = rng.uniform(6.0, 7.0)
    x, y, body = _body(rng, radius, 0.035)
    lobes = int(rng.choice([2, 3], p=[0.75, 0.25]))
    thickness = np.sqrt(40 / (np.pi * lobes)) * rng.uniform(0.92, 1.02)
    nucleus = _lobes(rng, x, y, lobes, thickness, orbit=0.52 * radius, step=rng.uniform(1.8, 2.6) * 2 / lobes)
    fill = soft(body, 0.2)
    packed = fill * soft(speckle(rng, x, 1.6) + 1.4, 0.5)  # a patch or two stays free of granules
    beads = grains(rng, x, 0.17, 0.5)
    return _nucleated(
        radius,
        nucleus,
        _chromatin(rng, nucleus, 0.96, 0.30),
        rng.uniform(0, 0.2),
        {
            Stain.BLUE: 0.45 * fill * (1 - 0.7 * packed) + 0.15 * band(body, 0.2, 0.2),
            Stain.EOSIN: rng.uniform(0.8, 1.05) * packed * (0.72 + 0.5 * beads + 0.12 * speckle(rng, x, 0.12))
            + 0.3 * band(body, 0.4, 0.3) * beads,
            Stain.PURPLE: 0.16 * band(body, 0.35, 0.35) * beads + 0.03 * packed,
        },
    )


def draw_basophil(rng: np.random.Generator) -> Drawing:
    """Draw a basophil: 10 to 13 um, dark purple granules that cover the nucleus too."""
    radius = rng.uniform(5.2, 6.6)
    x, y, body = _body(rng, radius, 0.04)
    nucleus = _lobes(rng, x, y, 2, 0.52 * radius, orbit=0.33 * radius, step=rng.uniform(1.6, 2.6))
    fill = soft(body + 0.25 * speckle(rng, x, 0.35), 0.2)
    crowd = np.clip(0.85 + 0.25 * speckle(rng, x, 1.8), 0.3, 1.2)
    beads = grains(rng, x, 0.18, rng.uniform(0.42, 0.56)) * soft(body + 0.1)
    return _compose(
        radius,
        {
            Stain.CHROMATIN: 0.48 * _chromatin(rng, nucleus, 0.9, 0.3) + 0.22 * crowd * beads,
            Stain.BLUE: 0.30 * fill,
            Stain.PURPLE: 0.24 * fill + 0.66 * crowd * beads,
        },
    )


def draw_lymphocyte(rng: np.random.Generator) -> Drawing:
    """Draw a lymphocyte: 9 to 11 um, a dense round nucleus in a thin sky-blue rim."""
    radius = rng.uniform(4.3, 5.6)
    x, y, body = _body(rng, radius, 0.035)
    body += 0.09 * speckle(rng, x, 0.14)
    size = radius * rng.uniform(0.80, 0.94)
    aside = (radius - size) * rng.uniform(0.6, 0.95)
    nucleus = blob(rng, x - np.float32(aside), y, size, 0.03)
    dent = tube(x, y, np.array([[aside - size - 0.6, rng.uniform(-1.5, 1.5)]]), np.array([rng.uniform(0.3, 1.4)]))
    nucleus = np.minimum(nucleus, -dent)
    fill = soft(body, 0.2)
    blue = fill * (rng.uniform(0.75, 1.2) + 0.35 * speckle(rng, x, 0.14) + 0.4 * band(body, 0.2, 0.25))
    return _nucleated(
        radius,
        nucleus,
        _chromatin(rng, nucleus, rng.uniform(0.88, 1.03), 0.20),
        rng.uniform(0.1, 0.5),
        {Stain.BLUE: blue, Stain.PURPLE: 0.25 * band(body, 0.2, 0.25) + 0.15 * fill * grains(rng, x, 0.1, 0.3)},
    )


def draw_monocyte(rng: np.random.Generator) -> Drawing:
    """Draw a monocyte: 15 to 18 um, a folded nucleus, grey-blue cytoplasm with vacuoles."""
    radius = rng.uniform(7.5, 8.8)
    x, y, body = _body(rng, radius, 0.10)
    turn = np.linspace(-0.5, 0.5, 14) * rng.uniform(2.4, 4.6)
    orbit = rng.uniform(2.0, 3.0)
    bend = np.stack([orbit * np.cos(turn), 1.15 * orbit * np.sin(turn)], axis=1)
    thickness = rng.uniform(3.4, 4.1) * (1 - 0.18 * np.cos(turn * rng.uniform(1.0, 2.2)))
    bend += (rng.uniform(0.5, 1.6), 0) - bend.mean(axis=0)
    nucleus = np.minimum(tube(*warp(rng, x, y, 0.38, 0.9), bend, thickness), body - 0.5)
    fill = soft(body + 0.09 * speckle(rng, x, 0.2), 0.3)
    holes = _vacuoles(rng, x, y, body, int(rng.integers(0, 11)))
    cytoplasm = fill * (1 - holes) * (1 + 0.15 * speckle(rng, x, 0.18) + 0.12 * speckle(rng, x, 1.2))
    return _nucleated(
        radius,
        nucleus,
        _chromatin(rng, nucleus, rng.uniform(0.76, 0.90), 0.38) * (1 - 0.7 * holes),
        rng.uniform(0.2, 0.6),
        {
            Stain.BLUE: rng.uniform(0.6, 0.85) * cytoplasm + 0.12 * band(body, 0.3, 0.3),
            Stain.EOSIN: 0.04 * cytoplasm,
            Stain.PURPLE: cytoplasm * (0.05 + 0.16 * grains(rng, x, 0.13, 0.25)),
        },
    )


WHITE_CELLS: dict[str, Callable[[np.random.Generator], Drawing]] = {
    "neutrophil": draw_neutrophil,
    "lymphocyte": draw_lymphocyte,
    "monocyte": draw_monocyte,
    "eosinophil": draw_eosinophil,
    "basophil": draw_basophil,
}


def _compose(radius_um: float, amounts: dict[Stain, Plane]) -> Drawing:
    side = len(next(iter(amounts.values())))
    stains = np.zeros((side, side, len(Stain)), np.float32)
    for stain, amount in amounts.items():
        stains[..., stain] = amount
    return Drawing(radius_um, stains)


def _body(rng: np.random.Generator, radius: float, rough: float) -> tuple[Plane, Plane, Plane]:
    """Return a canvas, and on it the distance to the outline of a white cell."""
    x, y = turned_canvas(rng, 1.25 * radius + 0.5)
    squeeze = np.float32(np.sqrt(rng.uniform(1.0, 1.2)))
    return x, y, blob(rng, *warp(rng, x * squeeze, y / squeeze, 0.08, 0.8), radius, rough)


def _lobes(
    rng: np.random.Generator, x: Plane, y: Plane, count: int, thickness: float, orbit: float, step: float
) -> Plane:
    """Return the distance to `count` lobes on a chain that winds round the cell's centre, `step` radians apart."""
    angles = (np.arange(count) - (count - 1) / 2) * step + rng.normal(0, 0.15, count)
    orbits = orbit * rng.uniform(0.85, 1.12, count)
    centres = np.stack([orbits * np.cos(angles), orbits * np.sin(angles)], axis=1)
    centres -= 0.5 * centres.mean(axis=0)
    sizes = thickness * rng.uniform(0.88, 1.1, count)
    along = np.linspace(0, count - 1, 9 * (count - 1) + 1)
    path = np.stack([np.interp(along, np.arange(count), centres[:, axis]) for axis in (0, 1)], axis=1)
    neck = rng.uniform(0.15, 0.85) * thickness
    swell = np.cos(np.pi * along) ** 2  # 1 at a lobe, 0 between two
    radii = neck + (np.interp(along, np.arange(count), sizes) - neck) * swell
    return tube(*warp(rng, x, y, 0.22, 0.8), path, radii)


def _chromatin(rng: np.random.Generator, nucleus: Plane, amount: float, contrast: float) -> Plane:
    """Return the chromatin of a nucleus: clumps, a net of paler channels between them, a darker membrane."""
    net = speckle(rng, nucleus, 0.12) + 0.3 * speckle(rng, nucleus, 0.3)
    clumps = 1.0 - contrast * np.clip(net, -0.9, 2.2) * soft(nucleus - 0.25, 0.2)
    return amount * soft(nucleus, 0.14) * (clumps + 0.15 * band(nucleus, 0.2, 0.2))


def _nucleated(
    radius_um: float, nucleus: Plane, chromatin: Plane, red: float, cytoplasm: dict[Stain, Plane]
) -> Drawing:
    """Compose a cell whose nucleus displaces most of the cytoplasm; `red` of its chromatin has the purple hue."""
    left = 1 - 0.85 * soft(nucleus, 0.14)
    amounts = {stain: amount * left for stain, amount in cytoplasm.items()}
    amounts[Stain.CHROMATIN] = (1 - red) * chromatin
    amounts[Stain.PURPLE] = amounts[Stain.PURPLE] + 1.1 * red * chromatin
    return _compose(radius_um, amounts)


def _vacuoles(rng: np.random.Generator, x: Plane, y: Plane, body: Plane, count: int) -> Plane:
    """Return `count` round holes, 0 to 1, well inside the cell."""
    inside = np.argwhere(body > 1.2)
    spots = inside[rng.integers(0, len(inside), count)]
    distance = np.full_like(x, -np.inf)
    for row, column in spots:
        reach = np.float32(rng.uniform(0.2, 0.65))
        np.maximum(distance, reach - np.hypot(x - x[row, column], y - y[row, column]), out=distance)
    return 0.85 * soft(distance, 0.15)
