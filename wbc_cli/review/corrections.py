"""Corrections that reviewers hand in as CSV, as the report or Excel saves them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from wbc_cli.classes import BY_NAME
from wbc_cli.csv_files.formulas import FORMULA_STARTS
from wbc_cli.csv_files.rows import read_rows
from wbc_cli.errors import UsageError
from wbc_cli.review.slides import RunCells
from wbc_cli.review.times import utc_time


@dataclass(frozen=True)
class Correction:
    """A correction says what a cell is by a reviewer's word.

    Attributes:
        slide, cell: the cell.
        class_name: a name of `classes.BY_NAME`; the one that was found, where the reviewer confirms it.
        reviewer: who says so.
        time: when, in UTC to the second.
    """

    slide: str
    cell: str
    class_name: str
    reviewer: str
    time: datetime


def read_corrections(files: Sequence[Path], cells: RunCells, reviewer: str, now: datetime) -> list[Correction]:
    """Read corrections and hold them against the cells of a run.

    Args:
        files: CSVs with the columns cell and class; slide, which may be left out where the run has only one; reviewer
            and time (ISO 8601 with its zone) where they say so.
        cells: of the run.
        reviewer: of the rows that do not name theirs.
        now: the time of the rows that do not give theirs.

    Raises:
        UsageError: a file cannot be read, names what is not there, or contradicts another of the same reviewer.
    """
    said: dict[tuple[str, str, str, datetime], Correction] = {}
    for file in files:
        for number, row in read_rows(file, ("cell", "class")):
            correction = _correction(row, f"{file}, line {number}", cells, reviewer, now)
            key = (correction.slide, correction.cell, correction.reviewer, correction.time)
            if (known := said.setdefault(key, correction)) != correction:
                raise UsageError(
                    f"{file}, line {number}: says {correction.class_name} of a cell that was called "
                    f"{known.class_name} before by the same reviewer; leave one of the two out"
                )
    return sorted(said.values(), key=lambda correction: correction.time)


def checked_reviewer(name: str, place: str) -> None:
    """See that a name can stand in tables.

    Raises:
        UsageError: it cannot.
    """
    if not name.isprintable() or name != name.strip() or name.startswith(FORMULA_STARTS):
        raise UsageError(
            f"{place}: {name!r} cannot be a reviewer's name; give one without line breaks or spaces around it that "
            "does not begin as a formula"
        )


def _correction(row: dict[str, str], place: str, cells: RunCells, reviewer: str, now: datetime) -> Correction:
    slide = _slide(row.get("slide", ""), place, row["cell"], cells)
    if row["class"] not in BY_NAME:
        raise UsageError(f"{place}: no class {row['class']!r}; give one of {', '.join(BY_NAME)}")
    who = row.get("reviewer") or reviewer
    checked_reviewer(who, place)
    try:
        when = utc_time(row["time"]) if row.get("time") else now
    except ValueError as error:
        raise UsageError(
            f"{place}: time {row['time']!r} is not as 2026-01-31T08:15:00Z ({error}); give it so, or leave it out"
        ) from error
    return Correction(slide, row["cell"], row["class"], who, when)


def _slide(written: str, place: str, cell: str, cells: RunCells) -> str:
    named = next(iter(cells.tables)) if not written and len(cells.tables) == 1 else cells.slide_named(written)
    found = cells.of(named) if named is not None else None
    if named is None or found is None or cell not in found.classes:
        raise UsageError(f"{place}: no cell {cell!r} of slide {written or named or ''!r} in the results")
    return named
