"""Where words go: results to standard output, everything else to standard error."""

from __future__ import annotations

import codecs
import errno
import io
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

LINE_SECONDS = 15.0
"""The seconds between plain lines of progress."""


# A pipe that nobody reads, a terminal that has been closed; and for words about the work also a full disk, since the
# work itself may go elsewhere.
_GONE = frozenset({errno.EPIPE, errno.EIO})
_GONE_OR_FULL = _GONE | {errno.ENOSPC, errno.EDQUOT}
_AS_IT_IS = "wbc-cli.as-it-is"


class LastingStream(io.TextIOWrapper):
    """A standard stream that outlives its reader: what is written once that is gone is dropped, and no error."""

    gone: frozenset[int] = _GONE

    def write(self, text: str, /) -> int:
        """Write text, or drop it."""
        try:
            return super().write(text)
        except OSError as error:
            self._let_go(error)
            return len(text)

    def flush(self) -> None:
        """Write what is held back, or drop it."""
        try:
            super().flush()
        except OSError as error:
            self._let_go(error)
            super().flush()

    def _let_go(self, error: OSError) -> None:
        if error.errno not in self.gone:
            raise error
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, self.fileno())
        os.close(nothing)


def secure_streams() -> None:
    """Have standard streams that take whatever is written, for the program's whole life.

    A stream that is closed, as some daemons start programs, is opened to nowhere, before a file gets its number. File
    names that are no text in the stream's encoding come out as the bytes that they are.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free, which is this one
    codecs.register_error(_AS_IT_IS, _as_it_is)
    if sys.stdout is sys.__stdout__:
        sys.stdout = _lasting(sys.stdout, 1, _AS_IT_IS)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _lasting(sys.stderr, 2, "backslashreplace")
        sys.stderr.gone = _GONE_OR_FULL


def _lasting(stream: TextIO | None, number: int, errors: str) -> LastingStream:
    if stream is None:
        return LastingStream(io.FileIO(number, "w", closefd=False), "utf-8", errors, line_buffering=True)
    assert isinstance(stream, io.TextIOWrapper)
    encoding, line_buffering, write_through = stream.encoding, stream.line_buffering, stream.write_through
    return LastingStream(stream.detach(), encoding, errors, None, line_buffering, write_through)


def _as_it_is(error: UnicodeError) -> tuple[str | bytes, int]:
    """Restore bytes that the system handed out as surrogates, since they are no text; escape other letters."""
    if isinstance(error, UnicodeEncodeError):
        error.end = error.start + 1  # one letter at a time: what follows may be of the other kind
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.lookup_error("backslashreplace")(error)


class Advance(Protocol):
    """Tells that more is done."""

    def __call__(self, done: int, total: int, what: str = "") -> None:
        """Tell that so many of so many are done; `what` was the last."""


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
        """Show a bar on a terminal; elsewhere a plain line every quarter of a minute."""
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
