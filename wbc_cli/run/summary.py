"""What a run came to, as it is told at its end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from wbc_cli.classes import BY_NAME
from wbc_cli.differential import Differential
from wbc_cli.errors import ExitCode
from wbc_cli.products.tables import DONE, FAILED, REFUSED
from wbc_cli.run.execution import Run
from wbc_cli.run.stopping import Stop


@dataclass(frozen=True)
class RunSummary:
    """The outcome of a run.

    Attributes:
        done: slides that are analysed.
        kept: how many of them were so before the run began.
        refused: name and reason of each of these whose picture is too bad for a differential.
        failed: name and reason of each that could not be analysed.
        left: slides that a stopped run did not come to.
        unread: how many pictures there were of kinds that are not read, by extension.
        differential: of the cells of all slides that are done and not refused.
        seconds: wall time.
        exit_code: some failures, and being stopped, are told to the scheduler.
    """

    done: tuple[str, ...]
    kept: int
    refused: tuple[tuple[str, str], ...]
    failed: tuple[tuple[str, str], ...]
    left: int
    unread: Mapping[str, int]
    differential: Differential
    seconds: float
    exit_code: ExitCode

    @classmethod
    def of(cls, run: Run, stop: Stop, seconds: float) -> RunSummary:
        """Sum up the records of a run's slides."""
        records = run.records

        def reasons(status: str) -> tuple[tuple[str, str], ...]:
            return tuple((name, str(records[name]["reason"])) for name in records.names(status))

        failed = reasons(FAILED)
        return cls(
            done=tuple(records.names(DONE, REFUSED)),
            kept=len(run.kept),
            refused=reasons(REFUSED),
            failed=failed,
            left=len(run.left),
            unread=run.unread,
            differential=records.differential,
            seconds=seconds,
            exit_code=stop.exit_code if stop else ExitCode.SOME_FAILED if failed or run.unread else ExitCode.OK,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        listed = {
            what: [{"slide": name, "reason": reason} for name, reason in slides]
            for what, slides in (("refused", self.refused), ("failed", self.failed))
        }
        return {**asdict(self), **listed, "exit_code": int(self.exit_code)}

    def table(self) -> Table:
        """Tabulate the differential of all slides together."""
        table = Table(title=f"White cells: {self.differential.cells}, slides: {len(self.done)}", title_justify="left")
        for column in ("class", "cells", "percent", "95 % interval"):
            table.add_column(column, justify="left" if column == "class" else "right")
        for name, share in self.differential.classes.items():
            percent = "" if share.percent is None else f"{share.percent:.1f}"
            interval = "" if share.low is None else f"{share.low:.1f}-{share.high:.1f}"
            table.add_row(BY_NAME[name].label, str(share.count), percent, interval)
        for name, count in self.differential.others.items():
            table.add_row(BY_NAME[name].label, str(count), "", "")
        return table
