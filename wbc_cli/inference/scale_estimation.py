"""The physical scale of a slide: from its file, from the user, or from the cells it shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from wbc_cli.cells import Scale
from wbc_cli.model.scale_network import PATCH_PX, ScaleNet, standardise
from wbc_cli.slides.reader import SlideReader

# Middles of a zoom's patches, in shares of the picture's sides: within the 0.3 to 0.7 that they have in training, and
# far from the dark and blurred rim that an eyepiece shows.
_MIDDLES = ((0.4, 0.4), (0.6, 0.6), (0.4, 0.6), (0.6, 0.4), (0.5, 0.5))
PATCHES_PER_ZOOM = len(_MIDDLES)
_CHECK_PATCHES_PER_ZOOM = 2  # a zoom, as they lie: a stated scale is far off or right
# Difference of logarithms: right scales are within that of nearly all estimates, half is beyond.
_MIN_LOG_DIFFERENCE = 0.42
_MIN_DEVIATIONS = 2.5  # of the estimate
_MIN_UM_PER_PX, _MAX_UM_PER_PX = 0.03, 2.0
# um a patch's pixel. Coarser patches than 1.1 were never learned from and are taken for 0.8 to 1, by which a slide of
# 0.25 um a pixel came to 0.15; with those left out, to 0.24. Pictures of real cells are the same with 0.6 to 0.9.
_MAX_PATCH_UM_PER_PX = 0.75


def disagrees(stated: Scale, estimate: Scale) -> bool:
    """Tell whether the cells of a picture clearly contradict the scale that its file or the user states."""
    difference = abs(float(np.log(stated.um_per_px / estimate.um_per_px)))
    return difference > max(_MIN_LOG_DIFFERENCE, _MIN_DEVIATIONS * estimate.relative_error)


def slide_scale(net: ScaleNet, reader: SlideReader, um_per_px: float | None, pooled: Sequence[Scale] = ()) -> Scale:
    """Choose the scale to analyse a slide at; what the user says goes before what the file says.

    Args:
        net: the scale estimator.
        reader: the open slide.
        um_per_px: what the user says.
        pooled: what the pictures of its acquisition share; several where the zoom was changed between them.

    Raises:
        SlideError: a region cannot be read.
    """
    if um_per_px is not None:
        return Scale(um_per_px, "option")
    if reader.um_per_px is not None:
        return Scale(reader.um_per_px, "file")
    if len(pooled) == 1 and not disagrees(pooled[0], estimate_scale(net, reader, _CHECK_PATCHES_PER_ZOOM, views=1)):
        return pooled[0]
    own = estimate_scale(net, reader)
    nearest = min(pooled, key=lambda scale: abs(np.log(scale.um_per_px / own.um_per_px)), default=own)
    return own if disagrees(nearest, own) else nearest


def check_scale(net: ScaleNet, reader: SlideReader, stated: Scale) -> Scale:
    """Check a stated scale: it is called doubtful where the cells contradict it; estimates are returned as they are."""
    if stated.source in ("estimate", "pooled"):
        return stated
    estimate = estimate_scale(net, reader, _CHECK_PATCHES_PER_ZOOM, views=1)
    return replace(stated, contradicted_by=estimate.um_per_px) if disagrees(stated, estimate) else stated


def estimate_scale(
    net: ScaleNet, reader: SlideReader, patches_per_zoom: int = PATCHES_PER_ZOOM, views: int = 4
) -> Scale:
    """Estimate micrometres per level-0 pixel from patches at several zooms.

    Each patch gives a normal distribution of the logarithm of the scale. The patches of one zoom are averaged, since
    they share its errors, and the zooms are joined with the squared inverse variances as weights, so that the one
    which shows cells at a readable size decides. Zooms at which they are too small for that are left out.

    Args:
        net: the scale estimator.
        reader: the open slide.
        patches_per_zoom: how many patches are read of each zoom.
        views: how many of a patch, its mirror image and both of them transposed are averaged.

    Returns:
        The estimate with its relative error (one standard deviation).

    Raises:
        SlideError: a region cannot be read.
    """
    patches, zooms = _patches(reader, patches_per_zoom)
    rgb = torch.from_numpy(np.stack(patches)).permute(0, 3, 1, 2).float() / 255
    rgb = torch.cat([rgb, rgb.flip(-1), rgb.transpose(-1, -2), rgb.transpose(-1, -2).flip(-1)][:views])
    device = next(net.parameters()).device
    with torch.no_grad():
        mean, log_variance = net(standardise(rgb.to(device)))
    means_by_view = mean.cpu().numpy().reshape(views, -1)
    # The views of a patch must agree; where they don't, it is less sure than it says.
    variance = np.exp(log_variance.cpu().numpy()).reshape(views, -1).mean(axis=0) + means_by_view.var(axis=0)
    estimates = means_by_view.mean(axis=0) + np.log(zooms)
    levels = np.unique(zooms)
    means = np.array([estimates[zooms == zoom].mean() for zoom in levels])
    variances = np.array([variance[zooms == zoom].mean() for zoom in levels])
    readable = means - np.log(levels) < np.log(_MAX_PATCH_UM_PER_PX)
    readable[-1] |= not readable.any()  # the finest, whose pixels are the file's own
    means, variances = means[readable], variances[readable]
    weights = variances**-2 / np.sum(variances**-2)
    middle = float(np.sum(weights * means))
    spread = float(np.sqrt(np.sum(weights * (means - middle) ** 2)))
    error = max(float(np.sqrt(np.sum(weights * variances))), spread)
    return Scale(float(np.clip(np.exp(middle), _MIN_UM_PER_PX, _MAX_UM_PER_PX)), "estimate", error)


def _patches(reader: SlideReader, count: int) -> tuple[list[NDArray[np.uint8]], NDArray[np.float64]]:
    """Read patches of PATCH_PX at zooms from the whole picture in one patch to the file's own pixels.

    Returns:
        the patches, and for each how many patch pixels make one level-0 pixel.
    """
    patches: list[NDArray[np.uint8]] = []
    zooms: list[float] = []
    longest = max(reader.width, reader.height)
    downsample = max(1.0, longest / PATCH_PX)
    while True:
        found = patches_at(reader, downsample, count)
        patches += found
        zooms += len(found) * [1 / downsample]
        if downsample == 1.0:
            return patches, np.array(zooms)
        downsample = max(1.0, downsample / 2)


def patches_at(reader: SlideReader, downsample: float, count: int) -> list[NDArray[np.uint8]]:
    """Read a few patches of a picture, mirrored where it is smaller than one, as in training.

    Args:
        reader: the open picture.
        downsample: level-0 pixels to a patch's pixel (>= 1).
        count: how many there are at most, up to PATCHES_PER_ZOOM.

    Returns:
        uint8 [PATCH_PX, PATCH_PX, 3] each.

    Raises:
        SlideError: a region cannot be read.
    """
    span = round(PATCH_PX * downsample)
    patches = []
    for x, y in _corners(reader.width, reader.height, span, count):
        width, height = min(span, reader.width - x), min(span, reader.height - y)
        patch = reader.read(x, y, width, height, downsample)[:PATCH_PX, :PATCH_PX]
        down, right = PATCH_PX - patch.shape[0], PATCH_PX - patch.shape[1]
        margins = (down // 2, down - down // 2), (right // 2, right - right // 2), (0, 0)
        patches.append(np.pad(patch, margins, mode="symmetric"))
    return patches


def _corners(width: int, height: int, span: int, count: int) -> list[tuple[int, int]]:
    """Lay a few squares around the middle of the picture, no two in one place, and return their upper left corners."""
    free = max(0, width - span), max(0, height - span)
    corners = ((x * width - span / 2, y * height - span / 2) for x, y in _MIDDLES[:count])
    inside = [(round(min(max(x, 0), free[0])), round(min(max(y, 0), free[1]))) for x, y in corners]
    return list(dict.fromkeys(inside))
