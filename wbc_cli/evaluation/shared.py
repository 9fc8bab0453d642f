"""What the images of a data set share, which takes the place of an acquisition here."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import closing
from dataclasses import dataclass, field

from wbc_cli.acquisition.grouping import MAX_PICTURES, MIN_PICTURES, drawn, size_of
from wbc_cli.acquisition.scale import ScaleEstimates, measure_scale, pool_scales
from wbc_cli.cells import UNKNOWN, Cell, Population, Scale, SlideResult
from wbc_cli.errors import SlideError
from wbc_cli.inference.field_of_view import within_field
from wbc_cli.inference.neutrophils import MAX_TYPED, first_cells
from wbc_cli.inference.pipeline import Analyser
from wbc_cli.inference.population import measure_population
from wbc_cli.manifest import Sample
from wbc_cli.resources.parallel import in_order
from wbc_cli.slides import open_slide
from wbc_cli.slides.reader import SlideReader

MeasureScale = Callable[[SlideReader], ScaleEstimates]
MeasurePopulation = Callable[[Sequence[Cell]], Population]

CONCURRENT_IMAGES = 32
"""How many are analysed at a time, so that their windows fill batches."""


@dataclass(frozen=True)
class Shared:
    """It holds what an image has from the others of its data set.

    Attributes:
        scales: estimated from those of its size.
        population: of the cells of all of them; None where an image is to tell its own.
    """

    scales: tuple[Scale, ...] = ()
    population: Population | None = None


@dataclass(frozen=True)
class SharedBySet:
    """It holds what the images of several data sets share, and is empty before that is measured.

    Attributes:
        scales: by data set and size, see `grouping.size_of`.
        populations: by data set; of others, which are still to be measured, the cells are typed each by itself.
    """

    scales: dict[tuple[str, int, int], tuple[Scale, ...]] = field(default_factory=dict)
    populations: dict[str, Population | None] = field(default_factory=dict)

    def of(self, sample: Sample, reader: SlideReader) -> Shared:
        """Return what an image has from others."""
        size = size_of(reader.width, reader.height)
        return Shared(self.scales.get((sample.dataset, *size), ()), self.populations.get(sample.dataset, UNKNOWN))


def measure_shared(
    samples: Sequence[Sample],
    cells_of: Callable[[Sample, SharedBySet], Sequence[Cell]],
    scale_of: MeasureScale | None,
    population_of: MeasurePopulation | None,
    pool: Executor,
) -> SharedBySet:
    """Measure scale and population as `analyze` does of the pictures of an acquisition.

    Args:
        samples: the images.
        cells_of: analyses an image, given what is known so far.
        scale_of: measures the scale of an image; None where none is to be shared.
        population_of: measures the population of cells; None where none is to be shared.
        pool: to analyse on.
    """
    by_set: dict[str, list[Sample]] = defaultdict(list)
    for sample in drawn(samples, lambda sample: sample.image.name):
        by_set[sample.dataset].append(sample)
    shared = SharedBySet()
    for dataset, chosen in by_set.items():
        if scale_of:
            shared.scales.update(_scales(dataset, chosen[:MAX_TYPED], scale_of))
        if population_of is None:
            shared.populations[dataset] = None
        else:
            found = in_order(pool, lambda sample: cells_of(sample, shared), chosen[:MAX_TYPED], CONCURRENT_IMAGES)
            shared.populations[dataset] = population_of(first_cells(found))
    return shared


def _scales(
    dataset: str, samples: Sequence[Sample], scale_of: MeasureScale
) -> dict[tuple[str, int, int], tuple[Scale, ...]]:
    measured: dict[tuple[int, int], list[ScaleEstimates]] = defaultdict(list)
    for sample in samples:
        try:
            with closing(open_slide(sample.image)) as reader:
                own = measured[size_of(reader.width, reader.height)]
                if len(own) < MAX_PICTURES:
                    own.append(scale_of(reader))
        except SlideError:
            continue  # its own analysis will tell
    return {
        (dataset, *size): tuple(shared.scale for shared in pool_scales(own))
        for size, own in measured.items()
        if len(own) >= MIN_PICTURES
    }


Analyse = Callable[[SlideReader, float | None, Shared], SlideResult]
"""Analyses an open image of so many micrometres a pixel (None: unknown), given what it has from others."""


def analyse_sample(analyser: Analyser, reader: SlideReader, um_per_px: float | None, shared: Shared) -> SlideResult:
    """Analyse an open image with a model."""
    return analyser.analyse(reader, reader.path.name, um_per_px, pooled=shared.scales, population=shared.population)


def measure_own_scale(analyser: Analyser, reader: SlideReader) -> ScaleEstimates:
    """Measure the scale of an open image with a model."""
    return measure_scale(analyser.stream.engine.network.scale, within_field(reader))


def measure_own_population(analyser: Analyser, cells: Sequence[Cell]) -> Population:
    """Measure the population of cells that were typed each by itself with a model."""
    return measure_population(cells, analyser.stream.engine.network)
