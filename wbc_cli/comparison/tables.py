"""comparison.csv, a row a figure, and comparison.json, with everything that the page is made from."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from wbc_cli.comparison.compare import ClassAgreement, Comparison, Pair
from wbc_cli.comparison.estimate import Estimate
from wbc_cli.products.constants import SCHEMA_VERSION

COLUMNS = ("reference", "tested", "of", "figure", "value", "low", "high", "n")


def write_csv(comparison: Comparison, path: Path) -> None:
    """Write a row a figure: percentages and shares in percent, slope, r and kappa as they are.

    Raises:
        OSError: the disk is full or read-only.
    """
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(COLUMNS)
        for pair in comparison.pairs:
            for of, figure, estimate, factor in _figures(pair):
                if estimate is not None:
                    rows.writerow((pair.reference, pair.tested, of, figure, *_numbers(estimate, factor), estimate.n))


def _numbers(estimate: Estimate, factor: int) -> list[str]:
    values = (estimate.value, estimate.low, estimate.high)
    return ["" if value is None else f"{factor * value:.4f}" for value in values]


def _figures(pair: Pair) -> Iterator[tuple[str, str, Estimate | None, int]]:
    for found in pair.classes:
        yield from ((found.name, figure, estimate, factor) for figure, estimate, factor in _of_class(found))
    for kind in pair.abnormal:
        for figure in ("sensitivity", "specificity", "efficiency"):
            yield f"abnormal {kind.kind}", figure, getattr(kind, figure), 100
    if cells := pair.cells:
        yield "cells", "agreement", cells.agreement, 100
        yield "cells", "kappa", cells.kappa, 1
        for name in cells.classes:
            yield f"cells {name}", "sensitivity", cells.sensitivity[name], 100
            yield f"cells {name}", "specificity", cells.specificity[name], 100


def _of_class(found: ClassAgreement) -> Iterator[tuple[str, Estimate | None, int]]:
    if found.line:
        yield "slope", found.line.slope, 1
        yield "intercept", found.line.intercept, 1
        yield "intercept_by_ranks", found.line.intercept_by_ranks, 1
    if found.differences:
        yield "bias", found.differences.bias, 1
        yield "lower_limit_of_agreement", found.differences.lower, 1
        yield "upper_limit_of_agreement", found.differences.upper, 1
    yield "r", found.r, 1
    yield "within_limits", found.within, 100


def write_json(comparison: Comparison, about: Mapping[str, Any], path: Path) -> None:
    """Write everything, with what each sample came to.

    Args:
        comparison: what was found.
        about: where it comes from.
        path: of the file.

    Raises:
        OSError: the disk is full or read-only.
    """
    value = {"schema_version": SCHEMA_VERSION, **about, **asdict(comparison)}
    path.write_text(json.dumps(value, indent=2, default=lambda array: array.tolist()) + "\n", encoding="utf-8")
