"""Runs the pipeline of `analyze` over labelled images and measures it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from wbc_cli.cells import SlideResult
from wbc_cli.errors import SlideError, UsageError
from wbc_cli.evaluation.report import Evaluation, Failure
from wbc_cli.evaluation.scoring import ImageScore, score_image
from wbc_cli.evaluation.summary import summarise
from wbc_cli.manifest import NOT_BLAST, Sample


def evaluate(
    samples: Sequence[Sample],
    analyse: Callable[[Path, float | None], SlideResult],
    *,
    ignore_scale: bool,
    progress: Callable[[int, int], None],
) -> Evaluation:
    """Measure the pipeline on labelled images.

    Each result is scored as it comes and let go of, so that memory does not grow with cells.

    Args:
        samples: the images; every one of them is scored, whatever its split.
        analyse: from a file and its micrometres a pixel (None: unknown) to what `analyze` finds in it.
        ignore_scale: keep the images' scale from the pipeline, as for a user's unlabelled photograph.
        progress: called with the number of images done, and of all, after each.

    Raises:
        UsageError: there are no samples, or a mask cannot be read or does not fit its image.
    """
    if not samples:
        raise UsageError("no images to evaluate; choose a split that the manifest has")
    with_normal_cells = {sample.dataset for sample in samples if NOT_BLAST in sample.labels}
    scores: list[ImageScore] = []
    failures: list[Failure] = []
    for done, sample in enumerate(samples, start=1):
        result: SlideResult | None = None
        try:
            result = analyse(sample.image, None if ignore_scale else sample.um_per_px)
        except SlideError as error:
            failures.append(Failure(str(sample.image), str(error)))
        scores.append(score_image(sample, result, blast_or_not=sample.dataset in with_normal_cells))
        progress(done, len(samples))
    names = sorted({score.dataset for score in scores})
    return Evaluation(
        ignore_scale=ignore_scale,
        datasets=tuple(summarise(name, [score for score in scores if score.dataset == name]) for name in names),
        pooled=summarise("pooled", scores),
        failures=tuple(failures),
    )
