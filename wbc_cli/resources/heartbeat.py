"""Whether the work on a slide gets on, or one of its threads is stuck in a call that does not return."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock, get_ident


class Heartbeat:
    """When each of the threads that work for a slide last got on.

    A thread that only waits for others is left out: whoever waits behind a call that hangs is not to blame for it.
    """

    def __init__(self) -> None:
        self._beats: dict[int, float] = {}
        self._lock = Lock()

    @contextmanager
    def working(self) -> Iterator[None]:
        """Count the calling thread as working for the slide while the context lasts."""
        with self._lock:
            self._beats[get_ident()] = time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                del self._beats[get_ident()]

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the calling thread as waiting for others while the context lasts."""
        with self._lock:
            working = self._beats.pop(get_ident(), None) is not None
        try:
            yield
        finally:
            if working:
                with self._lock:
                    self._beats[get_ident()] = time.monotonic()

    def beat(self) -> None:
        """Note that the calling thread, if it works for the slide, has got on."""
        with self._lock:
            if get_ident() in self._beats:
                self._beats[get_ident()] = time.monotonic()

    def silence(self) -> float | None:
        """Return the seconds since that thread got on which has not for longest; None where none works."""
        with self._lock:
            return time.monotonic() - min(self._beats.values()) if self._beats else None


class Heartbeats:
    """The heartbeats of all that a process works on; one slide may have several."""

    def __init__(self) -> None:
        self._names: dict[Heartbeat, str] = {}

    @contextmanager
    def working(self, name: str) -> Iterator[Heartbeat]:
        """Count the calling thread as working for a slide while the context lasts; what it yields is to beat."""
        heartbeat = Heartbeat()
        self._names[heartbeat] = name
        try:
            with heartbeat.working():
                yield heartbeat
        finally:
            del self._names[heartbeat]

    def silences(self) -> dict[str, float]:
        """Return the longest silence in seconds of each slide for which a thread works, see `Heartbeat.silence`."""
        longest: dict[str, float] = {}
        for heartbeat, name in self._names.copy().items():
            silence = heartbeat.silence()
            if silence is not None:
                longest[name] = max(silence, longest.get(name, 0.0))
        return longest
