"""The analysis of one slide, from its pixels to its cells: what `analyze` and `evaluate` both run."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wbc_cli.cells import ATYPICAL, NUCLEUS, Cell, Explanation, Scale, SlideResult
from wbc_cli.classes import OTHER, UNIDENTIFIED
from wbc_cli.inference.assembly import Sighting, sightings, unique
from wbc_cli.inference.engine import Engine, WindowCell
from wbc_cli.inference.instances import MIN_CELL_UM2
from wbc_cli.inference.scale import slide_scale
from wbc_cli.inference.windows import Place, candidates, cut, slide_tone
from wbc_cli.slides import open_slide
from wbc_cli.slides.reader import SlideReader

_LOOKS = 3  # a window shows a cell that its border cuts; another is laid around it, which may show a third
_CENTRED_UM = 4.0
_EXPLAINED = 0.5  # below it, more of the Grad-CAM energy lies outside the cell than inside
_SURE_SCALE = 0.2


@dataclass(frozen=True)
class Analyser:
    """Analyses slides with one model.

    Attributes:
        engine: the network on its device.
        workers: threads that read windows.
        min_confidence: below it a cell is called unidentified.
    """

    engine: Engine
    workers: int
    min_confidence: float

    def analyse_file(self, path: Path, name: str, um_per_px: float | None) -> SlideResult:
        """Open, analyse and close a file; see `analyse`.

        Raises:
            SlideError: the file cannot be read.
        """
        reader = open_slide(path)
        try:
            return self.analyse(reader, name, um_per_px)
        finally:
            reader.close()

    def analyse(self, reader: SlideReader, name: str, um_per_px: float | None = None) -> SlideResult:
        """Find, outline, type and explain the cells of a slide.

        Args:
            reader: the open slide.
            name: what the tables call it.
            um_per_px: overrides or supplies the file's scale.

        Raises:
            SlideError: a region cannot be read.
        """
        network, config = self.engine.network, self.engine.config
        began = time.perf_counter()
        scale = slide_scale(network.scale, reader, um_per_px)
        tone = slide_tone(reader, scale.um_per_px)
        points = candidates(reader, network.prior, scale.um_per_px, tone, config.saliency_threshold)
        pointed = time.perf_counter()
        side = max(8, round(config.window_um / scale.um_per_px))
        places = [Place.around(x, y, side) for x, y in points]
        found: list[Sighting] = []
        seen: list[tuple[float, float]] = []
        for _ in range(_LOOKS):
            found = unique(found + self._look(reader, places, tone.background))
            seen += [place.middle for place in places]
            places = _missed(found, np.array(seen), _CENTRED_UM / scale.um_per_px, side)
            if not places:
                break
        cells = self._cells(found, reader, scale)
        looked = time.perf_counter()
        seconds = {"candidates": pointed - began, "network": looked - pointed}
        flags = _slide_flags(scale, cells)
        return SlideResult(name, reader.path, reader.width, reader.height, scale, cells, len(seen), flags, seconds)

    def _look(self, reader: SlideReader, places: list[Place], background: NDArray[np.uint8]) -> list[Sighting]:
        size = self.engine.config.window_px
        found: list[Sighting] = []
        step = 4 * self.engine.batch_size
        with ThreadPoolExecutor(self.workers) as pool:
            for start in range(0, len(places), step):
                chunk = places[start : start + step]
                windows = np.stack(list(pool.map(lambda place: cut(reader, place, size, background), chunk)))
                for place, answer in zip(chunk, self.engine.look(windows), strict=True):
                    found += sightings(place, answer, reader.width, reader.height)
        return found

    def _cells(self, found: list[Sighting], reader: SlideReader, scale: Scale) -> tuple[Cell, ...]:
        """Large enough cells in reading order."""
        least = MIN_CELL_UM2 / scale.um_per_px**2
        kept = [s for s in found if np.count_nonzero(s.mask) >= least]
        kept.sort(key=lambda s: (round(s.y, 1), round(s.x, 1)))
        return tuple(self._cell(i, sighting, reader, scale) for i, sighting in enumerate(kept, start=1))

    def _class_name(self, likeliest: str, confidence: float, cell: WindowCell) -> str:
        """What a cell is called.

        Unsure ones, and those unlike all that the model has learned from, are unidentified, which counts as a white
        cell; what the prior does not take for a white cell when it looks at its very place is called other instead.
        """
        if cell.saliency < self.engine.config.saliency_threshold:
            return OTHER
        return likeliest if confidence >= self.min_confidence and cell.distance <= 1 else UNIDENTIFIED.name

    def _cell(self, number: int, sighting: Sighting, reader: SlideReader, scale: Scale) -> Cell:
        config = self.engine.config
        logits = sighting.cell.logits / config.temperature
        probabilities = np.exp(logits - logits.max())
        probabilities = (probabilities / probabilities.sum()).astype(np.float32)
        best = int(probabilities.argmax())
        confidence = float(probabilities[best])
        x0, y0, x1, y1 = sighting.box
        flags = []
        if x0 == 0 or y0 == 0 or x1 == reader.width or y1 == reader.height:
            flags.append("edge")
        if sighting.cell.cam_in_cell < _EXPLAINED:
            flags.append("explanation")
        if sighting.cell.distance > 1:
            flags.append(ATYPICAL)
        place, pixel = sighting.place, scale.um_per_px**2
        return Cell(
            id=number,
            x=sighting.x,
            y=sighting.y,
            box=sighting.box,
            mask=sighting.mask,
            class_name=self._class_name(config.classes[best], confidence, sighting.cell),
            probabilities=probabilities,
            confidence=confidence,
            area_um2=float(np.count_nonzero(sighting.mask)) * pixel,
            nucleus_area_um2=float(np.count_nonzero(sighting.mask == NUCLEUS)) * pixel,
            saliency=sighting.cell.saliency,
            cam_in_cell=sighting.cell.cam_in_cell,
            explanation=Explanation(place.x, place.y, place.side, sighting.cell.cam, sighting.window.saliency),
            flags=tuple(flags),
        )


def _missed(found: list[Sighting], middles: NDArray[np.float64], near: float, side: int) -> list[Place]:
    """Windows for cells that a window's border cuts and that no window has had in its middle yet."""
    return [Place.around(s.x, s.y, side) for s in found if s.cut and np.hypot(*(middles - (s.x, s.y)).T).min() > near]


def _slide_flags(scale: Scale, cells: tuple[Cell, ...]) -> tuple[str, ...]:
    flags = []
    if scale.source == "estimate":
        flags.append("scale_uncertain" if scale.relative_error > _SURE_SCALE else "scale_estimated")
    if not cells:
        flags.append("no_cells")
    return tuple(flags)
