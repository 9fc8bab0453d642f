"""One image's result against its truth, as a small record that outlives the result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wbc_cli.cells import Cell, SlideResult
from wbc_cli.evaluation.faithfulness import FaithfulnessScore
from wbc_cli.evaluation.pairing import DetectionScore, PairedImage, pair_image
from wbc_cli.evaluation.predictions import Prediction
from wbc_cli.evaluation.regions import (
    ExplanationScore,
    LabelMask,
    OverlapScore,
    paint,
    read_mask,
    score_explanation,
    score_explanation_by_expert,
    score_overlap,
)
from wbc_cli.evaluation.truth import cell_middles
from wbc_cli.inference.prior_candidates import PriorCandidates
from wbc_cli.manifest import Sample

MAX_CANDIDATE_DISTANCE_UM = 12.0
"""How far from a candidate a cell's middle may lie, to each side, to be whole in the window around it: that is 32 um
wide, and a cell that its border cuts gets a window of its own."""


@dataclass(frozen=True)
class PriorScore:
    """The score tells what the saliency prior did with one image.

    Attributes:
        near: one a labelled white cell that has a position: whether its middle lies in the window around a candidate.
        share: of the image's area that the prior keeps, 0 to 1.
        area: of the image, in square micrometres.
    """

    near: tuple[bool, ...]
    share: float
    area: float


@dataclass(frozen=True)
class ImageScore:
    """All that one image adds to the figures; what its truth does not allow to score is None or empty.

    Attributes:
        image, dataset, group: of the sample.
        failed: the pipeline could not analyse it.
        predictions: one a labelled cell.
        found: one a white cell of the truth, typed or not: whether a reported one matches it.
        false_cells: white cells reported where there is none; None where not all white cells of the image are known, or
            it failed.
        detection: of a field with boxes of white cells.
        negative: the image has neither labels nor boxes of white cells nor masked cells.
        overlap: of an image with a mask.
        prior: of an image whose candidates were found.
        explanations: of scored cells, against their own outlines.
        expert_explanations: the same against the mask.
        faithfulness: of the first of those cells, where the image was chosen for it.
        described: of an image of one cell with known attributes: each one's true value and the one reported, empty
            where none was.
        border: mean colour of the rim where it was read, for the baseline that uses nothing else.
    """

    image: Path
    dataset: str
    group: str
    failed: bool
    predictions: tuple[Prediction, ...]
    found: tuple[bool, ...]
    false_cells: int | None
    detection: DetectionScore | None
    negative: bool
    overlap: OverlapScore | None
    prior: PriorScore | None
    explanations: tuple[ExplanationScore, ...]
    expert_explanations: tuple[ExplanationScore, ...]
    faithfulness: FaithfulnessScore | None
    described: dict[str, tuple[str, str]]
    border: tuple[float, float, float] | None


def score_image(
    sample: Sample,
    result: SlideResult | None,
    *,
    blast_or_not: bool,
    candidates: PriorCandidates | None = None,
    border: tuple[float, float, float] | None = None,
    check: Callable[[Cell], FaithfulnessScore] | None = None,
) -> ImageScore:
    """Score one image.

    Args:
        sample: the truth.
        result: what the pipeline found, None where it failed.
        blast_or_not: the data set tells only blasts from cells that are not.
        candidates: of the prior; None where it was not run.
        border: mean colour of the image's rim.
        check: checks the explanation of a cell of this image; None where it was not chosen for that.

    Raises:
        SlideError: the check cannot read the cell's window.
        UsageError: the mask cannot be read or does not fit the image.
    """
    mask = _fitting_mask(sample, result)
    paired = pair_image(sample, mask, result, blast_or_not=blast_or_not)
    return ImageScore(
        image=sample.image,
        dataset=sample.dataset,
        group=sample.group,
        failed=result is None,
        predictions=paired.predictions,
        found=paired.found,
        false_cells=paired.false_cells,
        detection=paired.detection,
        negative=paired.negative,
        overlap=score_overlap(mask, paint(paired.outlined, *mask.shape)) if mask is not None else None,
        prior=_score_prior(sample, mask, result, candidates) if result and candidates else None,
        explanations=tuple(score_explanation(cell) for cell, _ in paired.explained),
        expert_explanations=_by_expert(paired, mask),
        faithfulness=check(paired.explained[0][0]) if check and paired.explained else None,
        described=_describe(sample, paired),
        border=border,
    )


def _score_prior(
    sample: Sample, mask: LabelMask | None, result: SlideResult, candidates: PriorCandidates
) -> PriorScore:
    scale = result.scale.um_per_px
    middles = cell_middles(sample, mask, result.width, result.height)
    distances = np.abs(middles[:, None] - candidates.positions[None]).max(axis=2, initial=0) * scale
    near = (distances <= MAX_CANDIDATE_DISTANCE_UM).any(axis=1)
    return PriorScore(tuple(near.tolist()), candidates.area_share, result.width * result.height * scale**2)


def _describe(sample: Sample, paired: PairedImage) -> dict[str, tuple[str, str]]:
    found = paired.outlined[0].morphology if paired.outlined else {}
    return {name: (value, found.get(name, "")) for name, value in sample.morphology.items()}


def _fitting_mask(sample: Sample, result: SlideResult | None) -> LabelMask | None:
    if sample.mask is None:
        return None
    return read_mask(sample.mask, (result.width, result.height) if result else None, sample.mask_levels)


def _by_expert(paired: PairedImage, mask: LabelMask | None) -> tuple[ExplanationScore, ...]:
    if mask is None:
        return ()
    scores = (score_explanation_by_expert(cell, mask, box) for cell, box in paired.explained)
    return tuple(score for score in scores if score)
