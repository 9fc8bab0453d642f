"""samples.csv: one differential a sample, from the records of its fields."""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from wbc_cli.csv_files.formulas import escape_formula
from wbc_cli.differential import FEWER_THAN_100, FEWER_THAN_200, Differential, more_cells, of_counts
from wbc_cli.products.constants import STOP_WIDTH
from wbc_cli.products.overlap import OVERLAP, OVERLAP_UNCHECKED, TWICE, sample_of
from wbc_cli.products.records import Records
from wbc_cli.products.tables import (
    COUNT_COLUMNS,
    DONE,
    FAILED,
    REFUSED,
    SlideRecord,
    add_counts,
    count_columns,
    open_table,
)

SAMPLE_COLUMNS: tuple[str, ...] = (
    *("sample", "status", "fields", "fields_used", "fields_left_out", "left_out"),
    *COUNT_COLUMNS,
    *("more_cells", "possibly_twice", "flags", "field_flags"),
)
_FEW_CELLS = frozenset({FEWER_THAN_100, FEWER_THAN_200})  # what a sample is told by all its cells, not by its fields


@dataclass(frozen=True)
class Sample:
    """The fields of one sample and what they come to.

    Attributes:
        name: unique among the samples of a run.
        folder: the folder or file that tells it from another of its name; empty where a table names it.
        fields: the names of its slides.
        used: those of them that are counted.
        left_out: name, status and reason of each that failed or was refused.
        status: done where something is counted, else refused or failed.
        differential: of all cells of the used fields together.
        more: cells to go until the widest interval is narrow enough; None where that is not known.
        twice: the number of cells that an earlier field shows, too.
        flags: of the sample as a whole.
        field_flags: how many of the used fields have each flag, but for those of few cells.
    """

    name: str
    folder: str
    fields: tuple[str, ...]
    used: tuple[str, ...]
    left_out: tuple[str, ...]
    status: str
    differential: Differential
    more: int | None
    twice: int
    flags: tuple[str, ...]
    field_flags: Mapping[str, int]


class _Tally:
    """A sample as far as its fields have been looked at, one after the other."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.fields: list[str] = []
        self.used: list[str] = []
        self.left_out: list[str] = []
        self.statuses: set[str] = set()
        self.counts, self.flags = Counter[str](), Counter[str]()
        self.twice = 0

    def add(self, record: SlideRecord) -> None:
        name, status = str(record["name"]), str(record["status"])
        self.fields.append(name)
        self.statuses.add(status)
        if status != DONE:
            self.left_out.append(f"{name} {status}: {record['reason']}")
            return
        self.used.append(name)
        add_counts(self.counts, record)
        self.flags.update(record["flags"])
        self.twice += len({cell for cell, *_ in record.get(TWICE, ())})

    def sample(self, name: str, stop_width: float) -> Sample:
        differential = of_counts(self.counts)
        doubts = tuple(flag for flag in (OVERLAP, OVERLAP_UNCHECKED) if self.flags[flag])
        return Sample(
            name,
            self.folder,
            tuple(self.fields),
            tuple(self.used),
            tuple(self.left_out),
            next(status for status in (DONE, REFUSED, FAILED) if status in self.statuses),
            differential,
            more_cells(differential, stop_width),
            self.twice,
            (*doubts, *differential.flags),
            {flag: count for flag, count in sorted(self.flags.items()) if flag not in _FEW_CELLS},
        )


def samples_of(records: Records | Iterable[SlideRecord], stop_width: float = STOP_WIDTH) -> list[Sample]:
    """Put the records of a run's slides together by their samples, which are in the order of their names.

    Args:
        records: of the slides; those that belong to no sample are passed over.
        stop_width: percentage points that the widest interval may have.
    """
    groups: dict[tuple[str, str], _Tally] = {}
    for record in Records.of(records):
        if key := sample_of(record):
            if key not in groups:
                groups[key] = _Tally(str(record["sample"]["folder"]))
            groups[key].add(record)
    uses = Counter(name for name, _ in groups)
    samples = [
        tally.sample(
            name if uses[name] == 1 else f"{name} ({hashlib.sha256(_bytes(place)).hexdigest()[:8]})", stop_width
        )
        for (name, place), tally in groups.items()
    ]
    return sorted(samples, key=lambda sample: sample.name)


def write_samples(samples: Iterable[Sample], path: Path) -> None:
    """Write samples.csv, a row a sample in the order given.

    Raises:
        OSError: the disk is full or read-only.
    """
    with open_table(path) as file:
        rows = csv.DictWriter(file, SAMPLE_COLUMNS, restval="", lineterminator="\n")
        rows.writeheader()
        rows.writerows(map(_row, samples))


def stop_width_of(run: Mapping[str, Any]) -> float:
    """Return what run.json says of the widest interval; of merged runs the narrowest, as none would have stopped."""
    widths = [stop_width_of(part) for part in run.get("merged_from", ())]
    return min(widths) if widths else float(run.get("options", {}).get("stop_width", STOP_WIDTH))


def _row(sample: Sample) -> dict[str, str]:
    row = {
        "sample": escape_formula(sample.name),
        "status": sample.status,
        "fields": str(len(sample.fields)),
        "fields_used": str(len(sample.used)),
        "fields_left_out": str(len(sample.left_out)),
        "left_out": escape_formula("; ".join(sample.left_out)),
    }
    if sample.status != DONE:
        return row
    return {
        **row,
        **count_columns(asdict(sample.differential)),
        "more_cells": "" if sample.more is None else str(sample.more),
        "possibly_twice": str(sample.twice),
        "flags": ";".join(sample.flags),
        "field_flags": ";".join(f"{flag}:{count}" for flag, count in sample.field_flags.items()),
    }


def _bytes(folder: str) -> bytes:
    return folder.encode("utf-8", "surrogateescape")
