"""Cell by cell: the confusion matrix of two readers, kappa, and how many cells of each class are called right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from statsmodels.stats.inter_rater import cohens_kappa

from wbc_cli.classes import BY_NAME
from wbc_cli.comparison.counts import CellKey
from wbc_cli.comparison.estimate import Estimate, proportion


@dataclass(frozen=True)
class CellAgreement:
    """The same cells by two readers.

    Attributes:
        classes: that either has seen.
        confusion: cells, a row a class of the reference and a column a class of the tested method.
        agreement: share of the cells that both call the same.
        kappa: the same beyond chance; None where chance gives all of it.
        sensitivity, specificity: of the tested method by class, against the reference; None where there are no such
            cells.
    """

    classes: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]
    agreement: Estimate
    kappa: Estimate | None
    sensitivity: Mapping[str, Estimate | None]
    specificity: Mapping[str, Estimate | None]


def cell_agreement(reference: Mapping[CellKey, str], tested: Mapping[CellKey, str]) -> CellAgreement | None:
    """Compare the cells that both have; None where there are none."""
    shared = [(name, tested[key]) for key, name in reference.items() if key in tested]
    if not shared:
        return None
    classes = tuple(name for name in BY_NAME if any(name in pair for pair in set(shared)))
    index_of = {name: i for i, name in enumerate(classes)}
    table = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(table, tuple(np.array([[index_of[a], index_of[b]] for a, b in shared]).T), 1)
    right, total = int(np.trace(table)), int(table.sum())
    agreement = proportion(right, total)
    assert agreement is not None
    of_reference, of_tested = table.sum(axis=1), table.sum(axis=0)
    return CellAgreement(
        classes,
        tuple(tuple(map(int, row)) for row in table),
        agreement,
        kappa_of(table),
        {name: proportion(int(table[i, i]), int(of_reference[i])) for i, name in enumerate(classes)},
        {
            name: proportion(int(total - of_reference[i] - of_tested[i] + table[i, i]), int(total - of_reference[i]))
            for i, name in enumerate(classes)
        },
    )


def kappa_of(table: np.ndarray[tuple[int, int], np.dtype[np.int64]]) -> Estimate | None:
    """Compute Cohen's kappa of a square table, with the interval of Fleiss, Cohen and Everitt; None where undefined.

    Where that formula's interval would have no width, as where all agree, there is none.
    """
    right, total = int(np.trace(table)), int(table.sum())
    of_reference, of_tested = table.sum(axis=1), table.sum(axis=0)
    chance = int(of_reference @ of_tested)
    if chance == total**2:
        return None
    # How far one cell more would move kappa, by its place in the table: where it is the same for all cells that there
    # are, the variance is 0. In whole numbers, as the variance itself comes out as a tiny number of either sign.
    moved = (total**2 - chance) * np.eye(len(table), dtype=np.int64)
    moved -= (total - right) * (of_tested[:, None] + of_reference)
    if np.ptp(moved[table > 0]) == 0:
        return Estimate((right * total - chance) / (total**2 - chance), None, None, total)
    found = cohens_kappa(table)
    return Estimate(float(found.kappa), max(-1.0, float(found.kappa_low)), min(1.0, float(found.kappa_upp)), total)
