"""How well a reported outline, and the map that explains a cell, agree with a mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from wbc_cli.cells import NUCLEUS, Cell, Explanation
from wbc_cli.errors import UsageError
from wbc_cli.evaluation.metrics import dice, iou
from wbc_cli.manifest import Box, MaskLevels

Mask = NDArray[np.bool_]
LabelMask = NDArray[np.uint8]


@dataclass(frozen=True)
class RegionScore:
    """The agreement of a reported region with the true one, beside a disc of the true area at the image's centre."""

    iou: float
    dice: float
    disc_iou: float
    disc_dice: float


@dataclass(frozen=True)
class OverlapScore:
    """Cell and nucleus of one image; the nucleus is None where the true mask has none."""

    cell: RegionScore
    nucleus: RegionScore | None


@dataclass(frozen=True)
class ExplanationScore:
    """One Grad-CAM against one mask.

    Attributes:
        energy: share of the map's energy inside the mask.
        area: share of the window that the mask takes: what a flat map scores.
        gaussian: energy of a Gaussian of a sixth of the window's side around its centre.
        pointed: the map's maximum lies in the mask.
        centre: the window's centre does.
    """

    energy: float
    area: float
    gaussian: float
    pointed: bool
    centre: bool


def read_mask(path: Path, size: tuple[int, int] | None = None, levels: MaskLevels | None = None) -> LabelMask:
    """Read a mask of 0 background, 1 cytoplasm, 2 nucleus, as uint8 [height, width].

    Args:
        path: the file.
        size: width and height of its image, where they are known.
        levels: how to tell these three from the greys of a mask that is not made of them.

    Raises:
        UsageError: the file cannot be read, is no such mask or not of that size.
    """
    mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE if levels else cv2.IMREAD_UNCHANGED)
    if mask is None:
        raise UsageError(f"{path}: the mask cannot be read; correct the manifest or drop the row")
    if levels:
        mask = _read_levels(mask, levels)
    if mask.ndim != 2 or mask.dtype != np.uint8 or mask.max() > NUCLEUS:
        raise UsageError(f"{path}: not a mask; it needs one byte a pixel: 0 background, 1 cytoplasm, 2 nucleus")
    if size and mask.shape != size[::-1]:
        raise UsageError(
            f"{path}: the mask has {mask.shape[1]} x {mask.shape[0]} pixels and its image {size[0]} x {size[1]}; "
            "give a mask of the image's size"
        )
    return np.asarray(mask)


def paint(cells: Sequence[Cell], height: int, width: int) -> LabelMask:
    """Paint the masks of cells on one canvas, uint8 [height, width]; where cells overlap the nucleus wins."""
    canvas = np.zeros((height, width), np.uint8)
    for cell in cells:
        x0, y0, x1, y1 = cell.box
        part = canvas[y0:y1, x0:x1]
        np.maximum(part, cell.mask, out=part)
    return canvas


def score_overlap(truth: LabelMask, reported: LabelMask) -> OverlapScore | None:
    """Compare two masks of one shape; None where the true one is empty, as there is no cell to outline."""
    cell = _score_region(truth > 0, reported > 0)
    return OverlapScore(cell, _score_region(truth == NUCLEUS, reported == NUCLEUS)) if cell else None


def score_explanation(cell: Cell) -> ExplanationScore:
    """Compare the cell's Grad-CAM with its own outline; the energy is what `analyze` writes."""
    inside = on_window(cell.mask > 0, cell.box[0], cell.box[1], cell.explanation, cell.explanation.cam.shape)
    return _score_map(cell.explanation.cam, inside, cell.cam_in_cell)


def score_explanation_by_expert(cell: Cell, mask: LabelMask, box: Box | None) -> ExplanationScore | None:
    """Compare the cell's Grad-CAM with an expert's mask of the image.

    Args:
        cell: the reported cell.
        mask: uint8 [height, width] of the whole image.
        box: where in the mask this cell lies, None where the mask holds no other.

    Returns:
        None where the mask has nothing there.
    """
    left, top = (max(0, int(box.x0)), max(0, int(box.y0))) if box else (0, 0)
    part = mask[top : int(np.ceil(box.y1)), left : int(np.ceil(box.x1))] if box else mask
    if not part.any():
        return None
    cam = cell.explanation.cam
    inside = on_window(part > 0, left, top, cell.explanation, cam.shape)
    total = float(cam.sum())
    return _score_map(cam, inside, float(cam[inside].sum()) / total if total > 0 else 0.0)


def on_window(mask: Mask, left: int, top: int, explanation: Explanation, shape: tuple[int, ...]) -> Mask:
    """Sample a mask, whose corner lies at (left, top) of the slide, at the pixels of a map of the window.

    Args:
        mask: bool [h, w] at level 0.
        left, top: where on the slide it lies.
        explanation: says where the window lies.
        shape: height and width of the map.

    Returns:
        bool of that shape.
    """
    height, width = shape
    rows = _pixel_indices(explanation.y - top, explanation.side, height)
    columns = _pixel_indices(explanation.x - left, explanation.side, width)
    row_in, column_in = (rows >= 0) & (rows < mask.shape[0]), (columns >= 0) & (columns < mask.shape[1])
    sampled = np.zeros((height, width), bool)
    sampled[np.ix_(row_in, column_in)] = mask[np.ix_(rows[row_in], columns[column_in])]
    return sampled


def bell(count: int) -> NDArray[np.float64]:
    """Sample a Gaussian of a sixth of the side around its middle."""
    distance = (np.arange(count) + 0.5) / count - 0.5
    return np.asarray(np.exp(-0.5 * (6 * distance) ** 2))


def _read_levels(grey: LabelMask, levels: MaskLevels) -> LabelMask:
    kinds = (grey >= levels.cell).astype(np.uint8)
    if levels.nucleus is not None:
        kinds[grey >= levels.nucleus] = NUCLEUS
    return np.pad(kinds, levels.margin)


def _score_region(truth: Mask, reported: Mask) -> RegionScore | None:
    if not truth.any():
        return None
    disc = _centred_disc(truth)
    return RegionScore(iou(truth, reported), dice(truth, reported), iou(truth, disc), dice(truth, disc))


def _centred_disc(truth: Mask) -> Mask:
    """Draw the disc around the image's centre that has the area of the true mask."""
    height, width = truth.shape
    y, x = np.ogrid[0.5 : height + 0.5, 0.5 : width + 0.5]
    return np.asarray((x - width / 2) ** 2 + (y - height / 2) ** 2 <= np.count_nonzero(truth) / np.pi)


def _pixel_indices(start: float, side: float, count: int) -> NDArray[np.intp]:
    """Find the mask's pixel under the middle of each of `count` map pixels along one side."""
    return np.asarray(np.floor(start + (np.arange(count) + 0.5) * (side / count)), dtype=np.intp)


def _score_map(cam: NDArray[np.float32], inside: Mask, energy: float) -> ExplanationScore:
    height, width = cam.shape
    gaussian = np.outer(bell(height), bell(width))
    return ExplanationScore(
        energy=energy,
        area=float(inside.mean()),
        gaussian=float(gaussian[inside].sum() / gaussian.sum()),
        pointed=bool(inside.flat[cam.argmax()]),
        centre=bool(inside[height // 2, width // 2]),
    )
