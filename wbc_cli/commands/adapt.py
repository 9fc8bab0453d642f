"""`adapt`: a laboratory's own profile from its reviewed cells."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from wbc_cli.classes import BY_NAME
from wbc_cli.commands.options import Quiet, Weights, terminal_of
from wbc_cli.errors import ExitCode


def adapt(
    runs: Annotated[list[Path], typer.Argument(metavar="RESULTS...", help="Folders that `analyze -o` wrote.")],
    review: Annotated[
        list[Path],
        typer.Option(help="CSV of reviewed cells (slide, cell, class), as the report saves it; may be repeated."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="File for the profile, such as lab.json.")],
    weights: Weights = None,
    quiet: Quiet = False,
) -> None:
    """Learn a laboratory's profile from its reviewed cells, for `analyze --profile`.

    Nothing is analysed again: it learns from what the runs have kept. A profile is written only where it is better than
    the shipped model on slides that it has not learned from; otherwise the exit code is 4.
    """
    from wbc_cli.model.files import default_folder  # noqa: PLC0415
    from wbc_cli.model.storage import load  # noqa: PLC0415
    from wbc_cli.profile.adapt import adapt as learn  # noqa: PLC0415

    terminal = terminal_of(quiet, False)
    profile, reviewed, objection = learn(load(weights or default_folder()), runs, review)
    found = profile.evidence
    table = Table(title="Reviewed cells, by slides left out in turn", title_justify="left")
    for column in ("", "shipped", "profile"):
        table.add_column(column, justify="right" if column else "left")
    table.add_row("right", f"{found['before']:.3f}", f"{found['after']:.3f}")
    table.add_row("calibration error", f"{found['ece_before']:.3f}", f"{found['ece_after']:.3f}")
    terminal.out.print(table)
    kept = [BY_NAME[name].label for name in profile.reviewed if name not in profile.learned]
    if kept:
        terminal.note(f"too few cells, so these types stay as shipped: {', '.join(kept)}")
    if reviewed.undecided:
        terminal.note(f"cells that the review calls unidentified teach nothing: {reviewed.undecided}")
    if objection:
        terminal.note(f"no profile is written: {objection}")
        raise typer.Exit(ExitCode.NOTHING_TO_DO)
    profile.write(out)
    terminal.note(
        f"wrote {out}, from {int(found['cells'])} cells on {int(found['slides'])} slides; "
        f"use it: wbc-cli analyze ... --profile {out}"
    )
