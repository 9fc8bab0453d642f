"""The table of a cross-validation: how the tool does in laboratories that it has never seen."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.box import SIMPLE
from rich.table import Table

from wbc_cli.cross_validation.measuring import SCALES, Laboratory

Row = dict[str, str]


_TITLES = {
    "prior_recall": "prior recall",
    "prior_area": "prior area",
    "found": "found",
    "accuracy_differential": "types right",
    "accuracy": "types right, all",
    "accuracy_identified_differential": "right where typed",
    "accuracy_identified": "right where typed, all",
    "macro_f1_differential": "macro F1",
    "cell_iou": "cell IoU",
    "nucleus_iou": "nucleus IoU",
    "calibration_error_differential": "ECE",
    "false_cells_per_field": "false cells a field",
}
"""What readers call the figures of `report.FIGURES` that the table has."""

_TYPES = "accuracy_differential"
_HEAD = ("scale", "laboratory", "fold", "split", "images", "failed", "cells", "typed_cells")
_INTERVAL = (f"{_TYPES}_low", f"{_TYPES}_high", f"{_TYPES}_majority")

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
        writer = csv.DictWriter(file, (*_HEAD, *_TITLES, *_INTERVAL), lineterminator="\n", restval="")
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
        row |= {figure: _text(lab.figures[figure]["value"]) for figure in _TITLES if figure in lab.figures}
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
        for figure in _TITLES:
            text = row.get(figure, "")
            text = f"{float(text):.3f}" if text else ""
            if intervals and figure == _TYPES and _INTERVAL[0] in row:
                low, high = (float(row[name]) for name in _INTERVAL[:2])
                text += f" ({low:.2f}-{high:.2f})"
            line.append(text)
        lines.append(line)
    return lines


def _titles() -> list[str]:
    return ["", "cells", "five types", *_TITLES.values()]


def _means(laboratories: Sequence[Laboratory]) -> dict[str, float]:
    means = {}
    for figure in _TITLES:
        values = [lab.figures[figure]["value"] for lab in laboratories if figure in lab.figures]
        if values:
            means[figure] = float(np.mean(values))
    return means


def _count(lab: Laboratory, figure: str) -> str:
    return str(lab.figures[figure]["n"]) if figure in lab.figures else ""


def _text(value: float) -> str:
    return f"{value:.6g}"
