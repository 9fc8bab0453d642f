"""What the pipeline predicts for one labelled cell, as it counts in accuracy, F1 and calibration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray

from wbc_cli.cells import Cell
from wbc_cli.classes import BLAST, BY_NAME, CLASS_NAMES, ERYTHROBLAST, NOT_BLAST, OTHER, UNIDENTIFIED

MISSED = "missed"

CONSISTENCY = ("cam_in_cell", "cam_saliency", "cam_stability")
OUTCOMES = (*CLASS_NAMES, NOT_BLAST, UNIDENTIFIED.name, MISSED)


@dataclass(frozen=True)
class Prediction:
    """A true cell and what the pipeline predicts for it.

    Attributes:
        truth: its label.
        predicted: a name of `OUTCOMES`.
        confidence: probability of the likeliest class, None where no cell was found.
        likeliest_right: that class, identified or not, is the true one; None likewise.
        probability: that of the true class, None likewise.
        cell_confidence: what the least confidence of the pipeline is held against, None likewise; the same as
            `confidence` but where the truth has fewer classes than the model.
        consistency: of the cell's explanation: `cam_in_cell`, `cam_saliency`, `cam_stability`; empty likewise.
        features: of the cell, see `Cell`; None likewise.
    """

    truth: str
    predicted: str
    confidence: float | None = None
    likeliest_right: bool | None = None
    probability: float | None = None
    cell_confidence: float | None = None
    consistency: Mapping[str, float | None] = field(default_factory=dict)
    features: NDArray[np.float16] | None = field(default=None, compare=False)

    @property
    def right(self) -> bool:
        """Tell whether the prediction is the truth."""
        return self.predicted == self.truth

    @property
    def identified(self) -> bool:
        """Tell whether the cell was found and given a class."""
        return self.predicted not in (MISSED, UNIDENTIFIED.name)

    @property
    def right_if_typed(self) -> bool:
        """Tell whether the prediction is the truth, or would be if unidentified cells had their likeliest class."""
        return bool(self.likeliest_right) if self.predicted == UNIDENTIFIED.name else self.right


def prediction_for(truth: str, cell: Cell | None, *, blast_or_not: bool) -> Prediction:
    """Take a reported cell as the prediction for a true one.

    Args:
        truth: the label.
        cell: the reported cell, None where it was missed.
        blast_or_not: the data set only tells blasts from cells that are not, so every class but blast means the latter.
    """
    if cell is None:
        return Prediction(truth, MISSED)
    likeliest, confidence = CLASS_NAMES[int(cell.probabilities.argmax())], float(cell.probabilities.max())
    consistency = {name: getattr(cell, name) for name in CONSISTENCY}
    if not (blast_or_not and truth in (BLAST, NOT_BLAST)):
        probability = float(cell.probabilities[CLASS_NAMES.index(truth)])
        likely = likeliest == truth
        return Prediction(
            truth, cell.class_name, confidence, likely, probability, confidence, consistency, cell.features
        )
    predicts_blast = likeliest == BLAST
    blast_probability = float(cell.probabilities[CLASS_NAMES.index(BLAST)])
    return Prediction(
        truth,
        cell.class_name if cell.class_name in (BLAST, UNIDENTIFIED.name) else NOT_BLAST,
        blast_probability if predicts_blast else 1 - blast_probability,
        predicts_blast == (truth == BLAST),
        blast_probability if truth == BLAST else 1 - blast_probability,
        confidence,
        consistency,
        cell.features,
    )


def platelet_prediction(cells: Sequence[Cell] | None) -> Prediction:
    """Take what was reported as the prediction for an image of a platelet: right where no white cell is reported.

    Args:
        cells: what was reported, nearest to the image's centre first; None where the image failed.
    """
    if cells is None:
        return Prediction(OTHER, MISSED)
    white = white_cells(cells)
    shown = white or cells
    if not shown:
        return Prediction(OTHER, OTHER)
    found = prediction_for(OTHER, shown[0], blast_or_not=False)
    return found if white else replace(found, predicted=OTHER)


def pair_labels(labels: Sequence[str], cells: Sequence[Cell]) -> list[tuple[str, Cell | None]]:
    """Pair labels that have no position with cells, as favourably as the counts of classes allow.

    A label first takes a cell of its own class; what is left over is paired in order, so which wrong class stands
    beside which label is arbitrary, and only their number means something.
    """
    rest = list(cells)
    pairs: list[tuple[str, Cell | None]] = []
    unpaired: list[str] = []
    for label in labels:
        cell = next((cell for cell in rest if cell.class_name == label), None)
        if cell is None:
            unpaired.append(label)
        else:
            rest.remove(cell)
            pairs.append((label, cell))
    for label, cell in zip_longest(unpaired, rest[: len(unpaired)]):
        pairs.append((label, cell))
    return pairs


def white_cells(cells: Iterable[Cell], *, and_erythroblasts: bool = False) -> list[Cell]:
    """Choose the cells reported as white cells, unidentified ones among them."""
    return [
        cell
        for cell in cells
        if BY_NAME[cell.class_name].white_cell or (and_erythroblasts and cell.class_name == ERYTHROBLAST)
    ]
