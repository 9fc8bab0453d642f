"""The table of a cross-validation: how the tool does in laboratories that it has never seen."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.box import SIMPLE
from rich.table import Table

from wbc_cli.cross_validation.measuring import SCALES, Laboratory

Row = dict[str, str]


@dataclass(frozen=True)
class _Column:
    """One figure: what the CSV calls it, what readers call it, and its name in `report.FIGURES`."""

    name: str
    title: str
    figure: str


_COLUMNS = (
    _Column("prior_recall", "prior recall", "prior_recall"),
    _Column("prior_area", "prior area", "prior_area"),
    _Column("found", "found", "found"),
    _Column("types_right", "types right", "accuracy_differential"),
    _Column("types_right_all", "types right, all", "accuracy"),
    _Column("right_where_typed", "right where typed", "accuracy_identified_differential"),
    _Column("right_where_typed_all", "right where typed, all", "accuracy_identified"),
    _Column("macro_f1", "macro F1", "macro_f1_differential"),
    _Column("cell_iou", "cell IoU", "cell_iou"),
    _Column("nucleus_iou", "nucleus IoU", "nucleus_iou"),
    _Column("ece", "ECE", "calibration_error_differential"),
    _Column("false_cells_a_field", "false cells a field", "false_cells_per_field"),
)
_TYPES = "accuracy_differential"
_HEAD = ("scale", "laboratory", "fold", "split", "images", "failed", "cells", "typed_cells")
_INTERVAL = ("types_right_low", "types_right_high", "types_right_majority")

_NOTE = """Each laboratory was measured through the whole pipeline with a model that was trained without it and the
other sets of its fold. "Types right", "right where typed", macro-F1 and ECE (15 bins) are over the five types of the
differential, "all" over every type that is labelled; missed and unidentified cells are wrong. In brackets: the 95 %
interval. The mean is over the laboratories that have the figure, each counted once.
"""


def write_away(measured: Mapping[str, Sequence[Laboratory]], folder: Path, facts: Sequence[str]) -> None:
    """Write away.csv, a row a scale and laboratory and their mean, and away.md with a table a scale.

    Args:
        measured: the laboratories, under "hidden" and "given".
        folder: where to write.
        facts: lines that say how it was measured.

    Raises:
        OSError: the disk is full or read-only.
    """
    rows = [row for scale in SCALES for row in _rows(scale, measured[scale])]
    with (folder / "away.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(
            file, (*_HEAD, *(column.name for column in _COLUMNS), *_INTERVAL), lineterminator="\n", restval=""
        )
        writer.writeheader()
        writer.writerows(rows)
    parts = ["# Away: laboratories that the model has not seen\n", _NOTE]
    for scale in SCALES:
        lines = [_titles(), ["---"] * len(_titles()), *_lines(scale, measured[scale], intervals=True)]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        parts.append(f"## Scale {scale}\n\n{table}\n")
    parts.append("".join(f"- {fact}\n" for fact in facts))
    (folder / "away.md").write_text("\n".join(parts), encoding="utf-8")


def away_tables(measured: Mapping[str, Sequence[Laboratory]]) -> list[Table]:
    """Show the same on the terminal, a table a scale, without the intervals."""
    tables = []
    for scale in SCALES:
        table = Table(
            title=f"Laboratories not seen, scale {scale}", title_justify="left", box=SIMPLE, padding=(0, 1, 0, 0)
        )
        for index, title in enumerate(_titles()):
            table.add_column(title, justify="right" if index else "left", no_wrap=not index)
        for line in _lines(scale, measured[scale], intervals=False):
            table.add_row(*line)
        tables.append(table)
    return tables


def _rows(scale: str, laboratories: Sequence[Laboratory]) -> list[Row]:
    """Make the rows of the CSV."""
    rows = []
    for lab in laboratories:
        row = {
            "scale": scale,
            "laboratory": lab.name,
            "fold": str(lab.fold),
            "split": lab.split,
            "images": str(lab.images),
            "failed": str(lab.failed),
            "cells": _count(lab, "found"),
            "typed_cells": _count(lab, _TYPES),
        }
        row |= {c.name: _text(lab.figures[c.figure]["value"]) for c in _COLUMNS if c.figure in lab.figures}
        if _TYPES in lab.figures:
            types = lab.figures[_TYPES]
            values = (types["low"], types["high"], types["baselines"]["majority"])
            row |= dict(zip(_INTERVAL, map(_text, values), strict=True))
        rows.append(row)
    return [*rows, {"scale": scale, "laboratory": "mean", **{n: _text(v) for n, v in _means(laboratories).items()}}]


def _lines(scale: str, laboratories: Sequence[Laboratory], *, intervals: bool) -> list[list[str]]:
    """Make the rows for readers: fewer columns, and the interval, if any, beside what it belongs to."""
    lines = []
    for row in _rows(scale, laboratories):
        split = row.get("split", "test")
        name = row["laboratory"] if split == "test" else f"{row['laboratory']} ({split})"
        line = [name, row.get("cells", ""), row.get("typed_cells", "")]
        for column in _COLUMNS:
            text = row.get(column.name, "")
            text = f"{float(text):.3f}" if text else ""
            if intervals and column.figure == _TYPES and "types_right_low" in row:
                text += f" ({float(row['types_right_low']):.2f}-{float(row['types_right_high']):.2f})"
            line.append(text)
        lines.append(line)
    return lines


def _titles() -> list[str]:
    return ["", "cells", "five types", *(column.title for column in _COLUMNS)]


def _means(laboratories: Sequence[Laboratory]) -> dict[str, float]:
    means = {}
    for column in _COLUMNS:
        values = [lab.figures[column.figure]["value"] for lab in laboratories if column.figure in lab.figures]
        if values:
            means[column.name] = float(np.mean(values))
    return means


def _count(lab: Laboratory, figure: str) -> str:
    return str(lab.figures[figure]["n"]) if figure in lab.figures else ""


def _text(value: float) -> str:
    return f"{value:.6g}"
