"""Where words go: results to standard output, everything else to standard error."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

LINE_SECONDS = 15.0
"""Between plain lines of progress."""


class Advance(Protocol):
    """Tells that more is done."""

    def __call__(self, done: int, total: int, what: str = "") -> None:
        """So many of so many are done; `what` was the last."""


@dataclass
class Terminal:
    """The two streams of a command; tests inject their own.

    NO_COLOR and a stream that is no terminal are honoured by rich.

    Attributes:
        out: for data.
        err: for progress, notes and errors.
        quiet: show neither progress nor notes.
    """

    out: Console = field(default_factory=lambda: Console(file=sys.stdout, width=None if sys.stdout.isatty() else 140))
    err: Console = field(default_factory=lambda: Console(file=sys.stderr, soft_wrap=True))
    quiet: bool = False

    def log_to(self, level: int) -> None:
        """Send log records to standard error as plain lines with times."""
        logging.basicConfig(
            level=level, stream=self.err.file, format="%(asctime)s %(message)s", datefmt="%Y-%m-%d %H:%M:%S", force=True
        )

    def note(self, text: str) -> None:
        """Say something on standard error; where that is a log and no terminal, with the time."""
        if not self.quiet:
            when = "" if self.err.is_terminal else time.strftime("%Y-%m-%d %H:%M:%S ")
            self.err.print(f"{when}{text}", markup=False, highlight=False)

    @contextmanager
    def progress(self, title: str) -> Iterator[Advance]:
        """A bar on a terminal; elsewhere a plain line every quarter of a minute."""
        if self.quiet:
            yield lambda done, total, what="": None
        elif self.err.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            with Progress(*columns, TextColumn("{task.fields[what]}"), console=self.err) as bar:
                task = bar.add_task(title, total=None, what="")
                yield lambda done, total, what="": bar.update(task, completed=done, total=total, what=what)
        else:
            yield _Lines(self, title)


class _Lines:
    def __init__(self, terminal: Terminal, title: str) -> None:
        self.terminal, self.title = terminal, title
        self.began = self.said = time.monotonic()

    def __call__(self, done: int, total: int, what: str = "") -> None:
        now = time.monotonic()
        if done < total and now - self.said < LINE_SECONDS:
            return
        self.said = now
        left = (now - self.began) / done * (total - done) if done else 0
        self.terminal.note(f"{self.title}: {done} of {total}, about {left:.0f} s left")
