"""From a cell's logits and its Mahalanobis distance to probabilities that mean what they say."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wbc_cli.model.config import ModelConfig


def calibrated(config: ModelConfig, logits: NDArray[np.float32], mahalanobis_distance: float) -> NDArray[np.float32]:
    """Compute the probabilities of one cell's classes by temperature scaling (Guo et al., ICML 2017).

    Args:
        config: has the temperature and how it grows with the distance.
        logits: float32 [classes].
        mahalanobis_distance: see `typicality.Typicality`; above 1 the cell is unlike the training cells.

    Returns:
        float32 [classes], summing to 1.
    """
    scaled = logits / (config.temperature * float(config.damping(np.asarray(mahalanobis_distance, np.float64))))
    probabilities = np.exp(scaled - scaled.max())
    return np.asarray(probabilities / probabilities.sum(), np.float32)
