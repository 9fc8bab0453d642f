"""Regression of Passing and Bablok (J Clin Chem Clin Biochem 1983; 21: 709-720).

No library that is kept has it: scipy's Theil-Sen presumes a reference without error.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from wbc_cli.comparison.estimate import Estimate

MIN_SAMPLES = 5
"""Samples: of fewer the ranks of the interval lie outside the slopes."""
MAX_SAMPLES = 3000
"""Samples that the line is fitted to: of more some are taken evenly, since the pairs grow with the square."""
_Z = float(norm.ppf(0.975))


@dataclass(frozen=True)
class PassingBablok:
    """The line tested = intercept + slope * reference.

    Attributes:
        slope: with the interval of the paper, by ranks.
        intercept: with an interval that knows of the scatter about the line as well as of the slope.
        intercept_by_ranks: the same with the interval of the paper and of other programs, from the limits of the slope
            alone. It is too narrow: it holds the truth in some 91 of 100 comparisons.
    """

    slope: Estimate
    intercept: Estimate
    intercept_by_ranks: Estimate


def passing_bablok(reference: NDArray[np.float64], tested: NDArray[np.float64]) -> PassingBablok | None:
    """Fit the line; None where there are too few different samples.

    Both methods may err, and their errors are taken to be alike but for the slope. Pairs of equal samples count for
    nothing, and so do slopes of exactly -1, so that exchanging the methods gives the same line.

    Args:
        reference, tested: [samples], in the same unit and order.
    """
    step = -(-len(reference) // MAX_SAMPLES) or 1
    reference, tested = reference[::step], tested[::step]
    count = len(reference)
    slopes = _slopes(reference, tested)
    total = len(slopes)
    if count < MIN_SAMPLES or total == 0:
        return None
    shift = int((slopes < -1).sum())
    middle = (total - 1) / 2 + shift
    below, above = int(np.floor(middle)), int(np.ceil(middle))
    reach = _Z * np.sqrt(count * (count - 1) * (2 * count + 5) / 18)
    first = round((total - reach) / 2)
    ranks = first + shift - 1, total - first + shift
    if above >= total or min(ranks) < 0 or max(ranks) >= total:
        return None
    slope = float((slopes[below] + slopes[above]) / 2)
    low, high = (float(slopes[rank]) for rank in ranks)
    if not np.isfinite([slope, low, high]).all():
        return None
    intercept, least, most = (float(np.median(tested - b * reference)) for b in (slope, high, low))
    under, over = _scatter(tested - slope * reference)
    return PassingBablok(
        Estimate(slope, low, high, count),
        Estimate(
            intercept,
            intercept - float(np.hypot(intercept - least, under)),
            intercept + float(np.hypot(most - intercept, over)),
            count,
        ),
        Estimate(intercept, least, most, count),
    )


def _slopes(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sort the slopes between all pairs of samples that differ, without those of -1; infinite where x is the same."""
    first, second = np.triu_indices(len(x), 1)
    across, up = x[second] - x[first], y[second] - y[first]
    differ = (across != 0) | (up != 0)
    with np.errstate(divide="ignore"):
        slopes = up[differ] / across[differ]
    return np.sort(slopes[slopes != -1])


def _scatter(residuals: NDArray[np.float64]) -> tuple[float, float]:
    """Compute how far the median of the residuals may lie from the truth, below and above, by their order."""
    ordered = np.sort(residuals)
    middle, reach = (len(ordered) - 1) / 2, _Z * np.sqrt(len(ordered)) / 2
    low, high = np.interp([middle - reach, middle + reach], np.arange(len(ordered)), ordered)
    centre = float(np.median(ordered))
    return centre - float(low), float(high) - centre
