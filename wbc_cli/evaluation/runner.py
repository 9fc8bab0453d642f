"""Runs the pipeline of `analyze` over labelled images and measures it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial

from wbc_cli.cells import Cell, SlideResult
from wbc_cli.errors import SlideError, UsageError
from wbc_cli.evaluation.background import CutOutReader
from wbc_cli.evaluation.baselines import border_colour
from wbc_cli.evaluation.faithfulness import FaithfulnessScore, choose
from wbc_cli.evaluation.report import Conditions, Evaluation, Failure
from wbc_cli.evaluation.scoring import ImageScore, score_image
from wbc_cli.evaluation.summary import summarise
from wbc_cli.manifest import NOT_BLAST, Sample
from wbc_cli.slides import open_slide
from wbc_cli.slides.reader import SlideReader

Analyse = Callable[[SlideReader, float | None], SlideResult]
Check = Callable[[SlideReader, SlideResult, Cell], FaithfulnessScore]


def evaluate(
    samples: Sequence[Sample],
    analyse: Analyse,
    conditions: Conditions,
    *,
    progress: Callable[[int, int], None],
    check: Check | None = None,
) -> Evaluation:
    """Measure the pipeline on labelled images.

    Each result is scored as it comes and let go of, so that memory does not grow with cells.

    Args:
        samples: the images; every one of them is scored, whatever its split. With a constant background those without
            a mask are left out.
        analyse: from an open image and its micrometres a pixel (None: unknown) to what `analyze` finds in it.
        conditions: how to measure.
        progress: called with the number of images done, and of all, after each.
        check: checks how faithful the explanation of a cell is.

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
    for index, sample in enumerate(samples):
        blast_or_not = sample.dataset in with_normal_cells
        try:
            score = _score(sample, analyse, conditions, blast_or_not, check if index in checked else None)
        except SlideError as error:
            failures.append(Failure(str(sample.image), str(error)))
            score = score_image(sample, None, blast_or_not=blast_or_not)
        scores.append(score)
        progress(index + 1, len(samples))
    names = sorted({score.dataset for score in scores})
    return Evaluation(
        conditions=conditions,
        datasets=tuple(summarise(name, [score for score in scores if score.dataset == name]) for name in names),
        pooled=summarise("pooled", scores),
        failures=tuple(failures),
        scores=tuple(scores),
    )


def _score(
    sample: Sample, analyse: Analyse, conditions: Conditions, blast_or_not: bool, check: Check | None
) -> ImageScore:
    """Analyse and score one image.

    Raises:
        SlideError: it cannot be read.
        UsageError: the mask cannot be read or does not fit.
    """
    with closing(open_slide(sample.image)) as image:
        reader = (
            CutOutReader(image, sample.mask, sample.mask_levels)
            if conditions.constant_background and sample.mask
            else image
        )
        result = analyse(reader, None if conditions.ignore_scale else sample.um_per_px)
        return score_image(
            sample,
            result,
            blast_or_not=blast_or_not,
            border=border_colour(reader),
            check=partial(check, reader, result) if check else None,
        )
