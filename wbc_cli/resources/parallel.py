"""Doing several things at a time."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, wait
from contextlib import contextmanager
from typing import Any, Generic, ParamSpec, TypeVar

from wbc_cli.resources.heartbeat import Heartbeat

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


class Task(Generic[R]):
    """One of a slide's tasks; the slide does not count as working while its thread waits for one."""

    def __init__(self, future: Future[R], heartbeat: Heartbeat) -> None:
        self._future, self._heartbeat = future, heartbeat

    def result(self) -> R:
        """Wait for what the function returns, or raise what it raises."""
        with self._heartbeat.waiting():
            return self._future.result()

    def when_done(self, call: Callable[[], None]) -> None:
        """Have something called when the task is done, has failed or was dropped."""
        self._future.add_done_callback(lambda _: call())


class Tasks:
    """The tasks are what one slide has given to a pool that it shares with others.

    On leaving, what has not begun is dropped and what runs is waited for, so that nothing reads a file that is closed.

    Attributes:
        heartbeat: of the slide; each task that runs works for it.
    """

    def __init__(self, pool: Executor, heartbeat: Heartbeat | None = None) -> None:
        self._pool = pool
        self.heartbeat = heartbeat or Heartbeat()
        self._begun: set[Future[Any]] = set()

    def __enter__(self) -> Tasks:
        return self

    def __exit__(self, *_: object) -> None:
        with self.heartbeat.waiting():
            wait([task for task in list(self._begun) if not task.cancel()])

    def submit(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Task[R]:
        """Have the pool call the function."""

        def work() -> R:
            with self.heartbeat.working():
                return function(*args, **kwargs)

        future = self._pool.submit(work)
        self._begun.add(future)
        future.add_done_callback(self._begun.discard)
        return Task(future, self.heartbeat)


class WeightedSemaphore:
    """A semaphore whose holders take different weights of one capacity; requests are served in the order they came.

    Args:
        capacity: the largest sum of the weights that are held at a time.
    """

    def __init__(self, capacity: int) -> None:
        self._free = capacity
        self._queue: deque[object] = deque()
        self._changed = threading.Condition()

    @contextmanager
    def acquire(self, weight: int) -> Iterator[None]:
        """Wait until a weight is free, and hold it inside the with block.

        Args:
            weight: at most the capacity, or the wait never ends.
        """
        ticket = object()
        with self._changed:
            self._queue.append(ticket)
            self._changed.wait_for(lambda: self._queue[0] is ticket and self._free >= weight)
            self._queue.popleft()
            self._free -= weight
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._free += weight
                self._changed.notify_all()
