"""One figure of merit: its value, interval, n and trivial baselines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from wbc_cli.evaluation import metrics
from wbc_cli.intervals import clopper_pearson

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Figure:
    """One figure of merit.

    Attributes:
        value: the figure.
        low, high: its 95 % interval, None where too few images tell.
        n: number of things it rests on.
        unit: what these are: cells, images, fields, boxes.
        baselines: what trivial predictions score, by their names.
    """

    value: float
    low: float | None
    high: float | None
    n: int
    unit: str
    baselines: dict[str, float] = field(default_factory=dict)


def proportion(right: Sequence[bool], unit: str, baselines: dict[str, float] | None = None) -> Figure:
    """Take the share of what is right, with a Clopper-Pearson interval."""
    return share(sum(right), len(right), unit, baselines)


def share(count: int, total: int, unit: str, baselines: dict[str, float] | None = None) -> Figure:
    """Take a count as a share of a total (at least one), with a Clopper-Pearson interval."""
    return Figure(count / total, *clopper_pearson(count, total), total, unit, baselines or {})


def mean(
    groups: Sequence[str], values: Sequence[float] | Floats, unit: str, baselines: dict[str, float] | None = None
) -> Figure:
    """Take the mean of values, at least one, with a bootstrap interval over whole groups."""
    terms = np.stack([np.asarray(values, dtype=np.float64), np.ones(len(values))], axis=-1)
    return bootstrapped(groups, terms, metrics.ratio, unit, baselines)


def bootstrapped(
    groups: Sequence[str],
    terms: Floats,
    statistic: Callable[[Floats], Floats],
    unit: str,
    baselines: dict[str, float] | None = None,
) -> Figure:
    """Take a function of sums over rows, with a bootstrap interval over whole groups; see `metrics.bootstrap`."""
    value = float(statistic(terms.sum(axis=0)))
    return Figure(value, *metrics.bootstrap(groups, terms, statistic), len(terms), unit, baselines or {})
