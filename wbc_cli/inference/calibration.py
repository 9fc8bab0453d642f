"""From a cell's logits and its Mahalanobis distance to probabilities that mean what they say."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wbc_cli.model.config import ModelConfig


def calibrated(config: ModelConfig, logits: NDArray[np.float32], mahalanobis_distance: float) -> NDArray[np.float32]:
    """Compute the probabilities of one cell's classes by temperature scaling (Guo et al., ICML 2017).

    The temperature grows with the distance from the training cells: far from them a network is confident for no reason.

    Args:
        config: has the temperature and how it grows.
        logits: float32 [classes].
        mahalanobis_distance: see `typicality.Typicality`; above 1 the cell is unlike the training cells.

    Returns:
        float32 [classes], summing to 1.
    """
    scaled = logits / temperature(config, mahalanobis_distance)
    probabilities = np.exp(scaled - scaled.max())
    return np.asarray(probabilities / probabilities.sum(), np.float32)


def temperature(config: ModelConfig, mahalanobis_distance: float) -> float:
    """Return the temperature at a Mahalanobis distance."""
    return config.temperature * damping(config, mahalanobis_distance)


def damping(config: ModelConfig, mahalanobis_distance: float) -> float:
    """Return the factor by which the temperature grows with the distance; 1 among the training cells."""
    return float(max(1.0, mahalanobis_distance) ** config.temperature_growth)
