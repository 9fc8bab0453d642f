"""`demo`, `bench` and `doctor`: what the tool does here, how fast, and what it lacks."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from wbc_cli.commands.options import (
    BatchSize,
    Device,
    Precision,
    PrecisionName,
    Quiet,
    Weights,
    Workers,
    compute_options,
    terminal_of,
)
from wbc_cli.errors import ExitCode, UsageError


def demo(
    folder: Annotated[Path, typer.Argument(help="Where to write; made if need be.")],
    seed: Annotated[int, typer.Option(help="Another seed, other smears.")] = 0,
    quiet: Quiet = False,
) -> None:
    """Write synthetic smears with known truth, to try the tool without data.

    Some fields (PNG, JPEG), one pyramidal slide, and truth.csv (slide, class, x, y in level-0 pixels). They show how
    the tool is used; they say nothing about its accuracy.
    """
    from wbc_cli.synthetic import write_demo  # noqa: PLC0415

    terminal = terminal_of(quiet, False)
    files = write_demo(folder, seed)
    terminal.note(f"wrote {len(files) - 1} slides and truth.csv to {folder}")


def bench(
    slide: Annotated[Path | None, typer.Argument(help="A slide of your own; by default a synthetic smear.")] = None,
    size: Annotated[
        int, typer.Option(min=256, help="Side of the synthetic slide in pixels, a multiple of 256.")
    ] = 8192,
    folder: Annotated[
        Path | None, typer.Option(help="Keep the synthetic slide here, and take it from here the next time.")
    ] = None,
    exhaustive: Annotated[
        bool, typer.Option("--exhaustive", help="Measure a search everywhere as well; slow.")
    ] = False,
    rounds: Annotated[int, typer.Option(min=1, help="How often to measure; the middle one counts.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Everything as JSON on standard output.")] = False,
    device: Device = "auto",
    precision: Precision = PrecisionName.auto,
    weights: Weights = None,
    batch_size: BatchSize = "auto",
    workers: Workers = None,
) -> None:
    """Measure how fast this machine reads, points, looks, and analyses a slide from end to end."""
    from wbc_cli.diagnostics import bench as benchmark  # noqa: PLC0415
    from wbc_cli.run.loading import load_analyser  # noqa: PLC0415

    if slide:
        try:
            slide.open("rb").close()
        except OSError as error:
            raise UsageError(f"{slide}: {error.strerror}. Check the path and that you may read it.") from error
    terminal = terminal_of(False, False)
    analyser, _ = load_analyser(compute_options(device, precision, weights, batch_size, workers, None))
    with analyser.stream, tempfile.TemporaryDirectory() as scratch:
        path = slide or benchmark.make_slide(folder or Path(scratch), size)
        found = benchmark.measure(path, analyser, exhaustive, rounds)
    if as_json:
        terminal.out.print_json(json.dumps(found.to_dict()))
    else:
        terminal.out.print(found.table())


def doctor(weights: Weights = None) -> None:
    """Say what this machine has, what is missing, and how to get it."""
    from wbc_cli.diagnostics.doctor import examine  # noqa: PLC0415

    terminal = terminal_of(False, False)
    checks = examine(weights)
    table = Table(show_header=False, box=None)
    for check in checks:
        table.add_row("ok" if check.ok else "MISSING", check.what, check.detail)
    terminal.out.print(table)
    if not all(check.ok for check in checks):
        raise typer.Exit(ExitCode.ENVIRONMENT)
