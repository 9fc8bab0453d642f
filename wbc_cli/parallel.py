"""Doing several things at a time."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, wait
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")


def in_order(pool: Executor, function: Callable[[T], R], items: Iterable[T], ahead: int) -> Iterator[R]:
    """Yield function(item) for every item, in order, with at most `ahead` of them begun before they are asked for."""
    begun: deque[Future[R]] = deque()
    try:
        for item in items:
            begun.append(pool.submit(function, item))
            if len(begun) > ahead:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        for task in begun:
            task.cancel()


class Tasks:
    """What one slide has given to a pool that it shares with others.

    On leaving, what has not begun is dropped and what runs is waited for, so that nothing reads a file that is closed.
    """

    def __init__(self, pool: Executor) -> None:
        self._pool = pool
        self._begun: set[Future[Any]] = set()

    def __enter__(self) -> Tasks:
        return self

    def __exit__(self, *_: object) -> None:
        wait([task for task in list(self._begun) if not task.cancel()])

    def submit(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Have the pool call the function."""
        task = self._pool.submit(function, *args, **kwargs)
        self._begun.add(task)
        task.add_done_callback(self._begun.discard)
        return task


class Room:
    """Lets in as many as fit together, first come, first served."""

    def __init__(self, size: int) -> None:
        self._free = size
        self._queue: deque[object] = deque()
        self._changed = threading.Condition()

    @contextmanager
    def taken(self, size: int) -> Iterator[None]:
        """Wait until there is room of a size, which must not be more than the whole, and hold it."""
        ticket = object()
        with self._changed:
            self._queue.append(ticket)
            self._changed.wait_for(lambda: self._queue[0] is ticket and self._free >= size)
            self._queue.popleft()
            self._free -= size
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._free += size
                self._changed.notify_all()
