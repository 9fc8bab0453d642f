"""Cytoplasm that a half-trained network misses: GrabCut from the nuclei that it is sure of.

Nuclei look alike everywhere and a first model finds them; pale cytoplasm it takes for background where its training
masks showed none. GrabCut (Rother et al., SIGGRAPH 2004) learns the colours of one cell and of its surroundings from
that picture alone, so no laboratory's masks are needed.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_fill_holes

_ROUNDS = 3
_NUCLEUS_UM2 = 2.5  # less than that is no nucleus to start from
_NEAR_UM = 3.0  # from the nucleus, where stained pixels are taken for the cell's at first
_FAR_UM = 7.0  # from the nucleus, where nothing belongs to the cell
_LOBES_UM = 0.8  # half the gap that lobes of one nucleus leave
_STAINED = 0.12  # optical density (natural logarithm) in any channel
_GLASS_PERCENTILE = 90
_DARK = 8  # grey levels: keeps the logarithm from running away


def whole_cell(
    rgb: NDArray[np.uint8], cell: NDArray[np.bool_], nuclei: NDArray[np.bool_], um_per_px: float
) -> NDArray[np.bool_]:
    """The whole cell around nuclei, by colour.

    Args:
        rgb: uint8 [h, w, 3], one cell in its surroundings.
        cell: [h, w], what is known of it.
        nuclei: [h, w], all nuclei in sight.
        um_per_px: micrometres a pixel.

    Returns:
        bool [h, w]; `cell` itself where it has no nucleus.
    """
    nucleus = _lobes(cell & nuclei, nuclei, um_per_px)
    if nucleus.sum() * um_per_px**2 < _NUCLEUS_UM2:
        return cell
    light = rgb.astype(np.float32) + _DARK
    glass = np.percentile(light.reshape(-1, 3), _GLASS_PERCENTILE, axis=0)
    stained = np.log(glass / light).max(axis=2) > _STAINED
    away_um = cv2.distanceTransform((~nucleus).astype(np.uint8), cv2.DIST_L2, 5) * um_per_px
    guess = np.full(cell.shape, cv2.GC_PR_BGD, np.uint8)
    guess[(away_um < _NEAR_UM) & stained] = cv2.GC_PR_FGD
    guess[(away_um > _FAR_UM) | ~stained] = cv2.GC_BGD
    guess[cell] = cv2.GC_PR_FGD
    guess[nucleus] = cv2.GC_FGD
    if not ((guess == cv2.GC_BGD) | (guess == cv2.GC_PR_BGD)).any():
        return cell
    cv2.setRNGSeed(0)  # the colour models begin with a random clustering
    cv2.grabCut(rgb, guess, None, np.zeros((1, 65)), np.zeros((1, 65)), _ROUNDS, cv2.GC_INIT_WITH_MASK)
    found = np.isin(guess, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    found = cv2.morphologyEx(found, cv2.MORPH_OPEN, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5)))
    _, parts = cv2.connectedComponents(found | nucleus.astype(np.uint8))
    whole: NDArray[np.bool_] = binary_fill_holes(np.isin(parts, np.unique(parts[nucleus]))) | cell
    return whole


def _lobes(nucleus: NDArray[np.bool_], nuclei: NDArray[np.bool_], um_per_px: float) -> NDArray[np.bool_]:
    """All lobes of a nucleus of which some are known."""
    reach = 2 * round(_LOBES_UM / um_per_px) + 1
    _, parts = cv2.connectedComponents(cv2.dilate(nuclei.astype(np.uint8), np.ones((reach, reach), np.uint8)))
    return nuclei & np.isin(parts, np.unique(parts[nucleus]))
