"""A figure with its 95 % interval, and the one of a proportion."""

from __future__ import annotations

from dataclasses import dataclass

from statsmodels.stats.proportion import proportion_confint


@dataclass(frozen=True)
class Estimate:
    """A figure and where its true value lies.

    Attributes:
        value: the figure.
        low, high: its 95 % interval; None where there is too little to tell.
        n: how many samples, or cells, it rests on.
    """

    value: float
    low: float | None
    high: float | None
    n: int


def proportion(count: int, total: int) -> Estimate | None:
    """Take a share of a total, 0 to 1, with Wilson's score interval (1927), which CLSI EP12-A2 asks for.

    It is None of nothing.

    Intervals by Clopper and Pearson cover more than the 95 % that they say, above all of few samples.
    """
    if total == 0:
        return None
    low, high = proportion_confint(count, total, 0.05, "wilson")
    return Estimate(count / total, float(low), float(high), total)
