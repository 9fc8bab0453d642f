"""From a cell's logits and its Mahalanobis distance to probabilities that mean what they say."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wbc_cli.model.config import ModelConfig


def calibrated(config: ModelConfig, logits: NDArray[np.float32], distance: float) -> NDArray[np.float32]:
    """Compute the probabilities of one cell's classes by temperature scaling (Guo et al., ICML 2017).

    The temperature grows with the distance from the training cells: far from them a network is confident for no reason.

    Args:
        config: has the temperature and how it grows.
        logits: float32 [classes].
        distance: see `typicality.Typicality`; 1 where home ends.

    Returns:
        float32 [classes], summing to 1.
    """
    scaled = logits / temperature(config, distance)
    probabilities = np.exp(scaled - scaled.max())
    return np.asarray(probabilities / probabilities.sum(), np.float32)


def temperature(config: ModelConfig, distance: float) -> float:
    """Return the temperature at a Mahalanobis distance."""
    return config.temperature * damping(config, distance)


def damping(config: ModelConfig, distance: float) -> float:
    """Return the factor by which the temperature grows with the distance; 1 among the training cells."""
    return float(max(1.0, distance) ** config.temperature_growth)
