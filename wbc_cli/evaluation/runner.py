"""Runs the pipeline of `analyze` over labelled images and measures it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial

from wbc_cli.cells import Cell, SlideResult
from wbc_cli.classes import NOT_BLAST
from wbc_cli.errors import SlideError, UsageError
from wbc_cli.evaluation.background import CutOutReader
from wbc_cli.evaluation.baselines import border_colour
from wbc_cli.evaluation.faithfulness import FaithfulnessScore, choose
from wbc_cli.evaluation.report import Conditions, Evaluation, Failure
from wbc_cli.evaluation.scoring import ImageScore, score_image
from wbc_cli.evaluation.shared import (
    CONCURRENT_IMAGES,
    Analyse,
    MeasurePopulation,
    MeasureScale,
    SharedBySet,
    measure_shared,
)
from wbc_cli.evaluation.summary import summarise
from wbc_cli.inference.prior_candidates import PriorCandidates
from wbc_cli.manifest import Sample
from wbc_cli.resources.parallel import in_order
from wbc_cli.slides import open_slide
from wbc_cli.slides.reader import SlideReader

FindCandidates = Callable[[SlideReader, float], PriorCandidates]
Check = Callable[[SlideReader, SlideResult, Cell], FaithfulnessScore]


def evaluate(
    samples: Sequence[Sample],
    analyse: Analyse,
    conditions: Conditions,
    *,
    progress: Callable[[int, int], None],
    find_candidates: FindCandidates | None = None,
    check: Check | None = None,
    measure_scale: MeasureScale | None = None,
    measure_population: MeasurePopulation | None = None,
) -> Evaluation:
    """Measure the pipeline on labelled images.

    Each result is scored as it comes and let go of, so that memory does not grow with cells.

    Args:
        samples: the images; every one of them is scored, whatever its split. With a constant background those without
            a mask are left out.
        analyse: analyses an image as `analyze` does.
        conditions: how to measure.
        progress: called with the number of images done, and of all, after each.
        find_candidates: from an open image and the micrometres a pixel that the analysis took to the prior's
            candidates; None leaves them out.
        check: checks how faithful the explanation of a cell is.
        measure_scale: see `acquisition.scale.measure_scale`; None where no scale is to be shared.
        measure_population: see `inference.population`; None where no population is to be shared.

    Raises:
        UsageError: there are no samples, or a mask cannot be read or does not fit its image.
    """
    if conditions.constant_background:
        samples = [sample for sample in samples if sample.mask]
    if not samples:
        raise UsageError("no images to evaluate; choose a split that the manifest has, with masks if these are needed")
    with_normal_cells = {sample.dataset for sample in samples if NOT_BLAST in sample.labels}
    checked = choose(samples, conditions.faithfulness)
    scores: list[ImageScore] = []
    failures: list[Failure] = []
    with ThreadPoolExecutor(CONCURRENT_IMAGES) as pool:
        unknown = conditions.ignore_scale or any(sample.um_per_px is None for sample in samples)
        cells_of = partial(_cells_of, analyse=analyse, conditions=conditions)
        shared = measure_shared(samples, cells_of, measure_scale if unknown else None, measure_population, pool)
        results = in_order(
            pool,
            partial(
                _analyse_image,
                analyse=analyse,
                find_candidates=find_candidates,
                conditions=conditions,
                shared=shared,
            ),
            samples,
            CONCURRENT_IMAGES,
        )
        for index, (sample, analysed) in enumerate(zip(samples, results, strict=True)):
            blast_or_not = sample.dataset in with_normal_cells
            score, failure = _score(sample, analysed, blast_or_not, check if index in checked else None)
            scores.append(score)
            failures += [failure] if failure else []
            progress(index + 1, len(samples))
    return _summed_up(conditions, scores, failures)


@dataclass(frozen=True)
class _Analysed:
    """An open image and what the pipeline found in it."""

    reader: SlideReader
    result: SlideResult
    candidates: PriorCandidates | None


def _cells_of(sample: Sample, shared: SharedBySet, *, analyse: Analyse, conditions: Conditions) -> tuple[Cell, ...]:
    """Analyse an image for its cells alone; none where it cannot be read."""
    analysed = _analyse_image(sample, analyse, None, conditions, shared)
    if isinstance(analysed, SlideError):
        return ()
    analysed.reader.close()
    return analysed.result.cells


def _analyse_image(
    sample: Sample,
    analyse: Analyse,
    find_candidates: FindCandidates | None,
    conditions: Conditions,
    shared: SharedBySet,
) -> _Analysed | SlideError:
    """Open and analyse one image; the error where it cannot be read.

    Raises:
        UsageError: the mask cannot be read or does not fit.
    """
    try:
        reader: SlideReader = open_slide(sample.image)
    except SlideError as error:
        return error
    with ExitStack() as stack:
        stack.callback(reader.close)
        try:
            if conditions.constant_background and sample.mask:
                reader = CutOutReader(reader, sample.mask, sample.mask_levels)
            um_per_px = None if conditions.ignore_scale else sample.um_per_px
            result = analyse(reader, um_per_px, shared.of(sample, reader))
            candidates = find_candidates(reader, result.scale.um_per_px) if find_candidates else None
        except SlideError as error:
            return error
        stack.pop_all()  # it is read once more when it is scored
        return _Analysed(reader, result, candidates)


def _score(
    sample: Sample, analysed: _Analysed | SlideError, blast_or_not: bool, check: Check | None
) -> tuple[ImageScore, Failure | None]:
    """Score one image and close it; as one that failed, with why, where it or a window of it cannot be read.

    Raises:
        UsageError: the mask cannot be read or does not fit.
    """
    try:
        if isinstance(analysed, SlideError):
            raise analysed
        with closing(analysed.reader):
            score = score_image(
                sample,
                analysed.result,
                blast_or_not=blast_or_not,
                candidates=analysed.candidates,
                border=border_colour(analysed.reader),
                check=partial(check, analysed.reader, analysed.result) if check else None,
            )
    except SlideError as error:
        return score_image(sample, None, blast_or_not=blast_or_not), Failure(str(sample.image), str(error))
    return score, None


def _summed_up(conditions: Conditions, scores: Sequence[ImageScore], failures: Sequence[Failure]) -> Evaluation:
    """Summarise the scores of all images, by data set and together."""
    names = sorted({score.dataset for score in scores})
    return Evaluation(
        conditions=conditions,
        datasets=tuple(summarise(name, [score for score in scores if score.dataset == name]) for name in names),
        pooled=summarise("pooled", scores),
        failures=tuple(failures),
        scores=tuple(scores),
    )
