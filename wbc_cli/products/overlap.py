"""Cells that two overlapping fields of one sample both show, found from what the run has kept of each cell.

A cell and its twin have nearly the same features and the same surroundings, grain by grain. So each cell is compared
with the few that its features are nearest to, and where two pictures match, everything else that lies in the same place
under the same shift is the same cell, too. The cost grows with the cells, not with the pairs of fields.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from wbc_cli.products.features import read_features
from wbc_cli.products.records import Records
from wbc_cli.products.registry import FEATURES, THUMBNAILS
from wbc_cli.products.tables import DONE, SlideRecord, open_table, text
from wbc_cli.products.thumbnails import read_thumbnails, shown_um

OVERLAP = "overlap"
"""Flag of a slide that shares cells with another of its sample."""
OVERLAP_UNCHECKED = "overlap_unchecked"
"""Flag of a slide of which too little was kept to tell."""
TWICE = "possibly_twice"
"""Of a record: its cells that an earlier slide of its sample shows, too, as [cell, slide, cell there]."""
OVERLAP_COLUMNS = ("slide", "cell", "other_slide", "other_cell")

# Measured on 50 fields of two laboratories, each cut into two that overlap and the second made brighter, noisier and
# compressed anew: of 40 cells that both show 37 match better than 0.68, of 8,718 pairs of other cells none better
# than 0.62.
_MATCH = 0.68
_NEIGHBOURS = 6
_COMPONENTS = 8  # of the features: a tree of more dimensions saves nothing
_GRAIN = 3.0  # pixels of a thumbnail: what is coarser is alike in all cells of a stain
_PATCH, _SEARCH = 52, 80  # pixels: of the part that is looked for, and of the part it is looked for in
_SAME_PLACE = 0.12  # of a thumbnail's width, that is 3 um


class _Cell(NamedTuple):
    """A cell; lengths are level-0 pixels of its slide."""

    id: str
    x: float
    y: float
    side: float  # of its thumbnail
    picture: bytes


@dataclass(frozen=True)
class _Field:
    name: str
    cells: list[_Cell]
    features: NDArray[np.float32]


def flag_overlaps(records: Records, slides: Path) -> Records:
    """Flag the slides that share cells with others of their sample, and say which cells.

    Args:
        records: of a run's slides.
        slides: the folder that has theirs.

    Returns:
        The same records; of each pair of slides that overlap both have OVERLAP, and the later one says under TWICE
        which cells. Those that could not be compared have OVERLAP_UNCHECKED.
    """
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for record in records:
        if record["status"] == DONE and record.get("sample"):
            groups[record["sample"]["name"], record["sample"]["folder"]].append(record["name"])
    flagged = records.copy()
    for names in groups.values():
        if len(names) > 1:
            _flag(flagged, names, slides)
    return flagged


def _flag(records: Records, names: Sequence[str], slides: Path) -> None:
    """Flag slides of one sample."""
    fields = []
    by = None
    for name in names:
        record = records.get(name)
        assert record is not None
        by = by or _weights(record)
        # Features of other weights cannot be compared.
        field = _read(slides, record) if _weights(record) == by else None
        if field is None:
            records.add({**record, "flags": [*record["flags"], OVERLAP_UNCHECKED]})
        else:
            fields.append(field)
    for name, twins in _twins(fields).items():
        record = records.get(name)
        assert record is not None
        flags = [*record["flags"], OVERLAP]
        records.add({**record, "flags": flags, TWICE: [twin for twin in twins if twin[1] < name]})


def write_overlaps(records: Iterable[SlideRecord], path: Path) -> None:
    """Write overlaps.csv: a row for each cell that an earlier field of its sample seems to show, too.

    Raises:
        OSError: the disk is full or read-only.
    """
    with open_table(path) as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(OVERLAP_COLUMNS)
        for record in records:
            for cell, other, twin in record.get(TWICE, ()):
                rows.writerow([text(record["name"]), cell, text(other), twin])


def _weights(record: SlideRecord) -> str | None:
    weights: str | None = record.get("model", {}).get("weights")
    return weights


def _read(slides: Path, record: SlideRecord) -> _Field | None:
    """Read what was kept of a slide's cells; None where that is not enough to compare them."""
    folder, um_per_px = slides / record["name"], record["scale"]["um_per_px"]
    across, down = (um / um_per_px for um in record["pixel_um"])
    with (folder / "cells.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    features = read_features(folder / FEATURES)
    pictures = read_thumbnails(folder / THUMBNAILS, (int(row["cell"]) for row in rows))
    if features is None or len(features) != len(rows) or (rows and not features.size) or len(pictures) < len(rows):
        return None
    cells = []
    for row in rows:
        x0, x1 = int(row["x0"]) * across, int(row["x1"]) * across
        y0, y1 = int(row["y0"]) * down, int(row["y1"]) * down
        side = shown_um(max(x1 - x0, y1 - y0) * um_per_px) / um_per_px
        cells.append(_Cell(row["cell"], (x0 + x1) / 2, (y0 + y1) / 2, side, pictures[int(row["cell"])]))
    return _Field(record["name"], cells, features.astype(np.float32))


def _twins(fields: Sequence[_Field]) -> dict[str, list[tuple[str, str, str]]]:
    """Find by slide each of its cells that another shows, the other slide and the cell there."""
    matched: dict[tuple[int, int], list[tuple[float, float]]] = defaultdict(list)
    for first, a, second, b in _near(fields):
        known = matched[first, second]
        shift = b.x - a.x, b.y - a.y
        # One look at a shift is enough.
        if not any(_close(shift, other, a.side) for other in known) and _agreement(a, b) >= _MATCH:
            known.append(shift)
    found: dict[str, list[tuple[str, str, str]]] = defaultdict(list)
    for (first, second), shifts in matched.items():
        pairs = {
            (a.id, b.id)
            for shift in shifts
            for a in fields[first].cells
            for b in fields[second].cells
            if _close((b.x - a.x, b.y - a.y), shift, a.side)
        }
        for one, other in sorted(pairs, key=lambda pair: (int(pair[0]), int(pair[1]))):
            found[fields[first].name].append((one, fields[second].name, other))
            found[fields[second].name].append((other, fields[first].name, one))
    return found


def _near(fields: Sequence[_Field]) -> Iterator[tuple[int, _Cell, int, _Cell]]:
    """Yield pairs of cells with nearly the same features, each with the place of its field; the earlier field first."""
    cells = [(place, cell) for place, field in enumerate(fields) for cell in field.cells]
    rows = [field.features for field in fields if len(field.features)]
    if len(rows) < 2:
        return
    features = np.concatenate(rows)
    features = features - features.mean(axis=0)
    _, directions = np.linalg.eigh(features.T @ features)
    reduced = features @ directions[:, -_COMPONENTS:]
    count = min(_NEIGHBOURS + 1, len(cells))
    _, nearest = cKDTree(reduced).query(reduced, k=count)
    seen: set[tuple[int, int]] = set()
    for one, others in enumerate(nearest.tolist()):
        for other in others:
            pair = min(one, other), max(one, other)
            if cells[one][0] != cells[other][0] and pair not in seen:
                seen.add(pair)
                yield *cells[pair[0]], *cells[pair[1]]


def _close(shift: tuple[float, float], other: tuple[float, float], side: float) -> bool:
    return max(abs(shift[0] - other[0]), abs(shift[1] - other[1])) <= _SAME_PLACE * side


def _agreement(a: _Cell, b: _Cell) -> float:
    """Measure how well the middle of one thumbnail is found in the other, -1 to 1, both at one scale."""
    side = min(a.side, b.side)
    looked_for = _grain(a, side * _PATCH / _SEARCH, _PATCH)
    return float(cv2.matchTemplate(_grain(b, side, _SEARCH), looked_for, cv2.TM_CCOEFF_NORMED).max())


def _grain(cell: _Cell, width: float, size: int) -> NDArray[np.float32]:
    """Return the fine structure in the middle of a cell's thumbnail, `width` level-0 pixels, float32 [size, size]."""
    picture: Any = cv2.imdecode(np.frombuffer(cell.picture, np.uint8), cv2.IMREAD_GRAYSCALE)
    zoom = size / (width * len(picture) / cell.side)
    shift = (size - len(picture) * zoom) / 2
    matrix = np.array([[zoom, 0, shift + (zoom - 1) / 2], [0, zoom, shift + (zoom - 1) / 2]])
    patch = cv2.warpAffine(picture, matrix, (size, size), flags=cv2.INTER_LINEAR).astype(np.float32)
    fine: NDArray[np.float32] = patch - cv2.GaussianBlur(patch, (0, 0), _GRAIN)
    return fine
