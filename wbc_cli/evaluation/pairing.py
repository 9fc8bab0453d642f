"""Pairs of an image's true cells and those that were reported on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from wbc_cli.cells import Cell, SlideResult
from wbc_cli.classes import ERYTHROBLAST, OTHER
from wbc_cli.evaluation.matching import (
    by_distance,
    cut_by_border,
    match_by_centre,
    match_by_either,
    match_by_iou,
    match_by_mask,
)
from wbc_cli.evaluation.predictions import Prediction, pair_labels, platelet_prediction, prediction_for, white_cells
from wbc_cli.evaluation.regions import LabelMask
from wbc_cli.evaluation.truth import MaskedCells, white_boxes
from wbc_cli.manifest import WHITE_CELL, Box, Sample


@dataclass(frozen=True)
class DetectionScore:
    """The counts of one field: true boxes, reported cells, and their pairs by box overlap and by centre.

    A reported cell that the image's border cuts and that matches no box is not among them: many sets leave such
    cells without a box.
    """

    boxes: int
    cells: int
    matched: int
    matched_by_centre: int


@dataclass(frozen=True)
class PairedImage:
    """The true cells of an image, paired with those that were reported.

    Attributes:
        predictions: one a labelled cell.
        outlined: the cells to compare with the mask.
        explained: those whose explanation counts, each with its box where it has one.
        found: one a white cell of the truth, typed or not: whether a reported one matches it.
        false_cells: white cells reported where there is none; None where not all white cells of the image are known,
            or it failed.
        detection: of a field with boxes of white cells.
        negative: the image shows no white cell.
    """

    predictions: tuple[Prediction, ...] = ()
    outlined: tuple[Cell, ...] = ()
    explained: tuple[tuple[Cell, Box | None], ...] = ()
    found: tuple[bool, ...] = ()
    false_cells: int | None = None
    detection: DetectionScore | None = None
    negative: bool = False


def pair_image(
    sample: Sample, mask: LabelMask | None, result: SlideResult | None, *, blast_or_not: bool
) -> PairedImage:
    """Pair the truth with the result.

    Args:
        sample: the truth.
        mask: its mask, where it has one.
        result: what the pipeline found, None where it failed.
        blast_or_not: the data set tells only blasts from cells that are not.
    """
    boxes = white_boxes(sample)
    masked = MaskedCells.of(mask) if mask is not None and mask.any() else None
    if boxes:
        return _pair_field(sample, boxes, result, blast_or_not)
    if sample.labels and set(sample.labels) == {OTHER}:
        return _pair_platelet(result)
    if len(sample.labels) == 1:
        label = sample.labels[0]
        return (
            _pair_masked_cell(label, masked.labelled(), result, blast_or_not)
            if masked
            else _pair_centred_cell(label, result, blast_or_not)
        )
    if sample.labels:
        return _pair_unplaced(sample.labels, result, blast_or_not)
    if masked:
        return _pair_untyped(masked, result)
    return PairedImage(false_cells=len(white_cells(result.cells)) if result else None, negative=True)


def _pair_platelet(result: SlideResult | None) -> PairedImage:
    cells = _nearest_the_middle(result)
    return PairedImage(predictions=(platelet_prediction(cells if result else None),), outlined=cells[:1])


def _pair_centred_cell(label: str, result: SlideResult | None, blast_or_not: bool) -> PairedImage:
    """Take the reported cell nearest the image's middle for that of a crop whose cell has no other position."""
    return _pair_one_cell(label, _nearest_the_middle(result)[:1], None, blast_or_not)


def _pair_masked_cell(label: str, truth: MaskedCells, result: SlideResult | None, blast_or_not: bool) -> PairedImage:
    """Pair the masked cell with the reported one that overlaps it, wherever in the image that lies.

    Where it holds not even the image's middle, the image is no crop of one cell, whose neighbours nobody labelled, but
    a field that shows no other white cell.
    """
    if result is None:
        return _pair_one_cell(label, (), None, blast_or_not)
    pairs = match_by_mask(truth, result.cells)
    chosen = tuple(result.cells[index] for index in pairs.values())
    false_cells = None
    if not truth.at_middle:
        white = _cells_beside(result, (label,))
        false_cells = len([cell for cell in _not_cut(white, result) if cell not in chosen])
    return _pair_one_cell(label, chosen, false_cells, blast_or_not)


def _pair_one_cell(label: str, chosen: tuple[Cell, ...], false_cells: int | None, blast_or_not: bool) -> PairedImage:
    """Pair the label with the chosen cell, or with nothing where it is missing."""
    return PairedImage(
        predictions=(prediction_for(label, chosen[0] if chosen else None, blast_or_not=blast_or_not),),
        outlined=chosen,
        explained=tuple((cell, None) for cell in chosen),
        found=(bool(chosen),),
        false_cells=false_cells,
    )


def _pair_field(sample: Sample, boxes: list[Box], result: SlideResult | None, blast_or_not: bool) -> PairedImage:
    """Pair cells with the boxes that they overlap.

    Boxes that name a type are scored for it. Where none does, the image's labels are: one label goes for every box,
    several are compared as counts with the matched cells.
    """
    labels = [label for label in sample.labels if label != OTHER]
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
    by_centre, either = match_by_centre(boxes, cells), match_by_either(boxes, cells)
    matched_cells = {*pairs.values(), *by_centre.values(), *either.values()}
    counted = [i for i, cell in enumerate(cells) if i in matched_cells or (result and _not_cut([cell], result))]
    return PairedImage(
        predictions=tuple(prediction_for(label, cell, blast_or_not=blast_or_not) for label, cell in truth),
        outlined=tuple(cells),
        explained=tuple(found),
        found=tuple(cell is not None for cell in matched),
        false_cells=len(counted) - len(either) if result else None,
        detection=DetectionScore(len(boxes), len(counted), len(pairs), len(by_centre)),
    )


def _pair_unplaced(labels: Sequence[str], result: SlideResult | None, blast_or_not: bool) -> PairedImage:
    """Pair several labels without boxes: classes are compared as counts, outlines as one region."""
    cells = _cells_beside(result, labels)
    pairs = pair_labels([label for label in labels if label != OTHER], cells)
    return PairedImage(
        predictions=tuple(prediction_for(label, cell, blast_or_not=blast_or_not) for label, cell in pairs),
        outlined=tuple(cells),
        found=tuple(cell is not None for _, cell in pairs),
    )


def _pair_untyped(truth: MaskedCells, result: SlideResult | None) -> PairedImage:
    """Pair the cells of a mask without labels: they are to be found, their outlines are compared as one region."""
    cells = _cells_beside(result, ())
    pairs = match_by_mask(truth, cells)
    rest = [cell for index, cell in enumerate(cells) if index not in pairs.values()]
    return PairedImage(
        outlined=tuple(cells),
        explained=tuple((cells[index], None) for index in pairs.values()),
        found=tuple(index in pairs for index in range(len(truth.areas))),
        # Cells that touch are one piece of the mask: whoever lies in it is no false one.
        false_cells=len([cell for cell in _not_cut(rest, result) if not truth.holds(cell.x, cell.y)])
        if result
        else None,
    )


def _nearest_the_middle(result: SlideResult | None) -> tuple[Cell, ...]:
    return tuple(by_distance(result.cells, result.width / 2, result.height / 2)) if result else ()


def _not_cut(cells: Sequence[Cell], result: SlideResult) -> list[Cell]:
    return [cell for cell in cells if not cut_by_border(cell, result)]


def _cells_beside(result: SlideResult | None, labels: Sequence[str]) -> list[Cell]:
    """Choose the reported cells that truth of these labels speaks of."""
    return white_cells(result.cells, and_erythroblasts=ERYTHROBLAST in labels) if result else []
