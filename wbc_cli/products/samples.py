"""samples.csv: one differential a sample, from the records of its fields."""

from __future__ import annotations

import csv
import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from wbc_cli.differential import FEWER_THAN_100, FEWER_THAN_200, Differential, more_cells
from wbc_cli.products.constants import STOP_WIDTH
from wbc_cli.products.overlap import OVERLAP, OVERLAP_UNCHECKED, TWICE
from wbc_cli.products.tables import (
    COUNT_COLUMNS,
    DONE,
    FAILED,
    REFUSED,
    SlideRecord,
    by_name,
    count_columns,
    open_table,
    pooled_differential,
    text,
)
from wbc_cli.slides.names import file_name

SAMPLE_COLUMNS: tuple[str, ...] = (
    *("sample", "status", "fields", "fields_used", "fields_left_out", "left_out"),
    *COUNT_COLUMNS,
    *("more_cells", "possibly_twice", "flags", "field_flags"),
)
_OWN_FLAGS = frozenset({OVERLAP, OVERLAP_UNCHECKED, FEWER_THAN_100, FEWER_THAN_200})  # which a sample has by itself
_LARGEST_FIELD = 100_000_000  # pixels: what is larger is no camera field but a scan, and a sample by itself


@dataclass(frozen=True)
class Sample:
    """The fields of one sample and what they come to.

    Attributes:
        name: unique among the samples of a run.
        used: the records of the fields that are counted, by name.
        left_out: of those that failed or were refused.
        differential: of all cells of the used fields together.
        more: cells to go until the widest interval is narrow enough; None where that is not known.
    """

    name: str
    used: tuple[SlideRecord, ...]
    left_out: tuple[SlideRecord, ...]
    differential: Differential
    more: int | None

    @property
    def twice(self) -> int:
        """The number of cells that an overlapping field has as well."""
        return sum(len(record.get(TWICE, ())) for record in self.used)

    @property
    def flags(self) -> tuple[str, ...]:
        """The flags of the sample as a whole."""
        doubts = (flag for flag in (OVERLAP, OVERLAP_UNCHECKED) if any(flag in r["flags"] for r in self.used))
        return (*doubts, *self.differential.flags)

    @property
    def status(self) -> str:
        """The status of the sample: done where something is counted, else refused or failed."""
        if self.used:
            return DONE
        return REFUSED if any(record["status"] == REFUSED for record in self.left_out) else FAILED


def samples_of(records: Iterable[SlideRecord], stop_width: float = STOP_WIDTH) -> list[Sample]:
    """Put the records of a run's slides together by their samples, which are in the order of their names.

    Args:
        records: of the slides; those that belong to no sample are passed over.
        stop_width: percentage points that the widest interval may have.
    """
    groups: dict[tuple[str, str], list[SlideRecord]] = defaultdict(list)
    for record in by_name(records):
        if record.get("sample"):
            groups[_key(record)].append(record)
    uses = Counter(name for name, _ in groups)
    samples = []
    for (name, folder), fields in groups.items():
        used = tuple(record for record in fields if record["status"] == DONE)
        differential = pooled_differential(used)
        samples.append(
            Sample(
                name if uses[name] == 1 else f"{name} ({hashlib.sha256(_bytes(folder)).hexdigest()[:8]})",
                used,
                tuple(record for record in fields if record["status"] != DONE),
                differential,
                more_cells(differential, stop_width),
            )
        )
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


def _key(record: SlideRecord) -> tuple[str, str]:
    """Return a sample's name, and the place that tells it from another of that name."""
    key = record["sample"]
    if key["folder"] and record.get("width", 0) * record.get("height", 0) > _LARGEST_FIELD:
        return file_name(record["name"]), record["source"]
    return key["name"], key["folder"]


def _row(sample: Sample) -> dict[str, str]:
    row = {
        "sample": text(sample.name),
        "status": sample.status,
        "fields": str(len(sample.used) + len(sample.left_out)),
        "fields_used": str(len(sample.used)),
        "fields_left_out": str(len(sample.left_out)),
        "left_out": text("; ".join(f"{r['name']} {r['status']}: {r['reason']}" for r in sample.left_out)),
    }
    if sample.status != DONE:
        return row
    flags = Counter(flag for record in sample.used for flag in record["flags"] if flag not in _OWN_FLAGS)
    return {
        **row,
        **count_columns(asdict(sample.differential)),
        "more_cells": "" if sample.more is None else str(sample.more),
        "possibly_twice": str(sample.twice),
        "flags": ";".join(sample.flags),
        "field_flags": ";".join(f"{flag}:{count}" for flag, count in sorted(flags.items())),
    }


def _bytes(folder: str) -> bytes:
    return folder.encode("utf-8", "surrogateescape")
