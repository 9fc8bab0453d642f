"""Labelled images in memory, at the training scale, with what is known of each of their pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from wbc_cli.cells import NUCLEUS
from wbc_cli.classes import CLASS_NAMES, NOT_BLAST, OTHER
from wbc_cli.manifest import RED_CELL, WHITE_CELL, Box, Sample
from wbc_cli.slides import open_slide

STORED_UM_PER_PX = 0.16
IGNORE = 255
UNKNOWN_TYPE = -1
NOT_BLAST_TYPE = -2
PART_UNKNOWN = 3
"""A pixel of a cell in a mask that does not tell nuclei from cytoplasm."""
_NO_CELL_RADIUS_UM = 9.0  # around a centred platelet
_BORDER_UM = 8.0  # of a field with boxes: many sets leave out the cells that its border cuts
_CELL_DIAMETER_UM = 13.0  # of a white cell on a smear, in the mean; a granulocyte has 12 to 15, a lymphocyte 9 to 15

Code = NDArray[np.uint8]
"""What a pixel is: 4 * instance + (0 background, 1 cytoplasm, 2 nucleus, PART_UNKNOWN), or IGNORE."""


@dataclass(frozen=True, eq=False)
class Target:
    """One cell (or, with instance 0, one position) that windows are drawn around.

    Attributes:
        x, y: its middle in stored pixels.
        instance: its number in the image's code; 0 where no mask is known.
        label: index into CLASS_NAMES, UNKNOWN_TYPE or NOT_BLAST_TYPE.
    """

    x: float
    y: float
    instance: int
    label: int


@dataclass(frozen=True, eq=False)
class TrainingImage:
    """An image with its supervision.

    Attributes:
        sample: where it comes from.
        rgb: uint8 [h, w, 3].
        um_per_px: of `rgb`.
        code: uint8 [h, w], see Code.
        targets: the cells; empty in fields without any, where windows fall anywhere.
        masked: the code comes from a mask that people drew.
        padding: uint8 [3], the colour that surrounds the image where a window reaches beyond it.
    """

    sample: Sample
    rgb: NDArray[np.uint8]
    um_per_px: float
    code: Code
    targets: tuple[Target, ...]
    masked: bool
    padding: NDArray[np.uint8]


def padding_colour(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Choose the colour around an image, uint8 [3]: the 80th percentile of each channel of uint8 [h, w, 3]."""
    step = max(1, min(rgb.shape[:2]) // 64)
    return np.percentile(rgb[::step, ::step].reshape(-1, 3), 80, axis=0).astype(np.uint8)


def load_rgb(sample: Sample) -> NDArray[np.uint8]:
    """Load a sample's pixels, uint8 [h, w, 3].

    Raises:
        SlideError: the image cannot be read.
    """
    reader = open_slide(sample.image)
    try:
        return reader.read(0, 0, reader.width, reader.height)
    finally:
        reader.close()


def scale_by_cells(sample: Sample) -> float | None:
    """Guess a sample's micrometres a pixel from the size of its masked cells; None without a mask of cells.

    Raises:
        SlideError: the mask cannot be read.
    """
    if sample.mask is None:
        return None
    instances = _instances(load_rgb(replace(sample, image=sample.mask))[..., 0], sample)
    areas = np.bincount(instances.ravel())[1:]
    if not len(areas):
        return None
    return _CELL_DIAMETER_UM / (2 * float(np.sqrt(np.median(areas) / np.pi)))


def load_image(sample: Sample, um_per_px: float) -> TrainingImage:
    """Load one sample at the stored scale.

    Args:
        sample: the image and its labels.
        um_per_px: scale of its file.

    Raises:
        SlideError: the image or its mask cannot be read.
    """
    rgb = load_rgb(sample)
    code, targets = _supervision(sample, rgb.shape[:2], um_per_px)
    shrink = min(1.0, um_per_px / STORED_UM_PER_PX)
    if shrink < 1:
        size = (max(1, round(rgb.shape[1] * shrink)), max(1, round(rgb.shape[0] * shrink)))
        rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
        code = cv2.resize(code, size, interpolation=cv2.INTER_NEAREST_EXACT).astype(np.uint8)
        targets = tuple(replace(t, x=t.x * shrink, y=t.y * shrink) for t in targets)
    masked = sample.mask is not None
    return TrainingImage(sample, rgb, um_per_px / shrink, code, targets, masked, padding_colour(rgb))


def _supervision(sample: Sample, shape: Sequence[int], um_per_px: float) -> tuple[Code, tuple[Target, ...]]:
    height, width = shape
    label = _label(sample)
    centre = (width / 2, height / 2)
    if sample.mask is not None:
        kinds = load_rgb(replace(sample, image=sample.mask))[..., 0]
        instances = _instances(kinds, sample)
        if not (kinds == NUCLEUS).any():
            kinds = np.where(kinds > 0, np.uint8(PART_UNKNOWN), np.uint8(0))
        targets = tuple(
            Target(float(x), float(y), i + 1, label if _is_typed(sample, i) else UNKNOWN_TYPE)
            for i, (y, x) in enumerate(ndimage.center_of_mass(instances > 0, instances, range(1, instances.max() + 1)))
        )
        return (instances * 4 + np.where(instances > 0, kinds, 0)).astype(np.uint8), targets
    cells = [box for box in sample.boxes if box.label not in (RED_CELL, OTHER)]
    if cells:
        return _from_boxes(cells, label, height, width, round(_BORDER_UM / um_per_px))
    if not sample.labels:
        return np.zeros((height, width), np.uint8), ()
    code = np.full((height, width), IGNORE, np.uint8)
    if sample.labels == (OTHER,):
        cv2.circle(code, (width // 2, height // 2), round(_NO_CELL_RADIUS_UM / um_per_px), 0, -1)
    return code, (Target(*centre, 0, label),)


def _from_boxes(
    boxes: Sequence[Box], label: int, height: int, width: int, border: int
) -> tuple[Code, tuple[Target, ...]]:
    """Make the supervision of a field whose white cells are boxed.

    Nothing is known inside the boxes and within `border` pixels of the field's edge; the rest is background.
    """
    code = np.full((height, width), IGNORE, np.uint8)
    code[border : height - border, border : width - border] = 0
    targets = []
    for box in boxes:
        code[max(0, int(box.y0)) : int(np.ceil(box.y1)), max(0, int(box.x0)) : int(np.ceil(box.x1))] = IGNORE
        own = CLASS_NAMES.index(box.label) if box.label in CLASS_NAMES else label
        targets.append(Target((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2, 0, own))
    return code, tuple(targets)


def _label(sample: Sample) -> int:
    """Return the one type of all the sample's cells, or UNKNOWN_TYPE where they differ."""
    kinds = set(sample.labels)
    if len(kinds) != 1:
        return UNKNOWN_TYPE
    kind = kinds.pop()
    return NOT_BLAST_TYPE if kind == NOT_BLAST else CLASS_NAMES.index(kind)


def _is_typed(sample: Sample, index: int) -> bool:
    """Tell whether the label speaks of this instance: in crops of one cell only of the central one, the first."""
    return bool(sample.boxes) or index == 0


def _instances(kinds: NDArray[np.uint8], sample: Sample) -> NDArray[np.int32]:
    """Number a mask's cells from 1, the one nearest the middle first; boxes tell touching cells apart."""
    pieces, count = ndimage.label(kinds > 0)
    boxes = [((b.y0 + b.y1) / 2, (b.x0 + b.x1) / 2) for b in sample.boxes if b.label == WHITE_CELL]
    for piece in range(1, count + 1):
        region = pieces == piece
        middles = [
            (y, x) for y, x in boxes if region[min(int(y), region.shape[0] - 1), min(int(x), region.shape[1] - 1)]
        ]
        if len(middles) > 1:
            rows, columns = np.nonzero(region)
            nearest = np.argmin([(rows - y) ** 2 + (columns - x) ** 2 for y, x in middles], axis=0)
            pieces[rows, columns] = np.where(nearest == 0, piece, pieces.max() + nearest)
    areas = np.bincount(pieces.ravel())
    kept = [i for i in range(1, len(areas)) if areas[i] > 0.0005 * pieces.size]
    middles = ndimage.center_of_mass(pieces > 0, pieces, kept)
    height, width = pieces.shape
    kept = [
        i
        for _, i in sorted(
            ((y - height / 2) ** 2 + (x - width / 2) ** 2, i) for (y, x), i in zip(middles, kept, strict=True)
        )
    ]
    numbers = np.zeros(pieces.max() + 1, np.int32)
    numbers[kept[:62]] = np.arange(1, len(kept[:62]) + 1)
    numbered: NDArray[np.int32] = numbers[pieces]
    return numbered
