"""Figures of merit as pure functions, and their 95 % intervals.

Nearly every figure that takes a bootstrap interval is a function of sums over images. So one resample of groups is one
weighted sum, and a thousand of them are one matrix product.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Interval = tuple[float | None, float | None]

CALIBRATION_BINS = 15
_RESAMPLES = 1000
_CHUNK = 100  # resamples held in memory at once
_SEED = 0


def bootstrap(groups: Sequence[str], terms: Floats, statistic: Callable[[Floats], Floats]) -> Interval:
    """Compute the 95 % percentile interval over 1000 seeded resamples of whole groups.

    Of a calibration error it lies somewhat high, as a resample repeats rows and so roughens every bin.

    Args:
        groups: the group of each row; rows of one group are drawn together.
        terms: [N, K], what each row adds to the sums that the statistic is made from.
        statistic: from sums [B, K] to values [B]; NaN where a resample leaves it undefined.

    Returns:
        The interval, unknown with fewer than two groups.
    """
    names, index = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    sums = np.zeros((len(names), terms.shape[1]))
    np.add.at(sums, index, terms)
    return _percentiles(len(names), lambda weights: statistic(weights @ sums))


def bootstrap_rows(groups: Sequence[str], statistic: Callable[[Floats], Floats]) -> Interval:
    """Compute the same interval for a figure that is no function of sums.

    Args:
        groups: the group of each row.
        statistic: from how often each row counts [B, N] to values [B].
    """
    names, index = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    return _percentiles(len(names), lambda weights: statistic(weights[:, index]))


def ratio(sums: Floats) -> Floats:
    """Divide the first sum by the last, [..., K] to [...]: the mean, where the last counts the rows."""
    return divide(sums[..., 0], sums[..., -1])


def f1(sums: Floats) -> Floats:
    """Compute F1 from true positives, false positives and false negatives, [..., 3] to [...]; NaN where all are 0."""
    tp, fp, fn = sums[..., 0], sums[..., 1], sums[..., 2]
    return divide(2 * tp, 2 * tp + fp + fn)


def macro_f1(sums: Floats) -> Floats:
    """Average F1 over the classes that occur, [..., C * 3] to [...]."""
    scores = f1(sums.reshape(*sums.shape[:-1], -1, 3))
    return divide(np.nansum(scores, axis=-1), np.sum(~np.isnan(scores), axis=-1, dtype=np.float64))


def class_terms(truths: Sequence[str], predicted: Sequence[str], classes: Sequence[str]) -> Floats:
    """Tell whether each row is a true positive, false positive, false negative of each class: [N, len(classes) * 3]."""
    truth = np.asarray(truths, dtype=str)[:, None] == np.asarray(classes, dtype=str)
    found = np.asarray(predicted, dtype=str)[:, None] == np.asarray(classes, dtype=str)
    terms = np.stack([truth & found, ~truth & found, truth & ~found], axis=-1)
    return terms.reshape(len(truths), -1).astype(np.float64)


def calibration_terms(confidence: Sequence[float], right: Sequence[bool]) -> Floats:
    """Give what each prediction adds to the calibration error: [N, CALIBRATION_BINS + 1], the gap in its bin, and 1."""
    confidences = np.asarray(confidence, dtype=np.float64)
    bins = np.minimum((confidences * CALIBRATION_BINS).astype(np.intp), CALIBRATION_BINS - 1)
    terms = np.zeros((len(confidences), CALIBRATION_BINS + 1))
    terms[np.arange(len(confidences)), bins] = confidences - np.asarray(right, dtype=np.float64)
    terms[:, -1] = 1
    return terms


def calibration_error(sums: Floats) -> Floats:
    """Average |confidence - accuracy| of their bin over the predictions (ECE): [..., K] to [...]."""
    return divide(np.abs(sums[..., :-1]).sum(axis=-1), sums[..., -1])


def iou(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Compute the intersection over union of two masks of one shape; 0 where both are empty."""
    union = np.count_nonzero(first | second)
    return np.count_nonzero(first & second) / union if union else 0.0


def dice(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Compute twice the intersection over the sum of the areas of two masks; 0 where both are empty."""
    total = np.count_nonzero(first) + np.count_nonzero(second)
    return 2 * np.count_nonzero(first & second) / total if total else 0.0


def divide(top: Floats, bottom: Floats) -> Floats:
    """Divide arrays of one shape; NaN where the bottom is 0."""
    return np.asarray(np.divide(top, bottom, out=np.full(np.shape(bottom), np.nan), where=bottom != 0))


def _percentiles(count: int, values: Callable[[Floats], Floats]) -> Interval:
    """Compute percentiles of `values` over resamples, given as how often each of `count` groups was drawn, [B, G]."""
    if count < 2:
        return None, None
    rng = np.random.default_rng(_SEED)
    offsets = count * np.arange(_CHUNK)[:, None]
    found = []
    for _ in range(_RESAMPLES // _CHUNK):
        drawn = rng.integers(count, size=(_CHUNK, count)) + offsets
        weights = np.bincount(drawn.ravel(), minlength=_CHUNK * count).reshape(_CHUNK, count)
        found.append(values(weights.astype(np.float64)))
    low, high = np.nanpercentile(np.concatenate(found), [2.5, 97.5])
    return float(low), float(high)
