"""Which cells a laboratory's profile learns most from, in the order in which to review them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_SEED = 0
_MIN_DEVIATION = 1e-3  # deviation of a feature that hardly varies
_MIN_DISTANCE = 1e-6  # of the mean squared length of a gradient: what lies nearer is a copy
_MIN_DOUBT = 0.05  # share of the probability that is not the likeliest class's: a sure cell may teach, too


def teaching_order(features: NDArray[np.floating], probabilities: NDArray[np.floating], most: int) -> NDArray[np.int64]:
    """Choose cells to review: in turn one by BADGE and one at random.

    BADGE (Ash et al., Deep batch active learning by diverse, uncertain gradients, ICLR 2020): each cell stands for the
    gradient that its likeliest class would have on the type head, long where the class is uncertain, in another
    direction where class or features are others. Cells are drawn one by one, each the likelier the farther it lies from
    all that were drawn before (k-means++), which finds the rare and the doubtful ones. They alone would teach that
    everything is doubtful: the random ones are for how sure the model may be. No near-copy of a drawn cell is drawn.

    Args:
        features: float [N, width], type features of the cells.
        probabilities: float [N, classes], of each cell's classes.
        most: cells to choose.

    Returns:
        int64 [at most `most`], indices of the cells; the same for the same cells.
    """
    if not len(features):
        return np.zeros(0, np.int64)
    wide = features.astype(np.float64)
    wide = (wide - wide.mean(axis=0)) / (wide.std(axis=0) + _MIN_DEVIATION)
    error = probabilities.astype(np.float64)
    likeliest = error.argmax(axis=1)
    error = (1 - _MIN_DOUBT) * error + _MIN_DOUBT / error.shape[1]
    error[np.arange(len(error)), likeliest] -= 1
    length = (wide**2).sum(axis=1) * (error**2).sum(axis=1)
    rng = np.random.default_rng(_SEED)
    chosen = [int(length.argmax())]
    nearest = np.full(len(wide), np.inf)
    while len(chosen) < min(most, len(wide)):
        last = chosen[-1]
        distance = length + length[last] - 2 * (wide @ wide[last]) * (error @ error[last])
        nearest = np.minimum(nearest, distance.clip(0))
        nearest[chosen] = 0
        others = nearest > _MIN_DISTANCE * length.mean()
        if not others.any():
            break  # all that is left are copies
        weights = np.where(others, nearest if len(chosen) % 2 else 1.0, 0.0)
        chosen.append(int(rng.choice(len(wide), p=weights / weights.sum())))
    return np.array(chosen, np.int64)
