"""What the pipeline answered for one labelled cell, as it counts in accuracy, F1 and calibration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray

from wbc_cli.cells import ATYPICAL, Cell
from wbc_cli.classes import BY_NAME, CLASS_NAMES, UNIDENTIFIED
from wbc_cli.manifest import NOT_BLAST

MISSED = "missed"
PLATELET = "platelet"
BLAST = "blast"
ERYTHROBLAST = "erythroblast"

CONSISTENCY = ("cam_in_cell", "cam_saliency", "cam_stability")
ANSWERS = (*CLASS_NAMES, NOT_BLAST, UNIDENTIFIED.name, MISSED)


@dataclass(frozen=True)
class Answer:
    """One true cell and what was said of it.

    Attributes:
        truth: its label.
        answer: a name of `ANSWERS`.
        confidence: probability of the likeliest class, None where no cell was found.
        likeliest_right: that class, identified or not, is the true one; None likewise.
        probability: that of the true class, None likewise.
        cell_confidence: what the least confidence of the pipeline is held against, None likewise; the same as
            `confidence` but where the truth has fewer classes than the model, and 0 for an atypical cell, whose type is
            the last to be given.
        consistency: of the cell's explanation: `cam_in_cell`, `cam_saliency`, `cam_stability`; empty likewise.
        features: of the cell, see `Cell`; None likewise.
    """

    truth: str
    answer: str
    confidence: float | None = None
    likeliest_right: bool | None = None
    probability: float | None = None
    cell_confidence: float | None = None
    consistency: Mapping[str, float | None] = field(default_factory=dict)
    features: NDArray[np.float16] | None = field(default=None, compare=False)

    @property
    def right(self) -> bool:
        """The answer is the truth."""
        return self.answer == self.truth

    @property
    def identified(self) -> bool:
        """The cell was found and given a class."""
        return self.answer not in (MISSED, UNIDENTIFIED.name)

    @property
    def right_if_typed(self) -> bool:
        """The answer is the truth, or would be if an unidentified cell were called what it likeliest is."""
        return bool(self.likeliest_right) if self.answer == UNIDENTIFIED.name else self.right


def answer(truth: str, cell: Cell | None, *, blast_or_not: bool) -> Answer:
    """Take a reported cell as the answer for a true one.

    Args:
        truth: the label.
        cell: the reported cell, None where it was missed.
        blast_or_not: the data set only tells blasts from cells that are not, so every class but blast means the latter.
    """
    if cell is None:
        return Answer(truth, MISSED)
    likeliest = CLASS_NAMES[int(cell.probabilities.argmax())]
    rank = 0.0 if ATYPICAL in cell.flags else cell.confidence
    consistency = {name: getattr(cell, name) for name in CONSISTENCY}
    if not (blast_or_not and truth in (BLAST, NOT_BLAST)):
        probability = float(cell.probabilities[CLASS_NAMES.index(truth)])
        likely = likeliest == truth
        return Answer(truth, cell.class_name, cell.confidence, likely, probability, rank, consistency, cell.features)
    says_blast = likeliest == BLAST
    blast_probability = float(cell.probabilities[CLASS_NAMES.index(BLAST)])
    return Answer(
        truth,
        cell.class_name if cell.class_name in (BLAST, UNIDENTIFIED.name) else NOT_BLAST,
        blast_probability if says_blast else 1 - blast_probability,
        says_blast == (truth == BLAST),
        blast_probability if truth == BLAST else 1 - blast_probability,
        rank,
        consistency,
        cell.features,
    )


def answer_platelet(cells: Sequence[Cell] | None) -> Answer:
    """Take what was reported as the answer for an image of a platelet: right where no white cell is reported.

    Args:
        cells: what was reported, nearest to the image's centre first; None where the image failed.
    """
    if cells is None:
        return Answer(PLATELET, MISSED)
    white = white_cells(cells)
    shown = white or cells
    if not shown:
        return Answer(PLATELET, PLATELET)
    found = answer(PLATELET, shown[0], blast_or_not=False)
    return found if white else replace(found, answer=PLATELET)


def pair_labels(labels: Sequence[str], cells: Sequence[Cell]) -> list[tuple[str, Cell | None]]:
    """Pair labels that have no place with cells, as favourably as the counts of classes allow.

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
