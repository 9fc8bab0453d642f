"""Which slides are still to be done, and which of them a worker gets next."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable


class Backlog:
    """The slides that are neither done nor failed; each is with one worker at most.

    Attributes:
        left: their names.
        suspects: those of them that were in hand when a worker crashed; they are done one at a time, to find out which
            of them it was.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.left = dict.fromkeys(names)
        self.suspects: dict[str, None] = {}
        self._queue = deque(self.left)
        self._given: set[str] = set()

    def next(self, *, alone: bool) -> str | None:
        """Look which slide comes next, of the suspects or of all others; None where all are with workers."""
        if alone:
            return next((name for name in self.suspects if name not in self._given), None)
        while self._queue and not self._is_free(self._queue[0]):
            self._queue.popleft()
        return self._queue[0] if self._queue else None

    def _is_free(self, name: str) -> bool:
        return name in self.left and name not in self.suspects and name not in self._given

    def give(self, name: str) -> None:
        """Note that a slide is with a worker."""
        self._given.add(name)

    def is_given(self, name: str) -> bool:
        """Tell whether a slide is with a worker."""
        return name in self._given

    def take_back(self, names: Iterable[str]) -> None:
        """Put the slides of a worker that has ended first in the queue, in their order."""
        names = list(names)
        self._given.difference_update(names)
        self._queue.extendleft(reversed(names))

    def suspect(self, names: Iterable[str]) -> None:
        """Have slides done alone, those of them that are left and with no worker."""
        self.suspects |= dict.fromkeys(name for name in names if name in self.left and name not in self._given)

    def remove(self, name: str) -> None:
        """Note that a slide is done or has failed."""
        self.left.pop(name, None)
        self.suspects.pop(name, None)
        self._given.discard(name)
