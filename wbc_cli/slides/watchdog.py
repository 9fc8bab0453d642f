"""Calls that may never return, as reads from a disk that has gone away do not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from threading import Event, Thread
from typing import TypeVar

TIME_LIMIT = 3600.0
"""The seconds without progress after which a file counts as hung, where nothing else is said."""

T = TypeVar("T")
R = TypeVar("R")


def call_each(function: Callable[[T], R], items: Sequence[T], seconds: float) -> list[R | TimeoutError]:
    """Call a function on one item after the other, and give up the calls that take too long.

    The thread of a call that was given up stays behind; it ends with the process.

    Args:
        function: what to call.
        items: what to call it on.
        seconds: after which a call is given up, at the latest when it has taken twice as long.

    Returns:
        What the function has returned for each item, in order, and an error for those from which it has not.

    Raises:
        Whatever the function raises.
    """
    answers: list[R | TimeoutError] = []
    while len(answers) < len(items):
        done, failed, given_up = list[R](), Future[None](), Event()
        rest = items[len(answers) :]
        # The thread hands nothing over: to wake another thread costs more than most calls do.
        thread = Thread(target=_call, args=(function, rest, done, failed, given_up), daemon=True)
        thread.start()
        before = -1
        while thread.is_alive() and len(done) > before:
            before = len(done)
            thread.join(seconds)
        given_up.set()
        if failed.done():
            failed.result()
        answered = done.copy()
        answers += answered
        if len(answered) < len(rest):
            answers.append(TimeoutError(f"no answer within {seconds:g} s"))
    return answers


def _call(function: Callable[[T], R], items: Sequence[T], done: list[R], failed: Future[None], given_up: Event) -> None:
    try:
        for item in items:
            if given_up.is_set():
                return
            done.append(function(item))
    except Exception as error:  # noqa: BLE001 - not swallowed: raised again in the thread that waits
        failed.set_exception(error)
