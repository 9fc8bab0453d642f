"""What the analysis of one slide yields: its cells, its scale, its quality."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

CYTOPLASM = 1
NUCLEUS = 2

ATYPICAL = "atypical"
"""Flag of a cell that is given no type, however confident the network is."""

ScaleSource = Literal["file", "option", "estimate"]


@dataclass(frozen=True)
class Scale:
    """Micrometres per level-0 pixel, and how it is known.

    Attributes:
        um_per_px: micrometres a level-0 pixel.
        source: read from the file, given by the user, or estimated from the picture.
        relative_error: one standard deviation of the estimate as a fraction; 0 where known.
    """

    um_per_px: float
    source: ScaleSource
    relative_error: float = 0.0


@dataclass(frozen=True, eq=False)
class Explanation:
    """Why a cell got its class: the maps that its consistency figures come from.

    Attributes:
        x, y: upper left corner of the window in level-0 pixels (may lie outside the slide).
        side: side of the square window in level-0 pixels.
        cam: float32 [h, w], Grad-CAM of the reported class over the window, 0 to 1 at its maximum.
        saliency: float32 [h, w], the saliency prior over the window, 0 to 1.
    """

    x: float
    y: float
    side: float
    cam: NDArray[np.float32]
    saliency: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Cell:
    """One cell of a slide.

    Attributes:
        id: from 1, in reading order (by centroid y, then x).
        x, y: centroid of the mask in level-0 pixels (0.5, 0.5 is the middle of the first pixel).
        box: x0, y0, x1, y1 in level-0 pixels, half open, inside the slide.
        mask: uint8 [y1 - y0, x1 - x0] at level 0: 0 outside, CYTOPLASM, NUCLEUS.
        class_name: a name of `classes.CLASSES`, or "unidentified".
        probabilities: float32 [len(CLASSES)], calibrated, summing to 1.
        confidence: the largest of the probabilities.
        area_um2, nucleus_area_um2: square micrometres.
        saliency: mean of the prior inside the mask, 0 to 1.
        cam_in_cell: share of the Grad-CAM energy that lies inside the cell, 0 to 1.
        flags: short words: "edge" (cut by the image border), "explanation" (Grad-CAM lies elsewhere), "atypical"
            (unlike the cells that the model has learned from).
    """

    id: int
    x: float
    y: float
    box: tuple[int, int, int, int]
    mask: NDArray[np.uint8]
    class_name: str
    probabilities: NDArray[np.float32]
    confidence: float
    area_um2: float
    nucleus_area_um2: float
    saliency: float
    cam_in_cell: float
    explanation: Explanation
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class SlideResult:
    """Everything the products of one slide are made from.

    Attributes:
        name: the slide's name in tables: its relative path made safe.
        path: the file that was read.
        width, height: level-0 pixels.
        cells: in order of their ids.
        windows: number of windows that the network saw.
        flags: quality flags of the slide, such as "few_cells" or "scale_estimated".
        seconds: wall time by stage.
    """

    name: str
    path: Path
    width: int
    height: int
    scale: Scale
    cells: tuple[Cell, ...]
    windows: int
    flags: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
