"""The analysis of one slide, from its pixels to its cells: what `analyze` and `evaluate` both run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from wbc_cli.cells import (
    ATYPICAL,
    NEUTROPHILS_UNKNOWN,
    NUCLEUS,
    UNKNOWN,
    Cell,
    Explanation,
    Population,
    Scale,
    SlideResult,
)
from wbc_cli.classes import BY_NAME, DIFFERENTIAL_NAMES, OTHER, UNIDENTIFIED
from wbc_cli.inference.assembly import Detection
from wbc_cli.inference.calibration import calibrated
from wbc_cli.inference.coarse import slide_colours
from wbc_cli.inference.field_of_view import within_field
from wbc_cli.inference.instances import MIN_CELL_UM2
from wbc_cli.inference.population import measure_population, typed_among
from wbc_cli.inference.quality import judge
from wbc_cli.inference.quality_metrics import measure_quality
from wbc_cli.inference.scale_estimation import check_scale, slide_scale
from wbc_cli.inference.search import Progress, Search
from wbc_cli.inference.stream import Stream
from wbc_cli.inference.test_time_augmentation import is_unclear
from wbc_cli.inference.window_cells import WindowCell
from wbc_cli.morphology import ATTRIBUTES, Morphology
from wbc_cli.resources.heartbeat import Heartbeat
from wbc_cli.resources.parallel import Tasks
from wbc_cli.slides.fault_tolerant import gaps_of
from wbc_cli.slides.reader import SlideReader
from wbc_cli.slides.unreadable_tiles import Rectangle

# Below these an explanation is flagged: more of the Grad-CAM's energy outside the cell than inside, or a map that is
# unlike the prior or, shifted, unlike itself. Of 897 validation cells 1, 6, and 2 of 33 of unclear type, lie below.
_LOW_CAM_IN_CELL, _LOW_CAM_SALIENCY, _LOW_CAM_STABILITY = 0.5, 0.5, 0.5
_MAX_SCALE_ERROR = 0.2
# On 90 training fields of laboratories that the model had not seen (BCCD, RV-PBS) one cell of 106 shows two of these
# signs, and 26 of 30 objects that are no white cells do.
_MIN_SALIENCY, _MIN_NUCLEUS_UM2, _MIN_CAM_IN_CELL, _MIN_SIGNS = 0.1, 10.0, 0.3, 2
_MAX_EVENNESS = 0.5  # of what has a stain, see `neutral_density.evenness`
_GAP_MARGIN_UM = 0.5  # outlines are about as exact


@dataclass(frozen=True)
class Analyser:
    """Analyses slides with one model; threads may share it, one a slide.

    Attributes:
        stream: reads windows and runs the network on them.
        min_confidence: below it a cell is called unidentified.
        exhaustive: run the network on all of a slide, and not only around candidates.
    """

    stream: Stream
    min_confidence: float
    exhaustive: bool = False

    def analyse(
        self,
        reader: SlideReader,
        name: str,
        um_per_px: float | None = None,
        progress: Progress = lambda done, planned, cells: None,
        heartbeat: Heartbeat | None = None,
        pooled: Sequence[Scale] = (),
        population: Population | None = None,
    ) -> SlideResult:
        """Find, outline, type and explain the cells of a slide.

        Args:
            reader: the open slide.
            name: what the tables call it.
            um_per_px: overrides or supplies the file's scale.
            progress: is told how far the slide is.
            heartbeat: beats while its reads and computations get on.
            pooled: scales that the pictures of its acquisition share, for where neither file nor user states one.
            population: that its cells are from; None takes what they tell themselves.

        Raises:
            SlideError: a region of an image cannot be read, or too much of a slide.
        """
        began = time.perf_counter()
        reader = within_field(reader)
        scale = self._scale(reader, um_per_px, pooled)
        colours = slide_colours(reader, scale.um_per_px)
        with Tasks(self.stream.readers, heartbeat) as tasks:
            search = Search(self.stream, tasks, reader, scale.um_per_px, colours, progress)
            windows = search.exhaustive() if self.exhaustive else search.salient()
            searched = time.perf_counter()
            found, window_count = search.detect(windows, UNKNOWN if population is None else population)
            if population is None:
                population = measure_population([d.cell for d in found], self.stream.engine.network)
                found = self._among(population, found, search) if population != UNKNOWN else found
        cells = self._cells(found, reader, scale)
        seconds = {"candidates": searched - began, "network": time.perf_counter() - searched}
        quality = measure_quality(reader, cells, windows, scale.um_per_px, colours.background)
        flags, refusal = judge(quality)
        return SlideResult(
            name=name,
            path=reader.path,
            width=reader.width,
            height=reader.height,
            scale=scale,
            cells=cells,
            windows=window_count,
            flags=(*reader.flags, *_slide_flags(scale, cells, reader), *self._doubts(cells, population), *flags),
            seconds=seconds,
            unreadable=gaps_of(reader).share,
            quality=quality,
            refusal=refusal,
            file_pixels=reader.file_pixels,
            population=population,
        )

    def _scale(self, reader: SlideReader, um_per_px: float | None, pooled: Sequence[Scale]) -> Scale:
        estimator = self.stream.engine.network.scale
        return check_scale(estimator, reader, slide_scale(estimator, reader, um_per_px, pooled))

    def _among(self, population: Population, found: list[Detection], search: Search) -> list[Detection]:
        """Type cells anew by the population of their own slide.

        Windows are looked at again where the likeliest class of a cell is another one then, for its Grad-CAM, and where
        a cell was augmented, or is to be.
        """
        alone = [detection.cell for detection in found]
        cells = typed_among(alone, population, self.stream.engine.network)
        before, after = (torch.from_numpy(np.stack([cell.logits for cell in typed])) for typed in (alone, cells))
        augmented = torch.tensor([cell.cam_stability is not None for cell in alone])
        changed = (before.argmax(dim=1) != after.argmax(dim=1)) | augmented | is_unclear(after)
        windows = {d.window for d, differs in zip(found, changed.tolist(), strict=True) if differs}
        in_rows = sorted(windows, key=lambda window: (window.y, window.x))
        again = {(d.window, d.cell.label): d for d in search.detect_once(in_rows, population)}
        typed = (replace(d, cell=cell) for d, cell in zip(found, cells, strict=True))
        return [again.get((d.window, d.cell.label), d) for d in typed]

    def _doubts(self, cells: tuple[Cell, ...], population: Population) -> tuple[str, ...]:
        """Flag cells that are typed without the neutrophils that the network would hold them against."""
        missing = self.stream.engine.network.compares and population.neutrophils is None
        return (NEUTROPHILS_UNKNOWN,) if cells and missing else ()

    def _cells(self, found: list[Detection], reader: SlideReader, scale: Scale) -> tuple[Cell, ...]:
        """Keep large enough cells in reading order, none where nothing could be read."""
        least, gaps = MIN_CELL_UM2 / scale.um_per_px**2, gaps_of(reader)
        kept = [s for s in found if np.count_nonzero(s.mask) >= least and not gaps.hold(s.x, s.y)]
        kept.sort(key=lambda s: (round(s.y, 1), round(s.x, 1)))
        return tuple(self._cell(i, detection, reader, scale) for i, detection in enumerate(kept, start=1))

    def _class_name(self, likeliest: str, confidence: float, detection: Detection, um_per_px: float) -> str:
        """Name the class of a cell: unsure ones are unidentified, which counts as a white cell.

        No sign makes it none by itself, but two of three do: the prior is low, there is no nucleus, and the Grad-CAM
        lies elsewhere. What takes up all colours alike is none, as no stain does so.
        """
        nucleus_um2 = float(np.count_nonzero(detection.mask == NUCLEUS)) * um_per_px**2
        signs = (
            detection.cell.saliency < _MIN_SALIENCY,
            nucleus_um2 < _MIN_NUCLEUS_UM2,
            detection.cell.cam_in_cell < _MIN_CAM_IN_CELL,
        )
        if signs.count(True) >= _MIN_SIGNS or detection.cell.evenness > _MAX_EVENNESS:
            return OTHER
        return likeliest if confidence >= self.min_confidence else UNIDENTIFIED.name

    def _cell(self, number: int, detection: Detection, reader: SlideReader, scale: Scale) -> Cell:
        config = self.stream.engine.config
        probabilities = calibrated(config, detection.cell.logits, detection.cell.mahalanobis_distance)
        best = int(probabilities.argmax())
        class_name = self._class_name(config.classes[best], float(probabilities[best]), detection, scale.um_per_px)
        named = best if class_name == UNIDENTIFIED.name else config.classes.index(class_name)
        x0, y0, x1, y1 = detection.box
        flags = []
        near = round(_GAP_MARGIN_UM / scale.um_per_px)
        at_border = x0 == 0 or y0 == 0 or x1 == reader.width or y1 == reader.height
        if at_border or gaps_of(reader).touch(Rectangle(x0 - near, y0 - near, x1 + near, y1 + near)):
            flags.append("edge")
        if detection.cell.cam_in_cell < _LOW_CAM_IN_CELL or detection.cell.cam_saliency < _LOW_CAM_SALIENCY:
            flags.append("explanation")
        if detection.cell.cam_stability is not None and detection.cell.cam_stability < _LOW_CAM_STABILITY:
            flags.append("unstable")
        if detection.cell.mahalanobis_distance > 1:
            flags.append(ATYPICAL)
        window, pixel_um2 = detection.window, scale.um_per_px**2
        return Cell(
            id=number,
            x=detection.x,
            y=detection.y,
            box=detection.box,
            mask=detection.mask,
            class_name=class_name,
            probabilities=probabilities,
            confidence=float(probabilities[named]),
            area_um2=float(np.count_nonzero(detection.mask)) * pixel_um2,
            nucleus_area_um2=float(np.count_nonzero(detection.mask == NUCLEUS)) * pixel_um2,
            saliency=detection.cell.saliency,
            cam_in_cell=detection.cell.cam_in_cell,
            cam_saliency=detection.cell.cam_saliency,
            cam_stability=detection.cell.cam_stability,
            explanation=Explanation(window.x, window.y, window.side, detection.cell.cam, detection.saliency),
            flags=tuple(flags),
            morphology=_morphology(config.classes[best], detection.cell),
            features=detection.cell.features,
            measures=detection.cell.measures,
        )


def _morphology(likeliest: str, cell: WindowCell) -> Morphology:
    """Name the attributes of a cell that is like those which they were learned from: the five mature types."""
    if likeliest not in DIFFERENTIAL_NAMES or cell.mahalanobis_distance > 1:
        return {}
    return {name: values[i] for (name, values), i in zip(ATTRIBUTES.items(), cell.morphology.tolist(), strict=True)}


def _slide_flags(scale: Scale, cells: tuple[Cell, ...], reader: SlideReader) -> tuple[str, ...]:
    flags = []
    if scale.source == "pooled":
        flags.append("scale_pooled")
    if scale.source == "estimate":
        flags.append("scale_uncertain" if scale.relative_error > _MAX_SCALE_ERROR else "scale_estimated")
    if scale.contradicted_by is not None:
        flags.append("scale_doubtful")
    if gaps_of(reader).share:
        flags.append("unreadable_tiles")
    if not any(BY_NAME[cell.class_name].white_cell for cell in cells):
        flags.append("no_cells")
    return tuple(flags)
