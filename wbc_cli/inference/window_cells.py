"""What the network predicts for a window, and for each cell in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class WindowCell:
    """It holds what the network predicts of one cell in a window.

    Attributes:
        label: its number in the window's label map.
        logits: float32 [classes].
        mahalanobis_distance: from the training cells, above 1 where it is unlike them; see `typicality.Typicality`.
        cam: float32 [h, w], Grad-CAM of its likeliest class over the window, 1 at most.
        cam_in_cell: share of the Grad-CAM energy inside the cell's mask, 0 to 1.
        saliency: mean of the prior inside the mask.
        cam_saliency: correlation of the Grad-CAM with the prior over the window.
        cam_stability: correlation of the Grad-CAM with that of the same class in a window shifted by 1.6 um; None for a
            cell whose type is clear, whose window is not augmented.
        evenness: how evenly its nucleus takes up the three colours, 0 to 1; see `neutral_density.evenness`.
        morphology: int64 [attributes], the likeliest value of each of `morphology.ATTRIBUTES`.
        features: float16 [width + classes], what it was typed from: the type features' mean over the cell, and the
            weighed evidence of its shape and of the other cells of its sample.
        measures: float32 [MEASURED], see `SGCLDFF.measure`.
    """

    label: int
    logits: NDArray[np.float32]
    mahalanobis_distance: float
    cam: NDArray[np.float32]
    cam_in_cell: float
    saliency: float
    cam_saliency: float
    cam_stability: float | None
    evenness: float
    morphology: NDArray[np.int64]
    features: NDArray[np.float16]
    measures: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class WindowPrediction:
    """It holds what the network predicts for one window.

    Attributes:
        probabilities: float32 [3, h, w], background, cytoplasm, nucleus at stride 2.
        labels: uint8 [h, w], the separated cells.
        cells: one for each label, in the labels' order.
        saliency: float32 [h / 4, w / 4], the prior over the window.
    """

    probabilities: NDArray[np.float32]
    labels: NDArray[np.uint8]
    cells: tuple[WindowCell, ...]
    saliency: NDArray[np.float32]
