"""From the segmentation head's maps to separate cells."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from wbc_cli.inference.device import download
from wbc_cli.model.heads import MAP_STRIDE, Maps

MIN_CELL_UM2 = 12.0  # smaller than any nucleated cell; platelets and stain grains fall below

_VOTE_SIGMA_PX = 1.5  # map pixels
_PEAK_RADIUS_PX = 4  # map pixels; two nuclei of one cell never make two peaks once their pixels agree on a middle
_PEAK_NEIGHBOURHOOD = np.ones((2 * _PEAK_RADIUS_PX + 1, 2 * _PEAK_RADIUS_PX + 1), np.uint8)


def find_cells(maps: Maps, um_per_px: float) -> tuple[NDArray[np.float32], list[NDArray[np.uint8]]]:
    """Separate the cells of a batch of windows by the segmentation head's output.

    Args:
        maps: of the windows.
        um_per_px: scale of the windows' pixels.

    Returns:
        float32 [N, 3, h, w], probabilities of background, cytoplasm, nucleus; each window's cells as `separate` says.
    """
    probabilities, offsets = download(maps.segments.softmax(dim=1), maps.offsets)
    min_area = MIN_CELL_UM2 / (MAP_STRIDE * um_per_px) ** 2
    return probabilities, [separate(1 - p[0], o, min_area) for p, o in zip(probabilities, offsets, strict=True)]


def separate(foreground: NDArray[np.float32], offsets: NDArray[np.float32], min_area: float) -> NDArray[np.uint8]:
    """Label the cells of one window.

    Every foreground pixel votes for the position that its offset points at; the peaks of the votes are the cells, and a
    pixel belongs to the peak nearest its vote. Of each cell only the largest connected piece is kept, its holes filled.

    Args:
        foreground: float32 [h, w], probability of cytoplasm or nucleus, at stride 2.
        offsets: float32 [2, h, w], x and y to the middle of the pixel's cell in window pixels.
        min_area: smaller pieces are dropped, in map pixels.

    Returns:
        uint8 [h, w], 0 outside, 1 to n for the cells.
    """
    inside = foreground > 0.5
    labels = np.zeros(inside.shape, np.uint8)
    rows, columns = np.nonzero(inside)
    if len(rows) < min_area:
        return labels
    height, width = inside.shape
    votes_x = np.clip(columns + offsets[0, rows, columns] / MAP_STRIDE, 0, width - 1)
    votes_y = np.clip(rows + offsets[1, rows, columns] / MAP_STRIDE, 0, height - 1)
    peaks = _peaks(votes_x, votes_y, inside.shape, min_area)
    if not len(peaks):
        return labels
    distance = (votes_y[:, None] - peaks[None, :, 0]) ** 2 + (votes_x[:, None] - peaks[None, :, 1]) ** 2
    owner = np.zeros(inside.shape, np.uint8)
    owner[rows, columns] = np.argmin(distance, axis=1) + 1
    count = 0
    for index in range(1, len(peaks) + 1):
        # Filling the holes of one cell must not take the pixels of another.
        piece = _largest_piece(owner == index) & ((owner == index) | (owner == 0))
        if piece.sum() >= min_area:
            count += 1
            labels[piece & (labels == 0)] = count
    return labels


def _peaks(x: NDArray[np.float64], y: NDArray[np.float64], shape: tuple[int, int], min_area: float) -> NDArray[np.intp]:
    """Find the positions (row, column) where many votes fall."""
    flat = np.rint(y).astype(np.intp) * shape[1] + np.rint(x).astype(np.intp)
    votes = np.bincount(flat, minlength=shape[0] * shape[1]).reshape(shape).astype(np.float32)
    votes = cv2.GaussianBlur(votes, (0, 0), _VOTE_SIGMA_PX, borderType=cv2.BORDER_CONSTANT)
    highest = cv2.dilate(votes, _PEAK_NEIGHBOURHOOD)
    # A quarter of the smallest cell's votes on one pixel of the smoothed histogram's kernel.
    floor = 0.25 * min_area / (2 * np.pi * _VOTE_SIGMA_PX**2) * 0.5
    spots = (votes == highest) & (votes > max(floor, 0.07 * votes.max()))
    _, _, _, centres = cv2.connectedComponentsWithStats(spots.view(np.uint8), connectivity=4)
    peaks: NDArray[np.intp] = np.rint(centres[1:, ::-1]).astype(np.intp)
    return peaks


def _largest_piece(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Keep the largest piece of a mask that is connected by sides of pixels, and fill its holes."""
    count, pieces, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=4)
    if count > 2:
        mask = pieces == 1 + np.argmax(stats[1:, cv2.CC_STAT_AREA])
    outline, _ = cv2.findContours(mask.view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.zeros(mask.shape, np.uint8)
    cv2.drawContours(filled, outline, -1, 1, cv2.FILLED)
    return filled.view(np.bool_)
