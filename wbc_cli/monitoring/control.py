"""Control charts after Shewhart, and of the exponentially weighted moving average (EWMA), with limits that are learned.

Days have more or fewer slides, and slides more or fewer cells, so each group of slides has limits of its own: what
scatters from slide to slide shrinks with their number, what scatters from day to day does not. Both, and the centre,
are known from the reference period only, so the limits are those of a prediction, by Student's t.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

EWMA_WEIGHT = 0.2
"""The weight of the newest group in the moving average: it answers to a drift over some five groups."""


@dataclass(frozen=True, eq=False)
class Group:
    """A figure on the slides of a day or batch.

    Attributes:
        values: float64 [slides].
        weights: float64 [slides], such as cells; 1 for a figure of the slide itself.
    """

    values: NDArray[np.float64]
    weights: NDArray[np.float64]

    @property
    def weight(self) -> float:
        """The sum of the slides' weights."""
        return float(self.weights.sum())

    @property
    def mean(self) -> float:
        """The weighted mean of the values."""
        return float((self.values * self.weights).sum() / self.weight)


@dataclass(frozen=True)
class ReferenceStatistics:
    """The statistics hold what the reference period says of a figure.

    Attributes:
        centre: mean of the groups.
        between: variance from group to group.
        within: variance from slide to slide, of a slide of weight 1.
        of_centre: variance of the centre, which is an estimate itself.
        freedom: degrees of freedom of the variances.
    """

    centre: float
    between: float
    within: float
    of_centre: float
    freedom: float

    def variance(self, weight: float) -> float:
        """Return the variance of a group of such weight about the true centre."""
        return self.between + self.within / weight


@dataclass(frozen=True, eq=False)
class Chart:
    """Both charts of a figure: float64 [groups], with NaN for groups without it.

    Attributes:
        values: of the groups.
        low, high: Shewhart limits.
        average: the moving average; it begins at the centre with the first group that is judged.
        average_low, average_high: its limits.
    """

    values: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    average: NDArray[np.float64]
    average_low: NDArray[np.float64]
    average_high: NDArray[np.float64]


def reference_statistics(groups: Sequence[Group], smallest: float) -> ReferenceStatistics:
    """Learn from the groups of the reference period, of which there are two or more.

    Args:
        groups: without empty ones.
        smallest: the least standard deviation to believe in: of figures that never change, but for rounding.
    """
    means = np.array([group.mean for group in groups])
    spare = sum(len(group.values) - 1 for group in groups)
    squares = sum(float((group.weights * (group.values - group.mean) ** 2).sum()) for group in groups)
    within = squares / spare if spare else 0.0
    of_means = max(float(means.var(ddof=1)), smallest**2)
    between = max(smallest**2, of_means - within * float(np.mean([1 / group.weight for group in groups])))
    count = len(groups)
    return ReferenceStatistics(float(means.mean()), between, within, of_means / count, count - 1)


def reach_of(false_alarm: float, freedom: float) -> float:
    """Compute how many standard deviations from the centre the limits lie.

    Args:
        false_alarm: probability that a value beyond either limit is chance.
        freedom: degrees of freedom of the standard deviation; infinite where that is known.
    """
    return float(t.isf(false_alarm / 2, freedom))


def chart(groups: Sequence[Group | None], judged: Sequence[bool], learned: ReferenceStatistics, reach: float) -> Chart:
    """Draw up both charts.

    Args:
        groups: in order of time; None where the figure is not known.
        judged: which come after the reference period: the moving average is of these.
        learned: from the reference period.
        reach: standard deviations from the centre to the limits.
    """
    columns = np.full((6, len(groups)), np.nan)
    average, variance = learned.centre, 0.0
    for i, group in enumerate(groups):
        if group is None:
            continue
        own = learned.variance(group.weight)
        width = reach * np.sqrt(own + learned.of_centre)
        columns[:3, i] = group.mean, learned.centre - width, learned.centre + width
        if judged[i]:
            average = EWMA_WEIGHT * group.mean + (1 - EWMA_WEIGHT) * average
            variance = EWMA_WEIGHT**2 * own + (1 - EWMA_WEIGHT) ** 2 * variance
            width = reach * np.sqrt(variance + learned.of_centre)
            columns[3:, i] = average, learned.centre - width, learned.centre + width
    return Chart(*columns)
