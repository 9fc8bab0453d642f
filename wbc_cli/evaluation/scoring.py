"""One image's result against its truth, as a small record that outlives the result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from wbc_cli.cells import Cell, SlideResult
from wbc_cli.evaluation.answers import ERYTHROBLAST, PLATELET, Answer, answer, answer_platelet, pair_labels, white_cells
from wbc_cli.evaluation.faithfulness import FaithfulnessScore
from wbc_cli.evaluation.matching import by_distance, match_by_centre, match_by_iou
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
from wbc_cli.manifest import RED_CELL, WHITE_CELL, Box, Sample


@dataclass(frozen=True)
class DetectionScore:
    """Counts of one field: true boxes, reported cells, and their pairs by box overlap and by centre."""

    boxes: int
    cells: int
    matched: int
    matched_by_centre: int


@dataclass(frozen=True)
class NegativeScore:
    """White cells reported where there is none; None where the image failed."""

    false_cells: int | None


@dataclass(frozen=True)
class ImageScore:
    """All that one image adds to the figures; what its truth does not allow to score is None or empty.

    Attributes:
        image, dataset, group: of the sample.
        failed: the pipeline could not analyse it.
        answers: one a labelled cell.
        detection: of a field with boxes of white cells.
        negative: of an image without labels, boxes of white cells and masked cells.
        overlap: of an image with a mask.
        explanations: of scored cells, against their own outlines.
        expert_explanations: the same against the mask.
        faithfulness: of the first of those cells, where the image was chosen for it.
        described: of an image of one cell with known attributes: each one's true value and the one reported, empty
            where none was.
        border: mean colour of the rim where it was read, for the baseline that looks at nothing else.
    """

    image: Path
    dataset: str
    group: str
    failed: bool
    answers: tuple[Answer, ...]
    detection: DetectionScore | None
    negative: NegativeScore | None
    overlap: OverlapScore | None
    explanations: tuple[ExplanationScore, ...]
    expert_explanations: tuple[ExplanationScore, ...]
    faithfulness: FaithfulnessScore | None
    described: dict[str, tuple[str, str]]
    border: tuple[float, float, float] | None


@dataclass(frozen=True)
class _Reading:
    """How one image is read: its answers, the cells to compare with the mask, and those whose explanation counts."""

    answers: tuple[Answer, ...] = ()
    outlined: tuple[Cell, ...] = ()
    explained: tuple[tuple[Cell, Box | None], ...] = ()
    detection: DetectionScore | None = None
    negative: NegativeScore | None = None


def score_image(
    sample: Sample,
    result: SlideResult | None,
    *,
    blast_or_not: bool,
    border: tuple[float, float, float] | None = None,
    check: Callable[[Cell], FaithfulnessScore] | None = None,
) -> ImageScore:
    """Score one image.

    Args:
        sample: the truth.
        result: what the pipeline found, None where it failed.
        blast_or_not: the data set tells only blasts from cells that are not.
        border: mean colour of the image's rim.
        check: checks the explanation of a cell of this image; None where it was not chosen for that.

    Raises:
        SlideError: the check cannot read the cell's window.
        UsageError: the mask cannot be read or does not fit the image.
    """
    mask = _fitting_mask(sample, result)
    boxes = [box for box in sample.boxes if box.label not in (RED_CELL, PLATELET)]
    if boxes:
        reading = _read_field(sample, boxes, result, blast_or_not)
    elif len(sample.labels) == 1 or set(sample.labels) == {PLATELET}:
        reading = _read_one_cell(sample.labels[0], result, blast_or_not)
    elif sample.labels or (mask is not None and mask.any()):
        reading = _read_unplaced(sample.labels, result, blast_or_not)
    else:
        reading = _Reading(negative=NegativeScore(len(white_cells(result.cells)) if result else None))
    return ImageScore(
        image=sample.image,
        dataset=sample.dataset,
        group=sample.group,
        failed=result is None,
        answers=reading.answers,
        detection=reading.detection,
        negative=reading.negative,
        overlap=score_overlap(mask, paint(reading.outlined, *mask.shape)) if mask is not None else None,
        explanations=tuple(score_explanation(cell) for cell, _ in reading.explained),
        expert_explanations=_by_expert(reading, mask),
        faithfulness=check(reading.explained[0][0]) if check and reading.explained else None,
        described=_describe(sample, reading),
        border=border,
    )


def _describe(sample: Sample, reading: _Reading) -> dict[str, tuple[str, str]]:
    found = reading.outlined[0].morphology if reading.outlined else {}
    return {name: (value, found.get(name, "")) for name, value in sample.morphology.items()}


def _read_one_cell(label: str, result: SlideResult | None, blast_or_not: bool) -> _Reading:
    """Let the reported cell nearest the image's centre answer."""
    cells = by_distance(result.cells, result.width / 2, result.height / 2) if result else []
    if label == PLATELET:
        return _Reading(answers=(answer_platelet(cells if result else None),), outlined=tuple(cells[:1]))
    return _Reading(
        answers=(answer(label, cells[0] if cells else None, blast_or_not=blast_or_not),),
        outlined=tuple(cells[:1]),
        explained=tuple((cell, None) for cell in cells[:1]),
    )


def _read_field(sample: Sample, boxes: list[Box], result: SlideResult | None, blast_or_not: bool) -> _Reading:
    """Cells answer for the boxes that they overlap.

    Boxes that name a type are scored for it. Where none does, the image's labels are: one label goes for every box,
    several are compared as counts with the matched cells.
    """
    labels = [label for label in sample.labels if label != PLATELET]
    cells = _cells_beside(result, [*labels, *(box.label for box in boxes)])
    pairs = match_by_iou(boxes, cells)
    matched = [cells[pairs[index]] if index in pairs else None for index in range(len(boxes))]
    found = [(cell, box) for cell, box in zip(matched, boxes, strict=True) if cell]
    truth: list[tuple[str, Cell | None]]
    if any(box.label != WHITE_CELL for box in boxes):
        truth = [(box.label, cell) for box, cell in zip(boxes, matched, strict=True) if box.label != WHITE_CELL]
    elif len(set(labels)) == 1:
        truth = [(labels[0], cell) for cell in matched]
    else:
        truth = pair_labels(labels, [cell for cell, _ in found])
    return _Reading(
        answers=tuple(answer(label, cell, blast_or_not=blast_or_not) for label, cell in truth),
        outlined=tuple(cells),
        explained=tuple(found),
        detection=DetectionScore(len(boxes), len(cells), len(pairs), len(match_by_centre(boxes, cells))),
    )


def _read_unplaced(labels: tuple[str, ...], result: SlideResult | None, blast_or_not: bool) -> _Reading:
    """Several labels without boxes, or a mask alone: classes compared as counts, outlines as one region."""
    cells = _cells_beside(result, labels)
    pairs = pair_labels([label for label in labels if label != PLATELET], cells)
    return _Reading(
        answers=tuple(answer(label, cell, blast_or_not=blast_or_not) for label, cell in pairs),
        outlined=tuple(cells),
    )


def _cells_beside(result: SlideResult | None, labels: list[str] | tuple[str, ...]) -> list[Cell]:
    """Choose the reported cells that truth of these labels speaks of."""
    return white_cells(result.cells, and_erythroblasts=ERYTHROBLAST in labels) if result else []


def _fitting_mask(sample: Sample, result: SlideResult | None) -> LabelMask | None:
    if sample.mask is None:
        return None
    return read_mask(sample.mask, (result.width, result.height) if result else None, sample.mask_levels)


def _by_expert(reading: _Reading, mask: LabelMask | None) -> tuple[ExplanationScore, ...]:
    if mask is None:
        return ()
    scores = (score_explanation_by_expert(cell, mask, box) for cell, box in reading.explained)
    return tuple(score for score in scores if score)
