"""A reviewer's corrections: the differential as the reviewer sees it, beside the one before, and how far they agree."""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from wbc_cli.classes import BY_NAME, DIFFERENTIAL_NAMES
from wbc_cli.differential import Share, of_counts
from wbc_cli.errors import UsageError
from wbc_cli.rows import read_rows

ALL_SLIDES = "all reviewed slides"
_OTHER_NAMES = tuple(name for name in BY_NAME if name not in DIFFERENTIAL_NAMES)
COLUMNS: tuple[str, ...] = (
    *("slide", "differential", "cells", "changed", "kappa", "before_cells", "reviewed_cells"),
    *(
        f"{name}_{figure}"
        for name in DIFFERENTIAL_NAMES
        for figure in ("before_count", "before_percent", "reviewed_count", "reviewed_percent", "low", "high")
    ),
    *(f"{name}_{figure}" for name in _OTHER_NAMES for figure in ("before_count", "reviewed_count")),
)

CellKey = tuple[str, str]
"""A cell as cells.csv knows it: slide and number."""


@dataclass(frozen=True)
class Review:
    """What reviewers say, and what was said before.

    Attributes:
        before, after: class of every cell of the reviewed slides, by slide in the order of cells.csv.
    """

    before: Mapping[str, Sequence[str]]
    after: Mapping[str, Sequence[str]]

    @property
    def kappa(self) -> float | None:
        """The agreement on all cells of the reviewed slides."""
        return cohens_kappa(*(_joined(classes) for classes in (self.before, self.after)))

    def write(self, path: Path) -> None:
        """Write a row a reviewed slide, and one for all of them.

        Raises:
            OSError: the disk is full or read-only.
        """
        with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
            rows = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            rows.writeheader()
            rows.writerows(_row(slide, self.before[slide], self.after[slide]) for slide in self.before)
            rows.writerow(_row(ALL_SLIDES, _joined(self.before), _joined(self.after)))


def read_review(files: Sequence[Path], cells: Path) -> Review:
    """Apply corrections to the cells of a run.

    A slide that a file names counts as reviewed in full: cells that are not mentioned are right as they were.

    Args:
        files: CSVs with the columns slide, cell and class, as the report or Excel saves them; slide may be left out
            where the run has only one.
        cells: the run's cells.csv.

    Raises:
        UsageError: a file cannot be read, names what is not there, or contradicts another.
    """
    found = (row for _, row in read_rows(cells, ("slide", "cell", "class")))
    before: dict[CellKey, str] = {(row["slide"], row["cell"]): row["class"] for row in found}
    said = read_corrections(files, before, str(cells))
    reviewed = {slide for slide, _ in said}
    classes: tuple[dict[str, list[str]], dict[str, list[str]]] = (defaultdict(list), defaultdict(list))
    for (slide, cell), name in before.items():
        if slide in reviewed:
            classes[0][slide].append(name)
            classes[1][slide].append(said.get((slide, cell), name))
    return Review(*classes)


def read_corrections(files: Sequence[Path], known: Collection[CellKey], where: str) -> dict[CellKey, str]:
    """The class that reviewers give to each cell that they name.

    Args:
        files: see `read_review`.
        known: the cells that there are.
        where: they are, for messages.

    Raises:
        UsageError: a file cannot be read, names what is not there, or contradicts another.
    """
    slides = list(dict.fromkeys(slide for slide, _ in known))
    said: dict[CellKey, str] = {}
    for file in files:
        for number, row in read_rows(file, ("cell", "class")):
            slide = row.get("slide") or (slides[0] if len(slides) == 1 else "")
            key, name = (slide, row["cell"]), row["class"]
            if key not in known:
                raise UsageError(f"{file}, line {number}: no cell {row['cell']!r} of slide {slide!r} in {where}")
            if name not in BY_NAME:
                raise UsageError(f"{file}, line {number}: no class {name!r}; give one of {', '.join(BY_NAME)}")
            if said.setdefault(key, name) != name:
                raise UsageError(f"{file}, line {number}: says {name} of a cell that was called {said[key]} before")
    return said


def cohens_kappa(first: Sequence[str], second: Sequence[str]) -> float | None:
    """Agreement beyond chance (Cohen, 1960); None where chance gives all of it, or there is nothing to compare."""
    total = len(first)
    counts = Counter(first), Counter(second)
    chance = sum(counts[0][name] * counts[1][name] for name in counts[0]) / max(1, total) ** 2
    if total == 0 or chance == 1:
        return None
    agreed = sum(a == b for a, b in zip(first, second, strict=True)) / total
    return (agreed - chance) / (1 - chance)


def _row(slide: str, before: Sequence[str], after: Sequence[str]) -> dict[str, str]:
    old, new = of_counts(Counter(before)), of_counts(Counter(after))
    kappa = cohens_kappa(before, after)
    row = {
        "slide": slide,
        "differential": "reviewed",
        "cells": str(len(before)),
        "changed": str(sum(a != b for a, b in zip(before, after, strict=True))),
        "kappa": "" if kappa is None else f"{kappa:.4f}",
        "before_cells": str(old.differential_cells),
        "reviewed_cells": str(new.differential_cells),
    }
    for name in DIFFERENTIAL_NAMES:
        row |= _side_by_side(name, old.classes[name], new.classes[name])
    for name in _OTHER_NAMES:
        row |= {f"{name}_before_count": str(before.count(name)), f"{name}_reviewed_count": str(after.count(name))}
    return row


def _side_by_side(name: str, old: Share, new: Share) -> dict[str, str]:
    def percent(value: float | None) -> str:
        return "" if value is None else f"{value:.2f}"

    return {
        f"{name}_before_count": str(old.count),
        f"{name}_before_percent": percent(old.percent),
        f"{name}_reviewed_count": str(new.count),
        f"{name}_reviewed_percent": percent(new.percent),
        f"{name}_low": percent(new.low),
        f"{name}_high": percent(new.high),
    }


def _joined(classes: Mapping[str, Sequence[str]]) -> list[str]:
    return [name for names in classes.values() for name in names]
