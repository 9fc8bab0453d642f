"""Differences of two methods: Bland-Altman, correlation, and whether they are more than chance gives."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.stats import hypergeom, nct, norm, pearsonr, t

from wbc_cli.comparison.estimate import Estimate

_TAIL = 0.025  # on either side of a 95 % interval
_Z = float(norm.ppf(1 - _TAIL))


@dataclass(frozen=True)
class BlandAltman:
    """The differences tested - reference, in the unit of both.

    Attributes:
        bias: their mean.
        lower, upper: limits of agreement, between which 95 % of the differences lie, with exact intervals.
    """

    bias: Estimate
    lower: Estimate
    upper: Estimate


def bland_altman(reference: NDArray[np.float64], tested: NDArray[np.float64]) -> BlandAltman | None:
    """Compute bias and limits of agreement (Lancet 1986; i: 307-310); None of fewer than three samples.

    The limits' intervals are exact for normal differences (Carkeet, Optom Vis Sci 2015; 92: e71-e80).

    Args:
        reference, tested: [samples], in the same unit and order.
    """
    count = len(reference)
    if count < 3:
        return None
    differences = tested - reference
    mean, deviation = float(differences.mean()), float(differences.std(ddof=1))
    reach = float(t.ppf(1 - _TAIL, count - 1)) * deviation / np.sqrt(count)
    inner, outer = (tolerance_factor(count, 1 - _TAIL, confidence) for confidence in (_TAIL, 1 - _TAIL))
    return BlandAltman(
        Estimate(mean, mean - reach, mean + reach, count),
        Estimate(mean - _Z * deviation, mean - outer * deviation, mean - inner * deviation, count),
        Estimate(mean + _Z * deviation, mean + inner * deviation, mean + outer * deviation, count),
    )


@cache
def tolerance_factor(count: int, share: float, confidence: float) -> float:
    """Compute how many deviations above the mean a share of a normal population lies at most, with such confidence.

    Args:
        count: samples that mean and standard deviation come from, 2 or more.
        share, confidence: 0 to 1.
    """
    root = np.sqrt(count)
    return float(nct.ppf(confidence, count - 1, norm.ppf(share) * root) / root)


def correlation(reference: NDArray[np.float64], tested: NDArray[np.float64]) -> Estimate | None:
    """Compute Pearson's r with Fisher's interval; None of fewer than four samples, or where a method never changes."""
    if len(reference) < 4 or np.ptp(reference) == 0 or np.ptp(tested) == 0:
        return None
    found = pearsonr(reference, tested)
    interval = found.confidence_interval(0.95)
    return Estimate(float(found.statistic), float(interval.low), float(interval.high), len(reference))


def within_limits(
    counts: NDArray[np.int64], totals: NDArray[np.int64], others: NDArray[np.int64], other_totals: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Tell whether two counts of the same sample differ by no more than the cells counted give by chance.

    The binomial limits that haematologists know as Ruemke's are those of one count. These are of the difference of
    two, exact as well: given the cells of a class in both counts together, how many of them the one has is
    hypergeometric. Of two counts that differ by chance alone 95 of 100 or more lie within.

    Args:
        counts, totals: [samples] cells of the class, and all cells, of the one.
        others, other_totals: of the other.
    """
    all_cells, of_class = totals + other_totals, counts + others
    at_most = hypergeom.cdf(counts, all_cells, of_class, totals)
    at_least = hypergeom.sf(counts - 1, all_cells, of_class, totals)
    return np.asarray((at_most > _TAIL) & (at_least > _TAIL))
