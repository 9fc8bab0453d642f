"""Calls that may never return, as reads from a disk that has gone away do not."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.pool import ThreadPool
from typing import ParamSpec, TypeVar

TIME_LIMIT = 3600.0
"""The seconds without progress after which a file counts as hung, where nothing else is said."""

P = ParamSpec("P")
R = TypeVar("R")


class Watchdog:
    """Makes calls one after the other and gives up those that take too long.

    The thread of a call that was given up stays behind; it ends with the process.

    Args:
        seconds: what a call may take.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._thread: ThreadPool | None = None

    def call(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Return what the function returns, or raise what it raises.

        Raises:
            TimeoutError: it has not returned in time.
        """
        self._thread = self._thread or ThreadPool(1)
        answer = self._thread.apply_async(function, args, kwargs)
        try:
            return answer.get(self.seconds)
        except multiprocessing.TimeoutError as error:
            self.close()
            raise TimeoutError(f"no answer within {self.seconds:g} s") from error

    def close(self) -> None:
        """Let go of the thread, which ends when its call returns."""
        if self._thread:
            self._thread.close()
        self._thread = None
