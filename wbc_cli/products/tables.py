"""The tables: cells.csv and differential.csv, and the slide records that the run's tables are joined from.

Rows have a fixed order and numbers a fixed count of decimals, so that the float noise of another batch size does not
show. Text that a spreadsheet would take for a formula gets a leading apostrophe.
"""

from __future__ import annotations

import csv
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from wbc_cli.cells import Cell, SlideResult
from wbc_cli.classes import CLASS_NAMES, DIFFERENTIAL_NAMES, UNIDENTIFIED
from wbc_cli.csv_files.formulas import escape_formula
from wbc_cli.differential import NOT_WHITE_NAMES, count_cells
from wbc_cli.morphology import ATTRIBUTES, describe
from wbc_cli.products.constants import SCHEMA_VERSION

DONE = "done"
REFUSED = "refused"
FAILED = "failed"

NOT_IN_INPUT = "not_in_input"
"""The flag of a slide whose file a later run of its folder has not found any more; its rows stay."""

CELL_COLUMNS: tuple[str, ...] = (
    *("slide", "cell", "x", "y", "x0", "y0", "x1", "y1", "class"),
    *(f"p_{name}" for name in CLASS_NAMES),
    *("confidence", "area_um2", "nucleus_area_um2", "saliency"),
    *("cam_in_cell", "cam_saliency", "cam_stability", "flags"),
    *("morphology", *ATTRIBUTES),
)
NOT_COUNTED_NAMES: tuple[str, ...] = tuple(n for n in CLASS_NAMES if n not in DIFFERENTIAL_NAMES)
COUNT_COLUMNS: tuple[str, ...] = (
    *("cells", "differential_cells"),
    *(f"{name}_{figure}" for name in DIFFERENTIAL_NAMES for figure in ("count", "percent", "low", "high")),
    *(f"{name}_count" for name in (*NOT_COUNTED_NAMES, UNIDENTIFIED.name)),
    *("unidentified_percent", "unidentified_low", "unidentified_high"),
    *(f"{name}_per_100_wbc" for name in NOT_WHITE_NAMES),
)
DIFFERENTIAL_COLUMNS: tuple[str, ...] = (
    *("slide", "status", "reason", *COUNT_COLUMNS),
    *("um_per_px", "um_per_px_source", "um_per_px_relative_error", "flags"),
)

# A slide's record as slide.json holds it. It alone makes the slide's row in differential.csv and run.json, so
# that these can be joined again without the images.
SlideRecord = dict[str, Any]


def done_record(result: SlideResult) -> SlideRecord:
    """Make what slide.json says of an analysed slide: scale, quality, differential, flags, timings.

    A slide whose types are not to be trusted is refused. It keeps its cells and what they would come to, so that
    nothing that was found is lost, but has no differential in the run's table.
    """
    differential = count_cells(result.cells)
    return {
        "schema_version": SCHEMA_VERSION,
        "name": result.name,
        "path": str(result.path),
        "status": REFUSED if result.refusal else DONE,
        "reason": result.refusal,
        "width": result.width,
        "height": result.height,
        "scale": asdict(result.scale),
        "pixel_um": list(result.pixel_um),
        "unreadable_area": result.unreadable,
        "quality": asdict(result.quality),
        "flags": list(dict.fromkeys((*result.flags, *differential.flags))),
        "differential": asdict(differential),
        "windows": result.windows,
        "seconds": dict(result.seconds),
    }


def failed_record(name: str, path: Path, reason: str) -> SlideRecord:
    """Make what slide.json says of a slide that could not be read or analysed."""
    return {
        "schema_version": SCHEMA_VERSION,
        "name": name,
        "path": str(path),
        "status": FAILED,
        "reason": reason,
    }


def add_counts(counts: Counter[str], record: SlideRecord) -> None:
    """Add what a slide's record counts of each class."""
    counted = record["differential"]
    counts.update({name: share["count"] for name, share in counted["classes"].items()})
    counts.update(counted["others"])


def write_cells(result: SlideResult, path: Path) -> None:
    """Write a slide's cells.csv, a row a cell by id; the cells of a refused slide all have the flag REFUSED.

    Raises:
        OSError: the disk is full or read-only.
    """
    with open_table(path) as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(CELL_COLUMNS)
        also = (REFUSED,) if result.refusal else ()
        rows.writerows(_cell_row(result.name, cell, also) for cell in sorted(result.cells, key=lambda cell: cell.id))


def join_cells(tables: Iterable[Path], path: Path) -> None:
    """Write the run's cells.csv: the rows of the slides' tables under one header, in the order given.

    Raises:
        OSError: the disk is full or read-only, or a slide's table is missing.
    """
    with open_table(path) as file:
        csv.writer(file, lineterminator="\n").writerow(CELL_COLUMNS)
        for table in tables:
            with table.open(encoding="utf-8", newline="") as slide:
                slide.readline()
                shutil.copyfileobj(slide, file)


def write_differential(records: Iterable[SlideRecord], path: Path) -> None:
    """Write differential.csv, a row a record in the order given.

    A failed slide has its status and reason only; a refused one its scale and flags as well, but no counts, which
    nobody is to take for a result.

    Raises:
        OSError: the disk is full or read-only.
    """
    with open_table(path) as file:
        rows = csv.DictWriter(file, DIFFERENTIAL_COLUMNS, restval="", lineterminator="\n")
        rows.writeheader()
        rows.writerows(_differential_row(record) for record in records)


def open_table(path: Path) -> TextIO:
    """Open a table to write it.

    Raises:
        OSError: the disk is full or read-only.
    """
    # file names that are not UTF-8 reach us as surrogates, which no encoding takes as they are
    return path.open("w", encoding="utf-8", errors="backslashreplace", newline="")


def _cell_row(slide: str, cell: Cell, also: tuple[str, ...]) -> list[str]:
    return [
        escape_formula(slide),
        *map(str, (cell.id, fixed(cell.x, 1), fixed(cell.y, 1), *cell.box)),
        cell.class_name,
        *(fixed(p, 4) for p in cell.probabilities),
        fixed(cell.confidence, 4),
        fixed(cell.area_um2, 2),
        fixed(cell.nucleus_area_um2, 2),
        fixed(cell.saliency, 3),
        fixed(cell.cam_in_cell, 3),
        fixed(cell.cam_saliency, 3),
        fixed(cell.cam_stability, 3),
        escape_formula(";".join((*cell.flags, *also))),
        describe(cell.morphology),
        *(cell.morphology.get(name, "") for name in ATTRIBUTES),
    ]


def _differential_row(record: SlideRecord) -> dict[str, str]:
    row = {column: escape_formula(record[key]) for column, key in (("slide", "name"), ("status",) * 2, ("reason",) * 2)}
    if record["status"] == FAILED:
        return row
    scale = record["scale"]
    row |= {
        "um_per_px": fixed(scale["um_per_px"], 6),
        "um_per_px_source": scale["source"],
        "um_per_px_relative_error": fixed(scale["relative_error"], 4),
        "flags": escape_formula(";".join(record["flags"])),
    }
    if record["status"] == REFUSED:
        return row
    return row | count_columns(record["differential"])


def count_columns(differential: Mapping[str, Any]) -> dict[str, str]:
    """Return the counts of one differential (as a record holds it) under COUNT_COLUMNS."""
    row = {"cells": str(differential["cells"]), "differential_cells": str(differential["differential_cells"])}
    for name, share in (*differential["classes"].items(), (UNIDENTIFIED.name, differential["unidentified"])):
        row |= _share_columns(name, share)
    row |= {f"{name}_count": str(count) for name, count in differential["others"].items()}
    row |= {f"{name}_per_100_wbc": fixed(rate, 2) for name, rate in differential["per_100_wbc"].items()}
    return row


def _share_columns(name: str, share: Mapping[str, Any]) -> dict[str, str]:
    percents = {f"{name}_{figure}": fixed(share[figure], 2) for figure in ("percent", "low", "high")}
    return {f"{name}_count": str(share["count"]), **percents}


def fixed(value: float | None, decimals: int) -> str:
    """Format a number with its decimals; empty where there is none."""
    return "" if value is None else f"{value:.{decimals}f}"
