"""What trivial classifiers score that do not use the cell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from wbc_cli.slides.reader import SlideReader

Floats = NDArray[np.float64]

_FOLDS = 5
_BORDER_SIDE = 512  # pixels of the longer side: enough for a mean, and small for a whole slide
_SEED = 0
_NEIGHBOURS = 15  # a vote of neighbours finds what a linear rule misses: on ALL-IDB2 0.81 against 0.71


def majority(truths: Sequence[str]) -> float:
    """Compute the accuracy of always predicting the commonest class."""
    return max(Counter(truths).values()) / len(truths)


def border_colour(slide: SlideReader) -> tuple[float, float, float]:
    """Average red, green and blue over the image's rim, a twentieth of its shorter side wide, 0 to 255.

    Raises:
        SlideError: the image cannot be decoded.
    """
    downsample = max(1.0, max(slide.width, slide.height) / _BORDER_SIDE)
    image = slide.read(0, 0, slide.width, slide.height, downsample)
    height, width = image.shape[:2]
    rim = max(1, min(height, width) // 20)
    outside = np.ones((height, width), bool)
    outside[rim : height - rim, rim : width - rim] = False
    red, green, blue = image[outside].mean(axis=0)
    return float(red), float(green), float(blue)


def colour_accuracy(colours: Floats, truths: Sequence[str], groups: Sequence[str]) -> float | None:
    """Measure the accuracy of a vote of the nearest border colours, cross-validated inside the scored set.

    It learns from four fifths of the groups and is scored on the last, in turn: no model of ours gets this help. Where
    it does well, colour alone tells the class in that set.

    Args:
        colours: [N, 3].
        truths: the class of each row.
        groups: the group of each row.

    Returns:
        None with fewer than two groups.
    """
    names, group = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    if len(names) < 2:
        return None
    fold = (np.random.default_rng(_SEED).permutation(len(names)) % _FOLDS)[group]
    truth = np.asarray(truths, dtype=str)
    right = 0
    for held_out in np.unique(fold):
        train, test = fold != held_out, fold == held_out
        right += int((_vote(colours[train], truth[train], colours[test]) == truth[test]).sum())
    return right / len(truth)


def _vote(train: Floats, truth: NDArray[np.str_], test: Floats) -> NDArray[np.str_]:
    """Predict the commonest class among the nearest colours."""
    classes, index = np.unique(truth, return_inverse=True)
    nearest = KDTree(train).query(test, k=range(1, min(_NEIGHBOURS, len(train)) + 1))[1]
    votes = (index[nearest][..., None] == np.arange(len(classes))).sum(axis=1)
    return np.asarray(classes[votes.argmax(axis=1)])
