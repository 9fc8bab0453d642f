"""List files: paths of slides, a line each, as people and programs write them."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import NamedTuple

from wbc_cli.csv_files.decoding import DELIMITERS, decode, from_windows
from wbc_cli.errors import UsageError

LIST_SUFFIXES = frozenset({".txt", ".csv", ".tsv"})
_PATH_COLUMNS = (
    *("path", "file_path", "filepath", "file", "filename", "file_name", "slide_path", "image_path", "slide", "image"),
    *("slide_id", "wsi", "wsi_path", "name"),
)
_TRIED = 50  # rows that tell which delimiter it is

Row = tuple[int, list[str]]
"""A row of a table: its line, and its cells."""


class Entry(NamedTuple):
    """What a line of a list names, whether or not it is there."""

    line: int
    path: Path


def read_list(path: Path) -> list[Entry]:
    """Read a list: one path a line, relative to the list's folder.

    UTF-8 or UTF-16; paths may also be separated by NUL (`find -print0`). Blank lines and those that begin with # do not
    count. Of a table (.csv, .tsv) the column counts that the header calls a path, file, slide or image, else the first,
    between commas, semicolons or tabs, whichever gives files that are there.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        text = decode(path.read_bytes())
    except OSError as error:
        raise UsageError(f"{path}: cannot read the list: {error.strerror}. Check that you may read it.") from error
    if "\0" in text:
        rows = [(number, [entry]) for number, entry in enumerate(text.split("\0"), start=1)]
    elif path.suffix.lower() == ".txt":
        rows = [(number, [line]) for number, line in enumerate(text.splitlines(), start=1)]
    else:
        tables = [_table(path, text, delimiter) for delimiter in DELIMITERS]
        rows = max(tables, key=lambda table: _there(_entries(table, path.parent)[:_TRIED]))
    entries: dict[Path, Entry] = {}
    for entry in _entries(rows, path.parent):
        entries.setdefault(entry.path, entry)
    return list(entries.values())


def _table(path: Path, text: str, delimiter: str) -> list[Row]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        return [(reader.line_num, row) for row in reader if row and not row[0].startswith("sep=")]
    except csv.Error as error:
        raise UsageError(f"{path}, line {reader.line_num}: {error}; save the list as plain CSV") from error


def _entries(rows: Sequence[Row], folder: Path) -> list[Entry]:
    rows = [(line, [cell.strip() for cell in row]) for line, row in rows]
    rows = [(line, row) for line, row in rows if any(row) and not row[0].startswith("#")]
    column = _column(rows[0][1], folder) if rows else None
    if column is not None:
        rows = rows[1:]
    at = column or 0
    return [Entry(line, _path(row[at], folder)) for line, row in rows if at < len(row) and row[at]]


def _column(first: Sequence[str], folder: Path) -> int | None:
    """Find the column of the paths by the header; None where the first row is no header."""
    if first[0] and _path(first[0], folder).exists():
        return None
    names = [cell.casefold().replace(" ", "_") for cell in first]
    known = next((names.index(name) for name in _PATH_COLUMNS if name in names), None)
    return 0 if known is None and len(first) > 1 and not PurePath(first[0]).suffix else known


def _path(text: str, folder: Path) -> Path:
    """Return a path as the list gives it; where there is no such file, as Windows would have meant it."""
    plain, quoted, windows = folder / text, folder / text.strip('"'), folder / from_windows(text)
    return next((path for path in (plain, quoted, windows) if os.path.lexists(path)), plain)


def _there(entries: Sequence[Entry]) -> int:
    return sum(os.path.lexists(entry.path) for entry in entries)
