"""An export from results to files, whole or not at all."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from wbc_cli.errors import SetupError, UsageError
from wbc_cli.export.fhir import write_fhir
from wbc_cli.export.h5ad import write_h5ad
from wbc_cli.export.parquet import write_parquet
from wbc_cli.export.results import Results, read_results

ExportFormat = Literal["parquet", "anndata", "fhir"]


def export_results(folder: Path, kind: ExportFormat, out: Path) -> list[Path]:
    """Write the results of a run in another format.

    Args:
        folder: of the run.
        kind: the format.
        out: a folder that is not there yet or empty; for anndata a file, which is replaced.

    Returns:
        The files.

    Raises:
        UsageError: there are no whole results in the folder, or `out` is not as it has to be.
        SetupError: an optional library is missing, or `out` cannot be written.
    """
    results = read_results(folder)
    try:
        if kind != "anndata" and out.exists() and not (out.is_dir() and not any(out.iterdir())):
            raise UsageError(f"{out}: is there already; give a new folder, so that no file of an older export stays")
        if kind == "anndata" and out.is_dir():
            raise UsageError(f"{out}: is a folder; give a file such as {out / 'cells.h5ad'}")
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".export-", dir=out.parent) as scratch:
            fresh = Path(scratch, out.name)
            files = _write(results, kind, fresh)
            fresh.replace(out)
    except OSError as error:
        raise SetupError(
            f"{out}: cannot be written ({error.strerror or error}); check free space and permissions"
        ) from error
    return [out / file.relative_to(fresh) for file in files]


def _write(results: Results, kind: ExportFormat, fresh: Path) -> list[Path]:
    if kind == "anndata":
        write_h5ad(results, fresh)
        return [fresh]
    fresh.mkdir()
    return write_parquet(results, fresh) if kind == "parquet" else write_fhir(results, fresh, datetime.now(UTC))
