"""The demo: a folder of smears of which every cell is known."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple

from wbc_cli.synthetic.fields import write_field
from wbc_cli.synthetic.slide import write_slide
from wbc_cli.synthetic.smear import Smear, TrueCell
from wbc_cli.synthetic.stains import CREAM, NEUTRAL, ROSE, Look


class Field(NamedTuple):
    """One camera picture of the demo; `scale_noted` tells whether the file says how large a pixel is."""

    name: str
    width: int
    height: int
    um_per_px: float
    white_cells: int
    look: Look
    blur_um: float
    scale_noted: bool


FIELDS = (
    Field("field-1.png", 1280, 960, 0.10, 7, CREAM, 0.0, True),
    Field("field-2.png", 1280, 960, 0.10, 6, NEUTRAL, 0.05, True),
    Field("field-3.jpg", 1280, 960, 0.16, 8, CREAM, 0.10, True),
    Field("field-4.jpg", 1280, 960, 0.10, 4, ROSE, 0.05, False),
    Field("field-5-no-white-cell.png", 1280, 960, 0.10, 0, NEUTRAL, 0.0, True),
    Field("field-6.jpg", 1280, 960, 0.125, 6, CREAM, 0.20, False),
)
SLIDE_NAME, SLIDE_SIZE, SLIDE_UM_PER_PX, SLIDE_WHITE_CELLS = "slide.svs", 4096, 0.25, 30


def write_demo(directory: Path, seed: int = 0) -> list[Path]:
    """Write six camera fields, one pyramidal slide, and what they hold.

    The truth lists white cells and platelets whose centre lies inside the picture; those at the border are cut by it.

    Args:
        directory: folder to write into; made if it is missing.
        seed: of every random choice; the same seed gives the same pictures.

    Returns:
        The pictures and, last, `truth.csv` with the columns slide, class, x, y (level-0 pixels).
    """
    directory.mkdir(parents=True, exist_ok=True)
    truth: dict[Path, tuple[TrueCell, ...]] = {}
    for number, field in enumerate(FIELDS):
        smear = Smear(
            field.width,
            field.height,
            field.um_per_px,
            field.white_cells,
            seed * (len(FIELDS) + 1) + number,
            field.look,
            field.blur_um,
        )
        path = directory / field.name
        write_field(path, smear.render(0, 0, field.width, field.height), field.um_per_px if field.scale_noted else None)
        truth[path] = smear.truth
    slide = directory / SLIDE_NAME
    slide_seed = seed * (len(FIELDS) + 1) + len(FIELDS)
    truth[slide] = write_slide(slide, SLIDE_SIZE, SLIDE_UM_PER_PX, SLIDE_WHITE_CELLS, slide_seed)
    table = directory / "truth.csv"
    _write_truth(table, truth)
    return [*truth, table]


def _write_truth(path: Path, truth: dict[Path, tuple[TrueCell, ...]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["slide", "class", "x", "y"])
        for picture, cells in truth.items():
            rows.writerows([picture.name, cell.class_name, f"{cell.x:.1f}", f"{cell.y:.1f}"] for cell in cells)
