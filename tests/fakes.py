"""Slides made of arrays, and results for them, so that products can be tested without a network."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from conftest import spots

from wbc_cli.cells import CYTOPLASM, NUCLEUS, Cell, Explanation, Scale, SlideResult
from wbc_cli.classes import CLASS_NAMES
from wbc_cli.errors import SlideError
from wbc_cli.slides.reader import SlideReader


@dataclass
class ArrayReader(SlideReader):
    """A slide held in memory; `broken` makes every read fail."""

    pixels: np.ndarray
    path: Path = Path("fake.png")
    um_per_px: float | None = None
    pixel_um: tuple[float, float] | None = None
    file_pixels: tuple[float, float] = (1.0, 1.0)
    flags: tuple[str, ...] = ()
    bounds: tuple[int, int] = (0, 0)
    broken: bool = False

    @property
    def height(self):
        return self.pixels.shape[0]

    @property
    def width(self):
        return self.pixels.shape[1]

    def read(self, x, y, width, height, downsample=1.0):
        if self.broken:
            raise SlideError(f"{self.path}: the tile at {x}, {y} cannot be decoded")
        assert min(x, y) >= 0 and x + width <= self.width and y + height <= self.height
        assert downsample >= 1
        size = max(1, round(width / downsample)), max(1, round(height / downsample))
        return cv2.resize(self.pixels[y : y + height, x : x + width], size, interpolation=cv2.INTER_AREA)

    def close(self):
        pass


def make_cell(number, mask, x0, y0, class_name="neutrophil", *, confidence=0.97, um_per_px=0.1, flags=()):
    """A cell from its mask (uint8 [h, w]) and the level-0 place of the mask's upper left corner."""
    random = np.random.default_rng(number)
    height, width = mask.shape
    rows, columns = np.nonzero(mask)
    x, y = x0 + columns.mean() + 0.5, y0 + rows.mean() + 0.5
    rest = random.dirichlet(np.full(len(CLASS_NAMES) - 1, 0.4)) * (1 - confidence)
    place = CLASS_NAMES.index(class_name) if class_name in CLASS_NAMES else 0
    probabilities = np.insert(rest, place, confidence).astype(np.float32)
    side = 35 / um_per_px
    return Cell(
        id=number,
        x=float(x),
        y=float(y),
        box=(x0, y0, x0 + width, y0 + height),
        mask=mask,
        class_name=class_name,
        probabilities=probabilities,
        confidence=confidence,
        area_um2=float((mask > 0).sum() * um_per_px**2),
        nucleus_area_um2=float((mask == NUCLEUS).sum() * um_per_px**2),
        saliency=0.83,
        cam_in_cell=0.71,
        cam_saliency=0.55,
        cam_stability=None,
        explanation=fake_explanation(x, y, side, width / side),
        flags=flags,
    )


def fake_explanation(x, y, side, share):
    """Maps of 22 x 22 that peak near the middle of the window, as wide as the cell's share of it."""
    v, u = np.mgrid[0:22, 0:22] / 21 - 0.5
    saliency = np.exp(-(((u**2 + v**2) / (0.35 * share) ** 2) ** 2))
    cam = np.exp(-((u - 0.03) ** 2 + (v + 0.05) ** 2) / (0.3 * share) ** 2)
    return Explanation(x - side / 2, y - side / 2, side, cam.astype(np.float32), saliency.astype(np.float32))


def make_result(cells, width, height, name="slide", um_per_px=0.1, *, flags=(), source="file"):
    return SlideResult(
        name=name,
        path=Path("in") / f"{name}.png",
        width=width,
        height=height,
        scale=Scale(um_per_px, source),
        cells=tuple(cells),
        windows=len(cells),
        flags=tuple(flags),
        seconds={"read": 0.5},
    )


def disc(side):
    """The mask of a round cell with a nucleus, uint8 [side, side]."""
    v, u = np.mgrid[0:side, 0:side] + 0.5 - side / 2
    radius = np.hypot(u, v) / (side / 2)
    return (np.where(radius < 1, CYTOPLASM, 0) + np.where(radius < 0.6, NUCLEUS - CYTOPLASM, 0)).astype(np.uint8)


def cells_from_mask(mask, class_names, um_per_px, confidences=(0.97, 0.64, 0.88)):
    """A cell for each connected piece above 400 pixels of a mask (uint8 [h, w]: 0, CYTOPLASM, NUCLEUS)."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats((mask > 0).astype(np.uint8))
    cells = []
    for label in range(1, count):
        x, y, width, height, area = stats[label]
        if area < 400:
            continue
        inside = labels[y : y + height, x : x + width] == label
        own = np.where(inside, mask[y : y + height, x : x + width], 0).astype(np.uint8)
        i = len(cells)
        on_edge = x == 0 or y == 0 or x + width == mask.shape[1] or y + height == mask.shape[0]
        cells.append(
            make_cell(
                i + 1,
                own,
                int(x),
                int(y),
                class_names[i % len(class_names)],
                confidence=confidences[i % len(confidences)],
                um_per_px=um_per_px,
                flags=("edge",) if on_edge else (),
            )
        )
    return cells


NO_PRODUCTS: frozenset[str] = frozenset()


def blank(width=300, height=200):
    return ArrayReader(np.full((height, width, 3), 235, np.uint8))


def small_result(name="slide", **changes):
    cells = [
        make_cell(1, disc(40), 20, 30, "neutrophil", confidence=0.97),
        make_cell(2, disc(30), 150, 90, "unidentified", confidence=0.41),
    ]
    return make_result(changes.pop("cells", cells), 300, 200, name, **changes)


def rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def painted(result):
    plane = np.zeros((result.height, result.width), np.uint32)
    for cell in result.cells:
        x0, y0, x1, y1 = cell.box
        plane[y0:y1, x0:x1][cell.mask > 0] = cell.id
    return plane


def read_png(path):
    picture = cv2.imread(str(path))
    assert picture is not None
    return picture[..., ::-1]


def committed(run):
    return [run.record(folder.name) for folder in run.slides.iterdir()]


def vignette(strength, height=240, width=320):
    """A light field with a dark, pinkish rim: float [h, w, 3]."""
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    return 1 - strength * ((x**2 + y**2) / 2)[..., None] * np.array([0.5, 1.0, 0.8])


def unevenly_lit(light, count=10, seed=0, centred=False, radius=14):
    """Spots at random on glass under a light field."""
    rng = np.random.default_rng(seed)
    height, width = light.shape[:2]
    for _ in range(count):
        places = [(width // 2, height // 2)] if centred else rng.integers(0, (width, height), (12, 2)).tolist()
        radius = height // 4 if centred else radius
        yield ArrayReader(np.rint(spots(*places, width=width, height=height, radius=radius) * light).astype(np.uint8))
