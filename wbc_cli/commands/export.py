"""`export`: results for other systems."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from wbc_cli.commands.options import Quiet, terminal_of


class Format(StrEnum):
    """The values of --format."""

    parquet = "parquet"
    anndata = "anndata"
    fhir = "fhir"


def export(
    results: Annotated[Path, typer.Argument(help="Folder that `analyze -o` or `merge -o` wrote.")],
    kind: Annotated[Format, typer.Option("--format", help="For data science, for scanpy, or for a laboratory system.")],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="New folder; for anndata the file, such as cells.h5ad, which is replaced."),
    ],
    quiet: Quiet = False,
) -> None:
    r"""Write the results of a run for other systems.

    parquet: the tables with types, a file each. anndata: one file of cells x figures with positions. fhir: for each
    sample a preliminary FHIR R4 report in LOINC codes. Needs the libraries of `pip install 'wbc-cli\[export]'`.
    """
    from wbc_cli.export.writing import export_results  # noqa: PLC0415 - `--help` needs none of it

    terminal = terminal_of(quiet, False)
    written = export_results(results, kind.value, out)
    terminal.note(f"files written: {len(written)}; {out}")
