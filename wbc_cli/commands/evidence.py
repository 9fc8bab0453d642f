"""`compare` and `monitor`: whether the tool agrees with a laboratory's readers, and whether it stays as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import wbc_cli
from wbc_cli.commands.options import Quiet, terminal_of
from wbc_cli.errors import MachineError

Out = Annotated[Path, typer.Option("--out", "-o", help="Folder for the page and the tables.")]


def compare(
    results: Annotated[Path, typer.Argument(help="Folder that `analyze -o` or `merge -o` wrote.")],
    reference: Annotated[
        Path,
        typer.Argument(
            help="CSV of the readers' counts (sample, reader, class, count), or types (slide, cell, class)."
        ),
    ],
    out: Out,
    limit: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CLASS=LOW:HIGH",
            help="From where on a sample is abnormal, in percent: below LOW, or at HIGH and above; may be repeated.",
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Compare a run with a laboratory's own counts, in the layout of CLSI H20-A2.

    Writes comparison.html, comparison.csv and comparison.json: regression, differences and correlation by class, how
    abnormal samples are found, the readers among each other, and cell by cell what they say of the same cells.
    """
    from wbc_cli.comparison.abnormal import parse_limits  # noqa: PLC0415 - statistics take a second to import
    from wbc_cli.comparison.compare import compare as compare_readers  # noqa: PLC0415
    from wbc_cli.comparison.page import write_page  # noqa: PLC0415
    from wbc_cli.comparison.reading import read_reference, read_results  # noqa: PLC0415
    from wbc_cli.comparison.tables import write_csv, write_json  # noqa: PLC0415

    terminal = terminal_of(quiet, False)
    limits = parse_limits(limit or ())
    found = read_results(results)
    comparison = compare_readers(read_reference(reference, found), limits)
    about = {"version": wbc_cli.__version__, "results": str(found.table), "readers": str(reference)}
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_csv(comparison, out / "comparison.csv")
        write_json(comparison, about, out / "comparison.json")
        write_page(comparison, about, out / "comparison.html")
    except OSError as error:
        raise MachineError(
            f"{out}: cannot be written ({error.strerror}); check the disk, or give another -o"
        ) from error
    for text in comparison.warnings:
        terminal.note(f"note: {text}")
    for sample, why in comparison.missing.items():
        terminal.note(f"not compared: {sample}: {why}")
    terminal.note(f"samples compared: {comparison.pairs[0].samples}; see {out / 'comparison.html'}")
