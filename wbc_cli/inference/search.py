"""The search of one slide: which windows the network is run on, and which cells it detects in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from wbc_cli.cells import Population
from wbc_cli.errors import SlideError
from wbc_cli.inference.assembly import Detection, deduplicate, detections
from wbc_cli.inference.coarse import SlideColours, candidates
from wbc_cli.inference.stream import Stream
from wbc_cli.inference.windows import Window, read_window, sliding_windows
from wbc_cli.resources.parallel import Tasks
from wbc_cli.slides.fault_tolerant import gaps_of
from wbc_cli.slides.reader import RGBImage, SlideReader

_MAX_PASSES = 3  # a window shows a cell that its border cuts; another is laid around it, which may show a third
_CENTRED_RADIUS_UM = 4.0
_STEP_SHARE = 0.6  # of a window's side in an exhaustive search: most cells are whole in one of the windows
_ROW_PX = 1024  # level-0 pixels
# Of the windows: where coarse levels are whole, the area alone would not tell that cells are lost.
_MAX_LOST_SHARE = 0.05

Progress = Callable[[int, int, int], None]
"""A function that is told how many windows of a slide are done, how many are planned, and how many cells they show."""


@dataclass(frozen=True, eq=False)
class Search:
    """Finds the cells of one slide.

    Attributes:
        stream: runs windows through the network.
        tasks: the slide's share of the stream's readers.
        reader: the open slide.
        um_per_px: its micrometres a level-0 pixel.
        colours: the colours that its stain is measured against.
        progress: is told how far the search is.
    """

    stream: Stream
    tasks: Tasks
    reader: SlideReader
    um_per_px: float
    colours: SlideColours
    progress: Progress

    @property
    def side(self) -> int:
        """The side of a window in level-0 pixels."""
        return max(8, round(self.stream.engine.config.window_um / self.um_per_px))

    def exhaustive(self) -> list[Window]:
        """Return windows that cover the whole slide."""
        return sliding_windows(self.reader.width, self.reader.height, self.side, round(self.side * _STEP_SHARE))

    def salient(self) -> list[Window]:
        """Return windows around the candidates, in rows, so that those which share tiles follow each other.

        A picture that is no larger than a window is looked at as it is: a crop of one cell shows hardly any red cells
        that the prior could compare it with, and one window costs no more than the prior.

        Raises:
            SlideError: a region cannot be read.
        """
        if max(self.reader.width, self.reader.height) <= self.side:
            return [Window.around(self.reader.width / 2, self.reader.height / 2, self.side)]
        engine = self.stream.engine
        threshold = engine.config.saliency_threshold
        points = candidates(self.reader, engine.saliency, self.um_per_px, self.colours, threshold, self.tasks)
        windows = (Window.around(x, y, self.side) for x, y in points)
        return sorted(windows, key=lambda window: (window.y // _ROW_PX, window.x))

    def detect(self, windows: list[Window], population: Population) -> tuple[list[Detection], int]:
        """Detect the cells in windows, and in further ones around cells that a window's border truncates.

        Args:
            windows: where to look.
            population: that they are from.

        Returns:
            One detection of each cell, and how many windows it took.

        Raises:
            SlideError: a window cannot be read, or too many lie where tiles cannot be decoded.
        """
        found: list[Detection] = []
        centres: list[tuple[float, float]] = []
        planned = len(windows)
        for _ in range(_MAX_PASSES):
            progress = partial(self._progress_after, len(centres), len(found))
            found = deduplicate(found + self.detect_once(windows, population, progress))
            centres += [window.centre for window in windows]
            windows = self._around_truncated(found, np.array(centres))
            if not windows:
                break
        self._refuse_lost(centres[:planned])
        return found, len(centres)

    def detect_once(
        self,
        windows: list[Window],
        population: Population,
        progress: Progress = lambda done, planned, cells: None,
    ) -> list[Detection]:
        """Detect the cells in windows, one that lies in several of them as often.

        Args:
            windows: where to look.
            population: that they are from.
            progress: is told how many of them are done.

        Raises:
            SlideError: a window cannot be read.
        """
        found: list[Detection] = []
        predictions = self.stream.predict(self.tasks, self._read, windows, population)
        for done, (window, prediction) in enumerate(zip(windows, predictions, strict=True), start=1):
            found += detections(window, prediction, self.reader.width, self.reader.height)
            progress(done, len(windows), len(found))
        return found

    def _progress_after(self, windows: int, cells: int, done: int, planned: int, found: int) -> None:
        """Tell how far the search is, after a pass that took so many windows and found so many cells."""
        self.progress(windows + done, windows + planned, cells + found)

    def _read(self, window: Window) -> RGBImage:
        return read_window(self.reader, window, self.stream.engine.config.window_px, self.colours.background)

    def _refuse_lost(self, places: Sequence[tuple[float, float]]) -> None:
        gaps = gaps_of(self.reader)
        lost = sum(gaps.hold(x, y) for x, y in places)
        if lost > _MAX_LOST_SHARE * len(places):
            raise SlideError(
                f"{self.reader.path}: {lost} of the {len(places)} places to look at cannot be decoded, more than "
                f"{_MAX_LOST_SHARE:.0%}. Copy the slide again from its source."
            )

    def _around_truncated(self, found: list[Detection], centres: NDArray[np.float64]) -> list[Window]:
        """Lay windows around truncated cells that no window has had in its centre yet."""
        near = _CENTRED_RADIUS_UM / self.um_per_px
        truncated = (detection for detection in found if detection.truncated)
        return [
            Window.around(d.x, d.y, self.side) for d in truncated if np.hypot(*(centres - (d.x, d.y)).T).min() > near
        ]
