"""The slides of runs with the day or batch that they belong to."""

from __future__ import annotations

import csv
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from wbc_cli.csv_files.formulas import unescape_formula
from wbc_cli.csv_files.rows import read_rows
from wbc_cli.errors import UsageError
from wbc_cli.products.slide_folders import CELLS, RECORD
from wbc_cli.products.tables import FAILED


@dataclass(frozen=True)
class Slide:
    """A slide that was analysed.

    Attributes:
        group: day (YYYY-MM-DD) or run.
        record: its slide.json.
        confidence: mean of its cells', 0 to 1; None without cells.
    """

    group: str
    record: Mapping[str, Any]
    confidence: float | None


def read_slides(runs: Sequence[Path], by_run: bool, dates: Mapping[str, str]) -> list[Slide]:
    """Read the slides of runs, each once though several have it, as a merged folder has those of its sources.

    Args:
        runs: folders that `analyze -o` or `merge -o` wrote.
        by_run: a run is a group, and not a day.
        dates: day of each slide, by name; where it is empty, the day on which the slide was analysed counts: the
            time of its cells.csv.

    Raises:
        UsageError: a folder holds no slides, or a slide has no date.
    """
    times = Counter(run.name for run in runs)
    slides, digests = [], set[str]()
    for run in runs:
        label = run.name if times[run.name] == 1 else str(run)
        records = list(_records(run))
        if not records:
            raise UsageError(f"{run}: holds no slides; give folders that `analyze -o` wrote")
        for folder, digest, record in records:
            if digest in digests or record["status"] == FAILED:
                continue
            digests.add(digest)
            group = label if by_run else _day(folder, record["name"], dates)
            slides.append(Slide(group, record, _confidence(folder / CELLS)))
    return slides


def read_dates(path: Path) -> dict[str, str]:
    """Read the day of each slide: CSV with the columns slide and date (YYYY-MM-DD).

    Raises:
        UsageError: the file cannot be read, or has other dates.
    """
    dates = {}
    for number, row in read_rows(path, ("slide", "date")):
        try:
            dates[unescape_formula(row["slide"])] = date.fromisoformat(row["date"]).isoformat()
        except ValueError as error:
            raise UsageError(f"{path}, line {number}: {row['date']!r} is no date; write it as 2026-01-31") from error
    return dates


def _records(run: Path) -> Iterator[tuple[Path, str, Mapping[str, Any]]]:
    for file in sorted((run / "slides").glob(f"*/{RECORD}")):
        data = file.read_bytes()
        try:
            record = json.loads(data)
            known = isinstance(record["name"], str) and isinstance(record["status"], str)
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{file}: not the record of a slide ({error}); analyse it again") from error
        if known:
            yield file.parent, hashlib.sha256(data).hexdigest(), record


def _day(folder: Path, name: str, dates: Mapping[str, str]) -> str:
    if not dates:
        return date.fromtimestamp((folder / CELLS).stat().st_mtime).isoformat()
    if name not in dates:
        raise UsageError(f"--dates: has no date of {name}; give every slide's, or none")
    return dates[name]


def _confidence(table: Path) -> float | None:
    with table.open(encoding="utf-8", newline="") as file:
        found = [float(row["confidence"]) for row in csv.DictReader(file)]
    return sum(found) / len(found) if found else None
