"""How far a run is: a bar for the run and one for each large slide, or plain lines where no one watches.

The bars are rich's, which comes with typer, and not tqdm's: into a log tqdm draws its bar again and again, or says
nothing at all, so that the plain lines would be ours with either; and what is left is told by bytes, while slides are
counted.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from wbc_cli.terminal.console import LINE_SECONDS, Terminal

_LARGE = 200  # windows; a slide with fewer is done before one could read its line
_ENOUGH_SECONDS, _ENOUGH = 15.0, 0.01  # of looking at windows, and share of the work: with less nobody can foretell


@dataclass
class _Slide:
    done: int = 0
    planned: int = 0
    cells: int = 0
    bar: TaskID | None = None


class RunProgress:
    """Counts slides, windows and cells, from any thread.

    What is left is told from the sizes of the files that are done, since slides differ a thousandfold. Its clock starts
    with the first windows: to load the network and to measure acquisitions takes its time, but once. Nothing is said of
    it before enough is done that it means something.

    Args:
        terminal: where to show it.
        sizes: bytes of each slide, by name.
        bars: rich's, on a terminal.
    """

    def __init__(self, terminal: Terminal, sizes: Mapping[str, int], bars: Progress | None) -> None:
        self._terminal, self._sizes, self._bars = terminal, sizes, bars
        self._whole = sum(sizes.values())
        self._finished = self._finished_bytes = self._cells = 0
        self._first: tuple[float, float] | None = None  # when the first windows were done, and of how many bytes
        self._slides: dict[str, _Slide] = {}
        self._lock = threading.Lock()
        self._said = time.monotonic()
        self._run = bars.add_task("slides", total=len(sizes), cells=0, left="") if bars else None

    def watch(self, name: str, done: int, planned: int, cells: int) -> None:
        """Note that a slide has so many windows done of so many, which showed about so many cells."""
        with self._lock:
            slide = self._slides.setdefault(name, _Slide())
            slide.done, slide.planned, slide.cells = done, planned, cells
            self._first = self._first or (time.monotonic(), self._bytes())
            if self._bars and planned >= _LARGE:
                if slide.bar is None:
                    slide.bar = self._bars.add_task(name, total=planned, cells=0, left="")
                self._bars.update(slide.bar, completed=done, total=planned, cells=cells)
            self._say()

    def finish(self, name: str, cells: int) -> None:
        """Note that a slide is done, or has failed."""
        with self._lock:
            slide = self._slides.pop(name, None)
            self._finished += 1
            self._finished_bytes += self._sizes[name]
            self._cells += cells
            if self._bars and self._run is not None:
                if slide and slide.bar is not None:
                    self._bars.remove_task(slide.bar)
                self._bars.update(self._run, completed=self._finished, cells=self._cells)
            self._say()

    def _say(self) -> None:
        """Tell what is left, beside the bar; or in a plain line now and then."""
        now = time.monotonic()
        if self._bars and self._run is not None:
            self._bars.update(self._run, left=self._left(now))
        last = self._finished == len(self._sizes)
        if self._bars or (now - self._said < LINE_SECONDS and not last):
            return
        self._said = now
        parts = [f"slides: {self._finished} of {len(self._sizes)}, cells: {self._cells}{self._left(now)}"]
        large = [(name, slide) for name, slide in self._slides.items() if slide.planned >= _LARGE]
        parts += [f"{name}: {s.done} of {s.planned} windows, cells: {s.cells}" for name, s in large]
        self._terminal.note("; ".join(parts))

    def _left(self, now: float) -> str:
        if self._first is None or self._finished == len(self._sizes):
            return ""
        began, before = self._first
        seconds, share = now - began, (self._bytes() - before) / max(1, self._whole - before)
        if seconds < _ENOUGH_SECONDS or share < _ENOUGH:
            return ""
        return f", about {seconds * (1 - share) / share:.0f} s left"

    def _bytes(self) -> float:
        """Return the bytes that are done, of a slide in hand as many as its windows have."""
        begun = ((self._sizes[name], s) for name, s in self._slides.items() if s.planned)
        return self._finished_bytes + sum(size * s.done / s.planned for size, s in begun)


@contextmanager
def run_progress(terminal: Terminal, sizes: Mapping[str, int]) -> Iterator[RunProgress]:
    """Show the progress of a run over slides of these sizes (bytes, by name)."""
    if terminal.quiet or not terminal.err.is_terminal:
        yield RunProgress(terminal, sizes, None)
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    fields = TextColumn("{task.fields[cells]} cells{task.fields[left]}", markup=False)
    with Progress(*columns, fields, console=terminal.err) as bars:
        yield RunProgress(terminal, sizes, bars)
