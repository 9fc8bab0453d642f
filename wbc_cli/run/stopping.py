"""Signals that ask a run to stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from wbc_cli.errors import ExitCode, StoppedError

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)  # USR1: what schedulers are told to send beforehand


class Stop:
    """Remembers that a signal came."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def __bool__(self) -> bool:
        return self.signal is not None

    @property
    def exit_code(self) -> ExitCode:
        """By what was asked for: Ctrl-C is the user's own wish."""
        return ExitCode.INTERRUPTED if self.signal == signal.SIGINT else ExitCode.STOPPED

    def check(self) -> None:
        """End here if a signal came; for the time when nothing has begun.

        Raises:
            StoppedError, KeyboardInterrupt: it did.
        """
        if self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        if self:
            raise StoppedError("stopped before the first slide; the same command begins anew")

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        self.signal = self.signal or signal.Signals(number)


def ignore_stopping() -> None:
    """Let signals pass from now on; for the end of the program, when all is done and its exit code stands."""
    if threading.current_thread() is threading.main_thread():
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)


@contextmanager
def stopping() -> Iterator[Stop]:
    """Catch the signals for a while; in threads other than the main one, which get none, nothing is caught."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    former = {number: signal.signal(number, stop) for number in STOP_SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
