"""The cells of a run as the page shows them, and which of them it has room for."""

from __future__ import annotations

import base64
import csv
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

import numpy as np

from wbc_cli.classes import CLASS_NAMES
from wbc_cli.products.features import read_features
from wbc_cli.products.registry import FEATURES
from wbc_cli.products.selection import needs_review, sample
from wbc_cli.products.tables import REFUSED
from wbc_cli.products.teaching import teaching_order
from wbc_cli.products.thumbnails import MAX_THUMBNAILS, read_thumbnails

MAX_TAUGHT = 200  # cells that the page offers for a laboratory's profile
_FIGURES = ("area_um2", "nucleus_area_um2", "saliency", "cam_in_cell", "cam_saliency", "cam_stability")


@dataclass(frozen=True, slots=True)
class ReportCell:
    """A row of a slide's cells.csv.

    Attributes:
        folder: the slide's name.
        slide: the same as cells.csv writes it.
        id: of the cell in its slide.
        x, y: level-0 pixels.
        class_name, confidence, probabilities: as in `Cell`.
        figures: areas in um2, saliency, and how consistent the Grad-CAM is; None where that was not measured.
        morphology: what it looks like, in words.
        flags: its own.
        refused: its slide is.
    """

    folder: str
    slide: str
    id: int
    x: float
    y: float
    class_name: str
    confidence: float
    probabilities: tuple[float, ...]
    figures: tuple[float | None, ...]
    morphology: str
    flags: tuple[str, ...]
    refused: bool


@dataclass(frozen=True)
class Gallery:
    """The cells on the page.

    Attributes:
        cells: by slide and id.
        pictures: a WebP file in base64 for each of them, empty where there is none.
        teaching: places of those that a profile learns most from, in the order in which to review them; empty where the
            run kept no features.
        total: how many cells the slides have.
        to_review: how many of those are flagged, unidentified or suspected blasts, on slides that are not refused.
    """

    cells: tuple[ReportCell, ...]
    pictures: tuple[str, ...]
    teaching: tuple[int, ...]
    total: int
    to_review: int


def collect(tables: Iterable[tuple[str, Path]], thumbnails: str, budget: int) -> Gallery:
    """Choose cells for the page: all where there is room, else those to review first and some of every class.

    Args:
        tables: name and cells.csv of each slide.
        thumbnails: name of the file with their pictures beside the tables.
        budget: characters that all pictures may have.
    """
    pool: list[ReportCell] = []
    seen = Counter[str]()
    folders: dict[str, Path] = {}
    for name, table in tables:
        for cell in read_cells(name, table):
            folders[name] = table.parent
            pool.append(cell)
            seen["total"] += 1
            seen["review"] += needs_review(cell) and not cell.refused
        if len(pool) > 8 * MAX_THUMBNAILS:  # so that memory does not grow with the run
            pool = sample(pool, 4 * MAX_THUMBNAILS)
    chosen = sample(pool, MAX_THUMBNAILS)
    while True:
        chosen.sort(key=attrgetter("folder", "id"))
        pictures = _pictures(chosen, folders, thumbnails)
        size = sum(map(len, pictures))
        if size <= budget:
            return Gallery(tuple(chosen), tuple(pictures), _teaching(chosen, folders), seen["total"], seen["review"])
        chosen = sample(chosen, int(0.98 * len(chosen) * budget / size))


def read_cells(name: str, table: Path) -> Iterator[ReportCell]:
    """Read a slide's cells.csv."""
    with table.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            flags = tuple(flag for flag in row["flags"].split(";") if flag)
            yield ReportCell(
                folder=name,
                slide=row["slide"],
                id=int(row["cell"]),
                x=float(row["x"]),
                y=float(row["y"]),
                class_name=row["class"],
                confidence=float(row["confidence"]),
                probabilities=tuple(float(row[f"p_{name}"]) for name in CLASS_NAMES),
                figures=tuple(float(row[figure]) if row[figure] else None for figure in _FIGURES),
                morphology=row["morphology"],
                flags=tuple(flag for flag in flags if flag != REFUSED),
                refused=REFUSED in flags,
            )


def _pictures(cells: Sequence[ReportCell], folders: dict[str, Path], thumbnails: str) -> list[str]:
    ids: dict[str, list[int]] = defaultdict(list)
    for cell in cells:
        ids[cell.folder].append(cell.id)
    found = {name: read_thumbnails(folders[name] / thumbnails, wanted) for name, wanted in ids.items()}
    return [base64.b64encode(found[cell.folder].get(cell.id, b"")).decode("ascii") for cell in cells]


def _teaching(cells: Sequence[ReportCell], folders: dict[str, Path]) -> tuple[int, ...]:
    kept = {name: read_features(folders[name] / FEATURES) for name in {cell.folder for cell in cells}}
    rows = {name: features for name, features in kept.items() if features is not None}
    # A refused slide is to be made again, and half a cell teaches little. Features that are fewer than the cells are of
    # another analysis.
    whole = [(i, c) for i, c in enumerate(cells) if not c.refused and "edge" not in c.flags]
    able = [i for i, c in whole if c.folder in rows and c.id <= len(rows[c.folder])]
    if not able:
        return ()
    features = np.stack([rows[cells[i].folder][cells[i].id - 1] for i in able])
    probabilities = np.array([cells[i].probabilities for i in able])
    return tuple(able[i] for i in teaching_order(features, probabilities, MAX_TAUGHT))
