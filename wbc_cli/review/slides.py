"""The cells of a run's slides as a review needs them, read when they are asked for."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from wbc_cli.csv_files.formulas import unescape_formula
from wbc_cli.errors import UsageError


@dataclass(frozen=True)
class SlideCells:
    """The rows of one slide in cells.csv.

    Attributes:
        written: the slide's name as the tables write it.
        classes: class of each cell by its number, in the order of the table.
        sha256: checksum of the slide's own cells.csv, by which it is known whether the slide has been analysed anew.
    """

    written: str
    classes: Mapping[str, str]
    sha256: str


class RunCells:
    """The cells of all slides of a run, by slide."""

    def __init__(self, tables: Mapping[str, Path]) -> None:
        """Know where the cells are.

        Args:
            tables: the cells.csv of each slide by its name.
        """
        self.tables = tables
        self._names = {_printable(name): name for name in tables}
        self._read: dict[str, SlideCells] = {}

    def slide_named(self, written: str) -> str | None:
        """Find the slide that a table means by a name; None where the run has no such slide."""
        return self._names.get(written) or self._names.get(unescape_formula(written))

    def of(self, slide: str) -> SlideCells | None:
        """Read the cells of a slide; None where the run has no such slide.

        Raises:
            UsageError: its table cannot be read.
        """
        if slide not in self.tables:
            return None
        if slide not in self._read:
            self._read[slide] = _read(slide, self.tables[slide])
        return self._read[slide]


def _printable(name: str) -> str:
    """Escape a file name that is not UTF-8, as it stands in tables."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def _read(slide: str, table: Path) -> SlideCells:
    try:
        content = table.read_bytes()
        rows = list(csv.DictReader(io.StringIO(content.decode("utf-8"), newline="")))
        written = rows[0]["slide"] if rows else _printable(slide)
        classes = {row["cell"]: row["class"] for row in rows}
    except (OSError, UnicodeError, csv.Error, KeyError) as error:
        raise UsageError(f"{table}: cannot be read ({error}); analyse the slide again") from error
    return SlideCells(written, classes, hashlib.sha256(content).hexdigest())
