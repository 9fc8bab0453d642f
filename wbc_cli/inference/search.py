"""The search of one slide: where to look closely, and what is seen there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wbc_cli.inference.assembly import Sighting, sightings, unique
from wbc_cli.inference.coarse import SlideColours, candidates
from wbc_cli.inference.stream import Stream
from wbc_cli.inference.windows import Place, cut, everywhere
from wbc_cli.parallel import Tasks
from wbc_cli.slides.reader import RGBImage, SlideReader

_LOOKS = 3  # a window shows a cell that its border cuts; another is laid around it, which may show a third
_CENTRED_UM = 4.0
_STEP = 0.6  # of a window's side, from one to the next in an exhaustive search: most cells are whole in one of them
_ROW = 1024  # level-0 pixels

Watch = Callable[[int, int, int], None]
"""Told how many windows of a slide are done, how many are planned, and how many cells they showed."""


@dataclass(frozen=True, eq=False)
class Search:
    """Finds the cells of one slide.

    Attributes:
        stream: has the network look at windows.
        tasks: the slide's share of the stream's readers.
        reader: the open slide.
        um_per_px: its scale.
        colours: what its stain is measured against.
        watch: is told how far the search is.
    """

    stream: Stream
    tasks: Tasks
    reader: SlideReader
    um_per_px: float
    colours: SlideColours
    watch: Watch

    @property
    def side(self) -> int:
        """Of a window, in level-0 pixels."""
        return max(8, round(self.stream.engine.config.window_um / self.um_per_px))

    def everywhere(self) -> list[Place]:
        """Windows over the whole slide."""
        return everywhere(self.reader.width, self.reader.height, self.side, round(self.side * _STEP))

    def salient(self) -> list[Place]:
        """Windows where the prior sees white cells, in rows, so that those which share tiles follow each other.

        Raises:
            SlideError: a region cannot be read.
        """
        engine = self.stream.engine
        threshold = engine.config.saliency_threshold
        points = candidates(self.reader, engine.saliency, self.um_per_px, self.colours, threshold, self.tasks)
        places = (Place.around(x, y, self.side) for x, y in points)
        return sorted(places, key=lambda place: (place.y // _ROW, place.x))

    def find(self, places: list[Place]) -> tuple[list[Sighting], int]:
        """Look at windows, and around what their borders cut; each cell once, and how many windows it took.

        Raises:
            SlideError: a window cannot be read.
        """
        found: list[Sighting] = []
        seen: list[tuple[float, float]] = []
        for _ in range(_LOOKS):
            found = unique(found + self._look(places, len(seen), len(found)))
            seen += [place.middle for place in places]
            places = self._missed(found, np.array(seen))
            if not places:
                break
        return found, len(seen)

    def _look(self, places: list[Place], seen: int, known: int) -> list[Sighting]:
        found: list[Sighting] = []
        answers = self.stream.look(self.tasks, self._window, places)
        for done, (place, answer) in enumerate(zip(places, answers, strict=True), start=1):
            found += sightings(place, answer, self.reader.width, self.reader.height)
            self.watch(seen + done, seen + len(places), known + len(found))
        return found

    def _window(self, place: Place) -> RGBImage:
        return cut(self.reader, place, self.stream.engine.config.window_px, self.colours.glass)

    def _missed(self, found: list[Sighting], middles: NDArray[np.float64]) -> list[Place]:
        """Windows for cells that a window's border cuts and that no window has had in its middle yet."""
        near = _CENTRED_UM / self.um_per_px
        cut_off = (sighting for sighting in found if sighting.cut)
        return [Place.around(s.x, s.y, self.side) for s in cut_off if np.hypot(*(middles - (s.x, s.y)).T).min() > near]
