"""Parquet: the tables of a run with types, to be read by pandas, Polars, R, DuckDB or Spark."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from wbc_cli.csv_files.formulas import unescape_formula
from wbc_cli.errors import UsageError
from wbc_cli.export.columns import type_of
from wbc_cli.export.library import load
from wbc_cli.export.results import REVIEW_COLUMNS, Results
from wbc_cli.products.folder import DIFFERENTIAL, OVERLAPS, REVIEWED, REVIEWERS, SAMPLES
from wbc_cli.products.slide_folders import CELLS

TABLES: Mapping[str, str] = {
    DIFFERENTIAL: "slides.parquet",
    SAMPLES: "samples.parquet",
    OVERLAPS: "overlaps.parquet",
    REVIEWED: "slides-reviewed.parquet",
    REVIEWERS: "reviewers.parquet",
}
CELLS_FILE = "cells.parquet"
_NAMES = ("slide", "other_slide", "sample")  # columns whose text may stand escaped for spreadsheets
_BATCH = 8 << 20  # bytes of cells.csv that are converted together


def write_parquet(results: Results, out: Path) -> list[Path]:
    """Write a Parquet file a table; cells.csv in batches, so that memory does not grow with the run.

    Args:
        results: of a run.
        out: a folder, which is there.

    Returns:
        The files.

    Raises:
        SetupError: pyarrow is not installed.
        UsageError: a table does not hold what its columns promise.
        OSError: the disk is full or read-only.
    """
    arrow, parquet = load("pyarrow", "pyarrow"), load("pyarrow.parquet", "pyarrow")
    written = [out / CELLS_FILE]
    _write_cells(results, written[0])
    for name, file in TABLES.items():
        rows = results.table(name)
        if (results.folder / name).exists():
            schema = _schema(results.folder / name)
            values = {column: [_value(row[column], column, name) for row in rows] for column in schema.names}
            parquet.write_table(arrow.table(values, schema=schema), out / file)
            written.append(out / file)
    return written


def _write_cells(results: Results, path: Path) -> None:
    arrow, parquet = load("pyarrow", "pyarrow"), load("pyarrow.parquet", "pyarrow")
    table = results.folder / CELLS
    schema = whole = _schema(table)
    for column in REVIEW_COLUMNS:
        whole = whole.append(arrow.field(column, arrow.string()))
    try:
        with parquet.ParquetWriter(path, whole) as writer:
            for batch in _batches(table, {field.name: field.type for field in schema}):
                written = batch.column("slide").to_pylist()
                said = results.said_of(written, map(str, batch.column("cell").to_pylist()))
                slides = arrow.array(map(unescape_formula, written))
                columns = [slides if c == "slide" else batch.column(c) for c in schema.names]
                columns += [arrow.array(column, arrow.string()) for column in zip(*said, strict=True)]
                writer.write_batch(arrow.record_batch(columns, schema=whole))
    except arrow.ArrowInvalid as error:
        raise UsageError(f"{table}: does not hold what its columns promise ({error}); analyse again") from error


def _schema(table: Path) -> Any:  # noqa: ANN401 - pyarrow has no types
    """Read the columns of a table from its header; they have their types whatever the rows hold."""
    arrow = load("pyarrow", "pyarrow")
    with table.open(encoding="utf-8", newline="") as file:
        header = next(csv.reader(file), [])
    return arrow.schema([(column, getattr(arrow, type_of(column))()) for column in header])


def _batches(table: Path, types: Mapping[str, object]) -> Iterator[Any]:
    """Yield the rows of cells.csv with their types; none of a table without rows."""
    read = load("pyarrow.csv", "pyarrow")
    options = read.ConvertOptions(column_types=types, strings_can_be_null=False, null_values=[""])
    with read.open_csv(
        table,
        read_options=read.ReadOptions(block_size=_BATCH),
        parse_options=read.ParseOptions(newlines_in_values=True),
        convert_options=options,
    ) as reader:
        yield from (batch for batch in reader if batch.num_rows)


def _value(text: str, column: str, table: str) -> int | float | str | None:
    kind = type_of(column)
    if kind == "string":
        return unescape_formula(text) if column in _NAMES else text
    try:
        return None if text == "" else int(text) if kind == "int64" else float(text)
    except ValueError as error:
        raise UsageError(f"{table}: {text!r} under {column} is no number; analyse again to write it anew") from error
