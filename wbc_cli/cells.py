"""What the analysis of one slide yields: its cells, its scale, its quality."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wbc_cli.morphology import Morphology

CYTOPLASM = 1
NUCLEUS = 2

ATYPICAL = "atypical"
"""The flag of a cell that is unlike the training cells; the farther from them, the flatter its probabilities."""

NEUTROPHILS_UNKNOWN = "neutrophils_unknown"
"""The flag of a slide whose cells could not be held against the neutrophils of its laboratory."""

ScaleSource = Literal["file", "option", "pooled", "estimate"]


@dataclass(frozen=True)
class Scale:
    """The micrometres per level-0 pixel, and how they are known.

    Attributes:
        um_per_px: micrometres a level-0 pixel.
        source: read from the file, given by the user, estimated from all pictures of the acquisition, or from this one.
        relative_error: one standard deviation of the estimate as a fraction; 0 where known.
        contradicted_by: micrometres a level-0 pixel that the cells look like, where these clearly contradict what the
            file or the user states, which is used all the same; None where they do not.
    """

    um_per_px: float
    source: ScaleSource
    relative_error: float = 0.0
    contradicted_by: float | None = None


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
        confidence: the probability of its class; of an unidentified cell that of the likeliest one.
        area_um2, nucleus_area_um2: square micrometres.
        saliency: mean of the prior inside the mask, 0 to 1.
        cam_in_cell: share of the Grad-CAM energy that lies inside the cell, 0 to 1.
        cam_saliency: correlation of the Grad-CAM with the prior around the cell, -1 to 1.
        cam_stability: correlation of the Grad-CAM with that in a window shifted by 1.6 um, -1 to 1; None for a cell
            whose type is clear.
        morphology: its attributes; empty where the model has not learned to describe such a cell.
        features: float16 [width], what its type was read from, so that it can be read anew without the picture.
        measures: float32 [MEASURED], see `SGCLDFF.measure`; empty where the cell was read from a record.
        flags: short words: "edge" (cut by the image border or a tile that cannot be read), "explanation" (Grad-CAM
            lies elsewhere), "unstable" (it moves when the window is shifted), "atypical" (unlike the cells that the
            model has learned from).
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
    cam_saliency: float
    cam_stability: float | None
    explanation: Explanation
    flags: tuple[str, ...] = ()
    morphology: Morphology = field(default_factory=dict)
    features: NDArray[np.float16] = field(default_factory=lambda: np.zeros(0, np.float16))
    measures: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))


@dataclass(frozen=True)
class Quality:
    """The figures that tell how well a slide shows its cells; None where there was nothing to measure one on.

    Attributes:
        focus: contrast between 0.4 and 0.8 um over that between 0.8 and 1.6 um: 0.7 at sharp edges, 0.25 out of focus.
        background: mean of the colour of the slide where nothing lies, 0 to 255.
        clipped: share of the cells' values that are white, 0 to 1.
        nucleus: optical density of nuclei against the background in green light (natural logarithm).
        colour: how far the densities of nuclei in red, green and blue differ, 0 (grey) to 1.
        hue: by how much nuclei are denser in red than in blue, as a share of their density; blue ones are above 0.
        crowding: share of what lies around cells that is as dark as their nuclei, these themselves among it, 0 to 1.
        atypical: share of the cells that are unlike those that the model has learned from, 0 to 1.
        cells_per_mm2: of the whole picture, empty background and all.
    """

    focus: float | None = None
    background: float | None = None
    clipped: float | None = None
    nucleus: float | None = None
    colour: float | None = None
    hue: float | None = None
    crowding: float | None = None
    atypical: float | None = None
    cells_per_mm2: float | None = None


class Population(NamedTuple):
    """A population holds what is known of the cells of one sample together.

    Attributes:
        neutrophils: of its laboratory, see `inference.neutrophils`; None where they are not known.
        class_prior: how common the classes are, see `inference.class_prior`; None where that is not known.
    """

    neutrophils: tuple[float, ...] | None = None
    class_prior: tuple[float, ...] | None = None


UNKNOWN = Population()
"""The population of which nothing is known: its cells are typed each by itself."""


@dataclass(frozen=True, eq=False)
class SlideResult:
    """Everything the products of one slide are made from.

    Attributes:
        name: the slide's name in tables: its relative path made safe.
        path: the file that was read.
        width, height: level-0 pixels.
        cells: in order of their ids.
        windows: number of windows that the network saw.
        flags: quality flags of the slide, such as "no_cells" or "scale_estimated".
        seconds: wall time by stage.
        unreadable: share of the slide's area where tiles could not be decoded, of those that were needed, 0 to 1.
        quality: what the flags of focus, exposure, stain and density rest on.
        refusal: why the types of this slide's cells are not to be trusted, in plain words; empty where they are.
        file_pixels: pixels of the file to a level-0 pixel, across and down, see `SlideReader`.
        population: by which its cells were typed; unknown as well where it was read from a record.
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
    unreadable: float = 0.0
    quality: Quality = field(default_factory=Quality)
    refusal: str = ""
    file_pixels: tuple[float, float] = (1.0, 1.0)
    population: Population = UNKNOWN

    @property
    def pixel_um(self) -> tuple[float, float]:
        """The width and height of the file's pixels in micrometres."""
        across, down = self.file_pixels
        return self.scale.um_per_px / across, self.scale.um_per_px / down
