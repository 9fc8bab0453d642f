"""The measures of a laboratory's neutrophils, from cells that are typed each by itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from wbc_cli.cells import Cell
from wbc_cli.classes import CLASS_NAMES, LYMPHOCYTE, OTHER_INDEX
from wbc_cli.model.morphometric_head import COMPARED, EOSINOPHIL_INDEX, MEASURES, NEUTROPHIL_INDEX

Neutrophils = tuple[float, ...]
"""What is known of the neutrophils of a laboratory: KEPT numbers, see `paler_half`."""

MAX_TYPED = 64
"""The most pictures of an acquisition whose cells are measured."""

_MAX_CELLS = 300  # of them, in whole pictures

MIN_GRANULOCYTES = 10
"""The fewest granulocytes that tell the measures of neutrophils where they lie alone."""

# And where they lie in blood, that is among lymphocytes. In folders of twelve of its cells 0.87 of KRD-WBC's types are
# right so (0.69 with ten at least) and 0.76 of Raabin-WBC's (0.74), by networks that have not seen them; by the shipped
# one 0.91 of the latter (0.94), as half of its granulocytes are eosinophils, which they are in no blood.
_MIN_GRANULOCYTES_IN_BLOOD = 4
# A folder may hold one type alone. In seven laboratories, as networks that have not seen them type their
# cells, monocytes alone look like granulocytes in up to 0.23 of the cells, and all types together in 0.27 to 0.64. Of
# granulocytes 0.69 to 1 are taken for neutrophils where all are, and up to 0.47 where all are eosinophils; but 0.44 of
# KRD-WBC's, where nearly all are neutrophils, with a scale that is a fifth off. Of granulocytes alone 0.02 at most are
# taken for lymphocytes, and of these 0.88 or more are known, so that where there are some the sample is blood.
_MIN_GRANULOCYTE_SHARE, _MIN_NEUTROPHIL_SHARE, _MIN_LYMPHOCYTE_SHARE = 0.25, 0.52, 0.1
_DIGITS = 4
_LYMPHOCYTE_INDEX = CLASS_NAMES.index(LYMPHOCYTE)


class Typed(Protocol):
    """A cell whose type is known as far as it tells it by itself, as `Cell` and `WindowCell`."""

    @property
    def features(self) -> NDArray[np.float16]:
        """Return what it was typed from, see `WindowCell`."""

    @property
    def measures(self) -> NDArray[np.float32]:
        """See `SGCLDFF.measure`."""


def first_cells(pictures: Iterable[Sequence[Cell]]) -> list[Cell]:
    """Gather the cells of pictures, of no more of these than it takes to have many."""
    cells: list[Cell] = []
    for picture in pictures:
        cells += picture
        if len(cells) >= _MAX_CELLS:
            break
    return cells


def measure_neutrophils(cells: Sequence[Typed], scores: Iterable[NDArray[np.float32]]) -> Neutrophils | None:
    """Measure the neutrophils among the cells of one laboratory.

    They are taken to be the half of the granulocytes whose cytoplasm is paler: neutrophils are more than half of them
    in nearly all blood, and paler than eosinophils in all.

    Args:
        cells: each typed by itself.
        scores: of each cell, float32 [classes], logits or probabilities.

    Returns:
        What `paler_half` returns; None where there are too few granulocytes, or where many of these may be
        eosinophils, as there are no lymphocytes beside them. What counts as one is one by all that types it and by its
        shape alone.
    """
    if not cells:
        return None
    pair = [NEUTROPHIL_INDEX, EOSINOPHIL_INDEX]
    likeliest = np.argmax(np.stack(list(scores)), axis=1)
    nucleated = np.count_nonzero(likeliest != OTHER_INDEX)
    evidence = np.stack([cell.features[-len(CLASS_NAMES) :] for cell in cells])
    granulocytes = np.isin(likeliest, pair) & (evidence[:, pair].max(axis=1) == evidence.max(axis=1))
    blood = np.count_nonzero(likeliest == _LYMPHOCYTE_INDEX) >= _MIN_LYMPHOCYTE_SHARE * nucleated
    least = _MIN_GRANULOCYTES_IN_BLOOD if blood else MIN_GRANULOCYTES
    if np.count_nonzero(granulocytes) < max(least, _MIN_GRANULOCYTE_SHARE * nucleated):
        return None
    by_shape = evidence[:, NEUTROPHIL_INDEX] > evidence[:, EOSINOPHIL_INDEX]
    share = (np.mean(likeliest[granulocytes] == NEUTROPHIL_INDEX) + np.mean(by_shape[granulocytes])) / 2
    if share < _MIN_NEUTROPHIL_SHARE and not blood:
        return None
    return paler_half(np.stack([cell.measures for cell in cells])[granulocytes])


def paler_half(measures: NDArray[np.float32]) -> Neutrophils:
    """Describe the paler half of granulocytes.

    Args:
        measures: float32 [n, MEASURED], see `SGCLDFF.measure`.

    Returns:
        The medians of the compared measures, and the means of the scores, which are those of the mean features.
    """
    paler = measures[measures[:, 0] <= np.median(measures[:, 0])]
    kept = [*np.median(paler[:, :COMPARED], axis=0), *paler[:, MEASURES:].mean(axis=0)]
    return tuple(round(float(value), _DIGITS) for value in kept)
