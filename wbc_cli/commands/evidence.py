"""`compare` and `monitor`: whether the tool agrees with a laboratory's readers, and whether it stays as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

import wbc_cli
from wbc_cli.commands.options import Quiet, terminal_of
from wbc_cli.errors import ExitCode, SetupError

Out = Annotated[Path, typer.Option("--out", "-o", help="Folder for the page and the tables.")]


class Grouping(StrEnum):
    """The values of --by."""

    day = "day"
    run = "run"


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
    from wbc_cli.comparison.abnormal import parse_limits  # noqa: PLC0415 - statistics import slowly
    from wbc_cli.comparison.compare import compare as compare_readers  # noqa: PLC0415
    from wbc_cli.comparison.page import write_page  # noqa: PLC0415
    from wbc_cli.comparison.reading import read_reference, read_results  # noqa: PLC0415
    from wbc_cli.comparison.tables import write_csv, write_json  # noqa: PLC0415

    terminal = terminal_of(quiet, False)
    limits = parse_limits(limit or ())
    found = read_results(results)
    comparison = compare_readers(read_reference(reference, found), limits)
    about = {"version": wbc_cli.__version__, "results": str(found.table), "readers": str(reference)}
    with _written(out):
        write_csv(comparison, out / "comparison.csv")
        write_json(comparison, about, out / "comparison.json")
        write_page(comparison, about, out / "comparison.html")
    for text in comparison.warnings:
        terminal.note(f"note: {text}")
    for sample, why in comparison.missing.items():
        terminal.note(f"not compared: {sample}: {why}")
    terminal.note(f"samples compared: {comparison.pairs[0].samples}; see {out / 'comparison.html'}")


def monitor(
    runs: Annotated[list[Path], typer.Argument(help="Folders that `analyze -o` or `merge -o` wrote.")],
    out: Out,
    reference: Annotated[
        str,
        typer.Option(
            metavar="N|FIRST:LAST",
            help="What the limits are learned from: the first N days or batches, or all from FIRST to LAST.",
        ),
    ] = "20",
    by: Annotated[Grouping, typer.Option(help="Slides of a day, or of a run, belong together.")] = Grouping.day,
    dates: Annotated[
        Path | None,
        typer.Option(help="CSV of the slides' days (slide, date); by default the day on which each was analysed."),
    ] = None,
    since: Annotated[
        str, typer.Option(help="Judge only from this day or batch on, as after an alarm that has been dealt with.")
    ] = "",
    false_alarm_every: Annotated[
        int, typer.Option(min=1, help="Days or batches between false alarms, on average, of all figures together.")
    ] = 1000,
    quiet: Quiet = False,
) -> None:
    """Watch focus, background, stain, colour, scale, confidence and class shares from day to day.

    Writes monitor.html with the control charts (Shewhart and EWMA) and monitor.csv. Where a limit is broken after the
    reference period, says so in one line on standard output, and the exit code is 3.
    """
    from wbc_cli.monitoring.monitor import groups_of, parse_period, summaries, warnings  # noqa: PLC0415 - statistics import slowly
    from wbc_cli.monitoring.monitor import monitor as hold  # noqa: PLC0415
    from wbc_cli.monitoring.page import write_page  # noqa: PLC0415
    from wbc_cli.monitoring.reading import read_dates, read_slides  # noqa: PLC0415
    from wbc_cli.monitoring.tables import write_csv  # noqa: PLC0415

    terminal = terminal_of(quiet, False)
    by_run = by is Grouping.run
    slides = read_slides(runs, by_run, read_dates(dates) if dates else {})
    groups = groups_of(slides, by_run)
    period = parse_period(reference, groups, since, by_run)
    found = hold(slides, groups, period, false_alarm_every)
    about = {
        "version": wbc_cli.__version__,
        "runs": ", ".join(map(str, runs)),
        "reference": f"{period.first} to {period.last}",
        "judged since": since or "the end of the reference period",
        "false alarm every": f"{false_alarm_every} {by.value}s",
    }
    with _written(out):
        write_csv(found, out / "monitor.csv")
        write_page(found, about, out / "monitor.html")
    for text in warnings(found):
        terminal.note(f"note: {text}")
    days = sum(found.judged)
    terminal.note(f"held against {period.first} to {period.last}: {days} {by.value}s; see {out / 'monitor.html'}")
    if found.alarms:
        latest, *others = summaries(found)
        line = f"wbc-cli monitor: {latest}" + (f"; {len(others)} more figures beyond theirs" if others else "")
        terminal.out.print(f"{line}; see {out / 'monitor.html'}", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(ExitCode.SOME_FAILED)


@contextmanager
def _written(out: Path) -> Iterator[None]:
    try:
        out.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise SetupError(f"{out}: cannot be written ({error.strerror}); check the disk, or give another -o") from error
