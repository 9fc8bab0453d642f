"""The two sides of a comparison: what a run counted, and what readers say in a table of their own."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath

from wbc_cli.classes import BY_NAME
from wbc_cli.comparison.counts import CellKey, Reader
from wbc_cli.csv_files.formulas import unescape_formula
from wbc_cli.csv_files.rows import read_rows
from wbc_cli.errors import UsageError
from wbc_cli.products.tables import DONE, REFUSED

TOOL = "wbc-cli"
ONE_READER = "reader"
"""What a reader is called where the reference names none."""

Row = tuple[int, dict[str, str]]


@dataclass(frozen=True)
class Results:
    """A run.

    Attributes:
        tool: what it counted, by sample where the run has samples.csv, else by slide.
        not_counted: samples without a differential, and why.
        table: the file that the counts come from.
        cells: the run's cells.csv.
    """

    tool: Reader
    not_counted: Mapping[str, str]
    table: Path
    cells: Path


@dataclass(frozen=True)
class Reference:
    """The counts and types that the readers give.

    Attributes:
        readers: in the order of the file.
        tool: what the tool says of the same; for a reference by cell, of the slides that it names.
        by_cell: the readers typed the tool's own cells.
        named: share of those cells that the readers have named; the others count as right, as in a review.
        missing: samples that are not compared, and why.
    """

    readers: tuple[Reader, ...]
    tool: Reader
    by_cell: bool
    named: float
    missing: Mapping[str, str]


def read_results(folder: Path) -> Results:
    """Read what a run counted.

    Raises:
        UsageError: the folder holds no tables of a run.
    """
    table, key = folder / "samples.csv", "sample"
    if not table.exists():
        table, key = folder / "differential.csv", "slide"
    if not table.exists():
        raise UsageError(f"{folder}: holds no results; give a folder that `analyze -o` or `merge -o` wrote")
    columns = {name: f"{name}_count" for name in BY_NAME}
    samples, not_counted = {}, {}
    for number, row in read_rows(table, (key, "status", *columns.values())):
        name = unescape_formula(row[key])
        if row["status"] == DONE:
            samples[name] = {kind: _count(table, number, row[column]) for kind, column in columns.items()}
        else:
            not_counted[name] = f"{row['status']}: {row.get('reason') or row.get('left_out', '')}".rstrip(": ")
    return Results(Reader(TOOL, samples, frozenset(BY_NAME)), not_counted, table, folder / "cells.csv")


def read_reference(path: Path, results: Results) -> Reference:
    """Read what readers say: `sample,reader,class,count`, or `slide,cell,class` as the report's review saves it.

    The column reader may be left out where there is one. Samples may be named without the ending of their file.

    Raises:
        UsageError: the file cannot be read, contradicts itself, names no class of ours, or no sample of the run.
    """
    rows = list(read_rows(path, ("class",)))
    if not rows:
        raise UsageError(f"{path}: has no rows; give a row per sample, reader and class, or per cell")
    columns = rows[0][1].keys()
    if {"sample", "count"} <= columns:
        found = _by_sample(path, rows, results)
    elif {"slide", "cell"} <= columns:
        found = _by_cell(path, rows, results)
    else:
        raise UsageError(f"{path}: give the columns sample, reader, class, count; or slide, cell, class")
    if not any(sample in found.tool.samples for reader in found.readers for sample in reader.samples):
        known = ", ".join(list(results.tool.samples)[:3]) or "none that was counted"
        raise UsageError(f"{path}: names no sample of {results.table}, which has {known}; check how they are named")
    return found


def _by_sample(path: Path, rows: Iterable[Row], results: Results) -> Reference:
    ours = _Names((*results.tool.samples, *results.not_counted))
    counts: dict[str, dict[str, dict[str, int]]] = {}
    missing: dict[str, str] = {}
    for number, row in rows:
        name, kind = unescape_formula(row["sample"]), _class_of(path, number, row["class"])
        sample = ours.find(name)
        if sample is None:
            missing[name] = "not in the results"
            continue
        if sample in results.not_counted:
            missing[name] = results.not_counted[sample]
            continue
        class_counts = counts.setdefault(row.get("reader") or ONE_READER, {}).setdefault(sample, {})
        if kind in class_counts:
            raise UsageError(f"{path}, line {number}: counts {kind} of {name} a second time; give one row a class")
        class_counts[kind] = _count(path, number, row["count"])
    readers = tuple(
        Reader(reader, samples, frozenset(kind for class_counts in samples.values() for kind in class_counts))
        for reader, samples in counts.items()
    )
    return Reference(readers, results.tool, False, 1.0, missing)


def _by_cell(path: Path, rows: Iterable[Row], results: Results) -> Reference:
    typed: dict[str, dict[CellKey, str]] = defaultdict(dict)
    lines: dict[CellKey, int] = {}
    for number, row in rows:
        key, kind = (unescape_formula(row["slide"]), row["cell"]), _class_of(path, number, row["class"])
        reader = typed[row.get("reader") or ONE_READER]
        if reader.setdefault(key, kind) != kind:
            raise UsageError(f"{path}, line {number}: says {kind} of a cell that was called {reader[key]} before")
        lines.setdefault(key, number)
    slides = {slide for slide, _ in lines}
    tool: dict[CellKey, str] = {}
    refused: set[str] = set()
    for _, row in read_rows(results.cells, ("slide", "cell", "class", "flags")):
        slide = unescape_formula(row["slide"])
        if slide in slides:
            tool[slide, row["cell"]] = row["class"]
            refused |= {slide} if REFUSED in row["flags"].split(";") else set()
    for key, number in lines.items():
        if key not in tool:
            raise UsageError(f"{path}, line {number}: no cell {key[1]!r} of slide {key[0]!r} in {results.cells}")
    tool = {key: kind for key, kind in tool.items() if key[0] not in refused}
    readers, named = [], 0
    for name, cells in typed.items():
        own = {slide for slide, _ in cells}
        whole = {key: cells.get(key, kind) for key, kind in tool.items() if key[0] in own}
        named += sum(key in cells for key in whole)
        readers.append(Reader(name, _counted(whole), frozenset(BY_NAME), whole))
    total = sum(len(reader.cells) for reader in readers)
    missing = {slide: "refused: its types are not to be trusted" for slide in sorted(refused)}
    return Reference(
        tuple(readers), Reader(TOOL, _counted(tool), frozenset(BY_NAME), tool), True, named / max(1, total), missing
    )


def _counted(cells: Mapping[CellKey, str]) -> dict[str, Counter[str]]:
    samples: dict[str, Counter[str]] = defaultdict(Counter)
    for (slide, _), kind in cells.items():
        samples[slide][kind] += 1
    return dict(samples)


class _Names:
    """The run's names, found also without the ending of the file where that leaves no doubt."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = set(names)
        self.stems: dict[str, list[str]] = defaultdict(list)
        for name in self.names:
            self.stems[PurePath(name).stem].append(name)

    def find(self, name: str) -> str | None:
        alike = self.stems.get(name, [])
        return name if name in self.names else alike[0] if len(alike) == 1 else None


def _class_of(path: Path, number: int, text: str) -> str:
    name = text.casefold().replace(" ", "_")
    found = next((known for known in (name, name.removesuffix("s")) if known in BY_NAME), None)
    if found is None:
        raise UsageError(f"{path}, line {number}: no class {text!r}; give one of {', '.join(BY_NAME)}")
    return found


def _count(path: Path, number: int, text: str) -> int:
    try:
        count = float(text.replace(",", "."))
    except ValueError:
        count = -1
    if count < 0 or not count.is_integer():
        raise UsageError(f"{path}, line {number}: {text!r} is no count; give the number of cells, and no percentage")
    return int(count)
