"""Selective classification: what is risked by predicting the most confident cells only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from wbc_cli.evaluation.metrics import divide
from wbc_cli.evaluation.predictions import MISSED, Prediction

Floats = NDArray[np.float64]


def ranking(predictions: Sequence[Prediction]) -> tuple[list[int], Floats, NDArray[np.bool_]]:
    """Choose the predictions that a least confidence could hold back, and those that were missed.

    An image rightly reported empty has no confidence and is left out.

    Returns:
        indices of the predictions; [N] confidences, NaN for a missed cell; [N] whether each is right once it is given.
    """
    kept = [i for i, a in enumerate(predictions) if a.cell_confidence is not None or a.predicted == MISSED]
    confidence = [predictions[i].cell_confidence for i in kept]
    return kept, np.array(confidence, dtype=np.float64), np.array([predictions[i].right_if_typed for i in kept], bool)


def risk_coverage(confidence: Floats, right: NDArray[np.bool_], weights: Floats) -> tuple[Floats, Floats]:
    """Compute the risk at every coverage that a least confidence can give (El-Yaniv and Wiener, JMLR 2010).

    Args:
        confidence: [N], NaN where a cell was missed: it counts among all cells and is never covered.
        right: [N].
        weights: [..., N], how often each cell counts; all 1 outside of a resample.

    Returns:
        coverage, the share of all cells whose type is given, and risk, the share of wrong ones among them (0 where none
        is given): [..., T], one for each distinct confidence, the highest first.
    """
    order = np.argsort(-confidence, kind="stable")  # NaN comes last
    ranked = confidence[order][: np.count_nonzero(~np.isnan(confidence))]
    ends = np.flatnonzero(np.diff(ranked, append=-np.inf))  # equal confidences are given together or not at all
    given = np.cumsum(weights[..., order], axis=-1)
    wrong = np.cumsum((weights * ~right)[..., order], axis=-1)[..., ends]
    total, given = given[..., -1:], given[..., ends]
    return given / total, np.divide(wrong, given, out=np.zeros_like(wrong), where=given > 0)


def area(coverage: Floats, risk: Floats) -> Floats:
    """Average the risk over all coverages that can be had: the area under the curve (AURC), [..., T] to [...].

    NaN where none can be had. Geifman, Uziel and El-Yaniv, "Bias-reduced uncertainty estimation for deep neural
    classifiers", ICLR 2019.
    """
    widths = np.diff(coverage, axis=-1, prepend=0)
    return divide((widths * risk).sum(axis=-1), coverage[..., -1])


def coverage_at(coverage: Floats, risk: Floats, most: float) -> Floats:
    """Find the largest coverage whose risk is at most `most`, [..., T] to [...]; 0 where there is none."""
    return np.asarray(np.where(risk <= most, coverage, 0).max(axis=-1))
