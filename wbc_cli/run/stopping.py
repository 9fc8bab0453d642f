"""Signals that ask a run to stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from wbc_cli.errors import ExitCode, StoppedError

# USR1: what schedulers are told to send beforehand; HUP: the terminal is gone.
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)


class Stop:
    """Remembers that a signal came.

    Attributes:
        signal: the first that came.
        begun: there is something to keep: a signal is only remembered from now on. Before that it ends the program
            there and then, also in the middle of a walk through many folders.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self.begun = False

    def __bool__(self) -> bool:
        return self.signal is not None

    @property
    def exit_code(self) -> ExitCode:
        """The exit code by what was asked for: Ctrl-C is the user's own wish."""
        return ExitCode.INTERRUPTED if self.signal == signal.SIGINT else ExitCode.STOPPED

    def check(self) -> None:
        """End here if a signal came and nothing has begun.

        A library may have swallowed what the handler raised.

        Raises:
            StoppedError, KeyboardInterrupt: it did.
        """
        if self.begun:
            return
        if self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        if self:
            raise StoppedError("stopped before the first slide; the same command begins anew")

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal.

        Raises:
            StoppedError, KeyboardInterrupt: nothing has begun.
        """
        self.signal = self.signal or signal.Signals(number)
        self.check()


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
    # What `nohup` has set to be ignored stays so.
    heard = [n for n in STOP_SIGNALS if n != signal.SIGHUP or signal.getsignal(n) != signal.SIG_IGN]
    former = {number: signal.signal(number, stop) for number in heard}
    try:
        yield stop
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
