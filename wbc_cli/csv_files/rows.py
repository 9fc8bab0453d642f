"""Tables with named columns that users hand in: manifests, labels, corrections."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from wbc_cli.csv_files.decoding import decode, delimiter_of, from_windows
from wbc_cli.errors import UsageError

_SEPARATOR = "sep="  # how a first line begins that tells Excel the delimiter


def read_rows(path: Path, required: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """Read a CSV file: each row by its line number, stripped, missing cells empty; rows of empty cells do not count.

    As Excel saves it, too: with semicolons or tabs, in UTF-16 or windows-1252.

    Raises:
        UsageError: the file cannot be read, or lacks a required column.
    """
    try:
        text = from_windows(decode(path.read_bytes()))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); give a CSV file") from error
    lines = io.StringIO(text, newline="")
    skipped = 1 if text.startswith(_SEPARATOR) and lines.readline() else 0
    header = lines.readline()
    lines.seek(lines.tell() - len(header))
    reader = csv.DictReader(lines, restkey="", restval="", delimiter=delimiter_of(header))
    try:
        reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
        missing = [name for name in required if name not in reader.fieldnames]
        if missing:
            raise UsageError(f"{path}: no column {', '.join(missing)}; the first line must name the columns")
        for row in reader:
            cells = {name: value.strip() for name, value in row.items() if name}
            if any(cells.values()):
                yield skipped + reader.line_num, cells
    except csv.Error as error:
        raise UsageError(f"{path}, line {skipped + reader.line_num}: {error}; save it as plain CSV") from error
