"""Cells that two overlapping fields of one sample both show, found from what the run has kept of each cell.

A cell and its twin have nearly the same features and the same surroundings, grain by grain. So each cell is compared
with the few that its features are nearest to, and where two pictures match, everything else that lies in the same place
under the same shift is the same cell, too. The cost grows with the cells, not with their pairs or those of fields.
"""

from __future__ import annotations

import csv
from array import array
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import reduce
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from wbc_cli.csv_files.formulas import escape_formula
from wbc_cli.products.features import read_features
from wbc_cli.products.records import Records
from wbc_cli.products.registry import FEATURES, THUMBNAILS
from wbc_cli.products.tables import DONE, SlideRecord, open_table
from wbc_cli.products.thumbnails import read_thumbnails, shown_um
from wbc_cli.slides.names import file_name

OVERLAP = "overlap"
"""The flag of a slide that shares cells with another of its sample."""
OVERLAP_UNCHECKED = "overlap_unchecked"
"""The flag of a slide of which too little was kept to tell."""
TWICE = "possibly_twice"
"""The key of a record's cells that an earlier slide of its sample shows as well, each as [cell, slide, cell there]."""
OVERLAP_COLUMNS = ("slide", "cell", "other_slide", "other_cell")

# Measured on 50 fields of two laboratories, each cut into two that overlap and the second made brighter, noisier and
# compressed anew: of 40 cells that both show 37 match better than 0.68, of 8,718 pairs of other cells none better
# than 0.62.
_MATCH = 0.68
_NEIGHBOURS = 6
_COMPONENTS = 8  # of the features: a tree of more dimensions saves nothing
_GRAIN = 3.0  # pixels of a thumbnail: what is coarser is alike in all cells of a stain
_PATCH, _SEARCH = 52, 80  # pixels: of the part that is looked for, and of the part it is looked for in
_AT_ONCE = 4096  # cells whose features are in memory
_SAME_PLACE = 0.12  # of a thumbnail's width, that is 3 um
_MOST_SHIFTS = 32  # of two fields: they have one, and more where one is a little turned, or their stage has drifted
_LARGEST_FIELD = 100_000_000  # pixels: what is larger is no camera field but a scan, and a sample by itself


class _Cell(NamedTuple):
    """A cell; lengths are level-0 pixels of its slide."""

    id: int
    x: float
    y: float
    side: float  # of its thumbnail


class _Fields:
    """The fields of one sample, which may be very many: thumbnails and features of their cells lie in two files.

    Attributes:
        names: of the fields.
        starts: where the cells of each field begin, and where the last ones end.
    """

    def __init__(self, pictures: IO[bytes], features: IO[bytes]) -> None:
        """Begin with no field and two empty files."""
        self.names: list[str] = []
        self.starts = [0]
        self._cells = array("d")
        self._pictures, self._places = pictures, array("q", [0])
        self._features, self._width = features, 0

    def add(self, record: SlideRecord, folder: Path) -> bool:
        """Add a field; tell whether enough was kept of its cells to compare them."""
        with (folder / "cells.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        features = read_features(folder / FEATURES)
        pictures = read_thumbnails(folder / THUMBNAILS, (int(row["cell"]) for row in rows))
        if features is None or len(features) != len(rows) or (rows and not features.size) or len(pictures) < len(rows):
            return False
        for row in rows:
            self._cells.extend(_cell(row, record))
            self._places.append(self._places[-1] + self._pictures.write(pictures[int(row["cell"])]))
        self._features.write(features.tobytes())
        self._width = max(self._width, features.shape[1])
        self.names.append(record["name"])
        self.starts.append(len(self))
        return True

    def __len__(self) -> int:
        return len(self._cells) // len(_Cell._fields)

    def __getitem__(self, place: int) -> _Cell:
        number, *lengths = self._cells[len(_Cell._fields) * place :][: len(_Cell._fields)]
        return _Cell(int(number), *lengths)

    def field_of(self, cell: int) -> int:
        """Return the place of the field that has a cell."""
        return bisect_right(self.starts, cell) - 1

    def cells(self, field: int) -> NDArray[np.float64]:
        """Return the cells of a field, float64 [cells, 4], each as a `_Cell`."""
        start, end = (len(_Cell._fields) * place for place in self.starts[field : field + 2])
        return np.array(self._cells[start:end]).reshape(-1, len(_Cell._fields))

    def picture(self, cell: int) -> bytes:
        """Read the thumbnail of a cell."""
        self._pictures.seek(self._places[cell])
        return self._pictures.read(self._places[cell + 1] - self._places[cell])

    def features(self) -> Iterator[NDArray[np.float64]]:
        """Yield the features of all cells in parts, float64 [some cells, width]."""
        self._features.seek(0)
        while part := self._features.read(_AT_ONCE * self._width * np.dtype(np.float16).itemsize):
            yield np.frombuffer(part, np.float16).reshape(-1, self._width).astype(np.float64)


def sample_of(record: SlideRecord) -> tuple[str, str] | None:
    """Return the name of a slide's sample, and the place that tells it from another of that name.

    None where the slide belongs to no sample.
    """
    sample = record.get("sample")
    if not sample:
        return None
    if sample["folder"] and record.get("width", 0) * record.get("height", 0) > _LARGEST_FIELD:
        return file_name(record["name"]), record["source"]
    return sample["name"], sample["folder"]


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
        if record["status"] == DONE and (sample := sample_of(record)):
            groups[sample].append(record["name"])
    flagged = records.copy()
    for names in groups.values():
        if len(names) > 1:
            _flag(flagged, names, slides)
    return flagged


def _flag(records: Records, names: Sequence[str], slides: Path) -> None:
    """Flag slides of one sample."""
    weights = [_weights(records[name]) for name in names]
    with TemporaryFile(dir=slides.parent) as pictures, TemporaryFile(dir=slides.parent) as features:
        fields = _Fields(pictures, features)
        for name, own in zip(names, weights, strict=True):
            record = records[name]
            # Features of other weights cannot be compared.
            if own != weights[0] or not fields.add(record, slides / name):
                records.add({**record, "flags": [*record["flags"], OVERLAP_UNCHECKED]})
        for name, twins in _twins(fields).items():
            record = records[name]
            earlier = [twin for twin in twins if twin[1] < name]
            records.add({**record, "flags": [*record["flags"], OVERLAP], TWICE: earlier})


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
                rows.writerow([escape_formula(record["name"]), cell, escape_formula(other), twin])


def _weights(record: SlideRecord) -> str | None:
    weights: str | None = record.get("model", {}).get("weights")
    return weights


def _cell(row: Mapping[str, str], record: SlideRecord) -> _Cell:
    um_per_px = record["scale"]["um_per_px"]
    across, down = (um / um_per_px for um in record["pixel_um"])
    x0, x1 = int(row["x0"]) * across, int(row["x1"]) * across
    y0, y1 = int(row["y0"]) * down, int(row["y1"]) * down
    side = shown_um(max(x1 - x0, y1 - y0) * um_per_px) / um_per_px
    return _Cell(int(row["cell"]), (x0 + x1) / 2, (y0 + y1) / 2, side)


def _twins(fields: _Fields) -> dict[str, list[tuple[str, str, str]]]:
    """Find by slide each of its cells that another shows, the other slide and the cell there."""
    shifts: dict[tuple[int, int], list[tuple[float, float]]] = defaultdict(list)
    twins: dict[tuple[int, int], set[tuple[int, int]]] = defaultdict(set)
    for one, other in _near(fields):
        a, b = fields[one], fields[other]
        pair = fields.field_of(one), fields.field_of(other)
        shift = b.x - a.x, b.y - a.y
        # One look at a shift is enough.
        known = any(_close(shift, seen, a.side) for seen in shifts.get(pair, ()))
        if not known and _agreement(fields, one, other) >= _MATCH:
            twins[pair].add((a.id, b.id))
            # What matches under yet another shift counts, but says no more of the other cells.
            if len(shifts[pair]) < _MOST_SHIFTS:
                shifts[pair].append(shift)
    found: dict[str, list[tuple[str, str, str]]] = defaultdict(list)
    for (first, second), pairs in twins.items():
        pairs.update(_in_place(fields.cells(first), fields.cells(second), shifts[first, second]))
        for a_id, b_id in sorted(pairs):
            found[fields.names[first]].append((str(a_id), fields.names[second], str(b_id)))
            found[fields.names[second]].append((str(b_id), fields.names[first], str(a_id)))
    return found


def _in_place(
    first: NDArray[np.float64], second: NDArray[np.float64], shifts: Iterable[tuple[float, float]]
) -> Iterator[tuple[int, int]]:
    """Yield the cells of one field and those of another that lie in the same place under any of some shifts."""
    ids, middles, sides = first[:, 0], first[:, 1:3], first[:, 3]
    tree = _tree(second[:, 1:3])
    for shift in shifts:
        near = tree.query_ball_point(middles + shift, _SAME_PLACE * sides, p=np.inf)
        for cell, places in zip(ids, near, strict=True):
            yield from ((int(cell), int(twin)) for twin in second[places, 0])


def _near(fields: _Fields) -> Iterator[tuple[int, int]]:
    """Yield pairs of cells of different fields with nearly the same features; that of the earlier field first."""
    if len(fields) < 2:
        return
    mean = reduce(np.add, (part.sum(axis=0) for part in fields.features())) / len(fields)
    centred = (part - mean for part in fields.features())
    _, directions = np.linalg.eigh(reduce(np.add, (part.T @ part for part in centred)))
    reduced = np.concatenate([(part - mean) @ directions[:, -_COMPONENTS:] for part in fields.features()])
    count = min(_NEIGHBOURS + 1, len(fields))
    _, nearest = _tree(reduced).query(reduced, k=count)
    one, other = np.repeat(np.arange(len(fields)), count), nearest.ravel()
    pairs = np.minimum(one, other) * len(fields) + np.maximum(one, other)
    _, first = np.unique(pairs, return_index=True)
    for pair in pairs[np.sort(first)]:
        earlier, later = divmod(int(pair), len(fields))
        if fields.field_of(earlier) != fields.field_of(later):
            yield earlier, later


def _tree(points: NDArray[np.float64]) -> Any:  # noqa: ANN401 - scipy has no types
    """Return the cKDTree of points, float64 [points, dimensions]."""
    # Here and not above: it takes a third of a second, and where nothing has changed nothing is compared.
    from scipy.spatial import cKDTree  # noqa: PLC0415

    return cKDTree(points)


def _close(shift: tuple[float, float], other: tuple[float, float], side: float) -> bool:
    return max(abs(shift[0] - other[0]), abs(shift[1] - other[1])) <= _SAME_PLACE * side


def _agreement(fields: _Fields, one: int, other: int) -> float:
    """Measure how well the middle of one thumbnail is found in the other, -1 to 1, both at one scale."""
    a, b = fields[one].side, fields[other].side
    side = min(a, b)
    looked_for = _grain(fields.picture(one), a, side * _PATCH / _SEARCH, _PATCH)
    place = _grain(fields.picture(other), b, side, _SEARCH)
    return float(cv2.matchTemplate(place, looked_for, cv2.TM_CCOEFF_NORMED).max())


def _grain(thumbnail: bytes, side: float, width: float, size: int) -> NDArray[np.float32]:
    """Return the fine structure in the middle of a thumbnail, `width` of its `side` pixels, float32 [size, size]."""
    picture: Any = cv2.imdecode(np.frombuffer(thumbnail, np.uint8), cv2.IMREAD_GRAYSCALE)
    zoom = size / (width * len(picture) / side)
    shift = (size - len(picture) * zoom) / 2
    matrix = np.array([[zoom, 0, shift + (zoom - 1) / 2], [0, zoom, shift + (zoom - 1) / 2]])
    patch = cv2.warpAffine(picture, matrix, (size, size), flags=cv2.INTER_LINEAR).astype(np.float32)
    fine: NDArray[np.float32] = patch - cv2.GaussianBlur(patch, (0, 0), _GRAIN)
    return fine
