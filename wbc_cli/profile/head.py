"""A type head that is drawn from the shipped one towards a laboratory's cells, as far as these justify it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

Floats = NDArray[np.float64]

MIN_CLASS_CELLS = 3
"""Reviewed cells of a class below which it keeps the shipped head."""
# Chosen on five laboratories that the model had not seen (krd, jtsc, raabin, rvpbs, bccd) and 25 to 200 of their cells:
# of 3 to 300, this is the best or within 0.01 of it for most of them from 50 cells on.
_SHRINKAGE = 30.0
_BIAS_SHRINKAGE = 1.0
_MIN_DEVIATION = 1e-3  # deviation of a feature that hardly varies
_MAX_ITERATIONS = 100


@dataclass(frozen=True, eq=False)
class TrainingCells:
    """Reviewed cells that a head is fitted to.

    Attributes:
        features: float64 [N, width].
        labels: int64 [N], indices into `classes.CLASS_NAMES`.
        slides: of each.
        damping: float64 [N], by how much the distance from the model's training cells flattens the probabilities;
            see `calibration.temperature`.
    """

    features: Floats
    labels: NDArray[np.int64]
    slides: NDArray[np.str_]
    damping: Floats

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, which: NDArray[np.bool_] | NDArray[np.int64]) -> TrainingCells:
        """Select some of the cells, by bools or indices."""
        return TrainingCells(self.features[which], self.labels[which], self.slides[which], self.damping[which])


@dataclass(frozen=True, eq=False)
class LinearHead:
    """A linear type head.

    Attributes:
        weight: float64 [classes, width].
        bias: float64 [classes].
    """

    weight: Floats
    bias: Floats

    def logits(self, cells: TrainingCells) -> Floats:
        """Compute the logits, float64 [N, classes], divided by the cells' damping."""
        return np.asarray((cells.features @ self.weight.T + self.bias) / cells.damping[:, None])

    def cooled(self, temperature: float) -> LinearHead:
        """Return the head whose logits are those of this one divided by a temperature."""
        return LinearHead(self.weight / temperature, self.bias / temperature)


@dataclass(frozen=True, eq=False)
class FeatureStatistics:
    """The mean and deviation of the features over a laboratory's cells, float64 [width] each."""

    mean: Floats
    deviation: Floats

    @classmethod
    def of(cls, features: NDArray[np.floating]) -> FeatureStatistics:
        """Take them from features [N, width]."""
        wide = features.astype(np.float64)
        return cls(wide.mean(axis=0), wide.std(axis=0) + _MIN_DEVIATION)


def learned_classes(labels: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """Return the indices of the classes that have enough cells to be learned."""
    return np.flatnonzero(np.bincount(labels, minlength=classes) >= MIN_CLASS_CELLS)


def fit_head(cells: TrainingCells, shipped: LinearHead, statistics: FeatureStatistics) -> LinearHead:
    """Fit logistic regression on standardised features, shrunken towards the shipped head (L2 on the difference).

    Args:
        cells: reviewed ones. Classes with fewer than MIN_CLASS_CELLS of them keep the shipped head's weights.
        shipped: where it starts from; its logits are taken for calibrated.
        statistics: of the laboratory's features.
    """
    rows = learned_classes(cells.labels, len(shipped.bias))
    inputs = np.column_stack([(cells.features - statistics.mean) / statistics.deviation, np.ones(len(cells))])
    inputs /= cells.damping[:, None]
    given = shipped.logits(cells)
    wanted = np.eye(len(shipped.bias))[cells.labels]
    shrinkage = np.append(np.full(inputs.shape[1] - 1, _SHRINKAGE), _BIAS_SHRINKAGE)

    def loss(flat: Floats) -> tuple[float, Floats]:
        change = flat.reshape(len(rows), -1)
        logits = given.copy()
        logits[:, rows] += inputs @ change.T
        error = (softmax(logits, axis=1) - wanted)[:, rows]
        value = -(log_softmax(logits, axis=1) * wanted).sum() + 0.5 * (shrinkage * change**2).sum()
        return float(value), np.asarray(error.T @ inputs + shrinkage * change).ravel()

    start = np.zeros(len(rows) * inputs.shape[1])
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": _MAX_ITERATIONS}).x.reshape(
        len(rows), -1
    )
    weight, bias = shipped.weight.copy(), shipped.bias.copy()
    raw = found[:, :-1] / statistics.deviation
    weight[rows] += raw
    bias[rows] += found[:, -1] - raw @ statistics.mean
    return LinearHead(weight, bias)
