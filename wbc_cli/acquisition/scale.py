"""One scale for the pictures of an acquisition, pooled from what the estimator says of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from wbc_cli.acquisition.file import PooledScale
from wbc_cli.inference.scale_estimation import PATCHES_PER_ZOOM, patches_at
from wbc_cli.model.scale_network import PATCH_PX, ScaleNet, standardise
from wbc_cli.slides.reader import SlideReader

_COARSEST = 2.0  # widths of the picture to a patch, the rest of which is mirrored as in training
_STEP = 2**0.5  # from one zoom to the next
# um a patch's pixel. The estimator has learned from about 0.07 to 1.1, and draws what lies near either end towards the
# middle; in between it is right on average.
_BEST_UM, _BEST_WIDTH = 0.28, 0.35
_ROUNDS = 12
_LABORATORY = 0.06  # error that the pictures of one laboratory share, which no number of them averages out
# Of two zooms: how far apart their logarithms lie at least (40x and 60x: 0.41), in deviations of either as well, and
# how many pictures each has.
_MIN_LOG_DIFFERENCE, _MIN_DEVIATIONS, _MIN_PICTURES, _MIN_SHARE = 0.3, 4.0, 3, 0.15

Floats = NDArray[np.float64]


class ScaleEstimates(NamedTuple):
    """The estimates hold what the estimator says of one picture.

    Attributes:
        zooms: float64 [zooms], patch pixels to a level-0 pixel, from `zooms_of`.
        logarithms: float64 [zooms], of micrometres a level-0 pixel as they are seen at each.
    """

    zooms: Floats
    logarithms: Floats


def zooms_of(width: int, height: int) -> Floats:
    """Choose the zooms at which pictures of a size are looked at: patch pixels to a level-0 pixel, rising to 1."""
    most = np.log2(max(1.0, max(width, height) / PATCH_PX * _COARSEST))
    return np.append(2.0 ** -np.arange(most, 0.05, -np.log2(_STEP)), 1.0)


def measure_scale(net: ScaleNet, reader: SlideReader) -> ScaleEstimates:
    """Estimate the scale of one picture from its cells, at each zoom.

    Patches weigh by how sure the estimator is of them, so that those which show no cells count little.

    Args:
        net: the scale estimator.
        reader: the open picture.

    Raises:
        SlideError: the picture cannot be read.
    """
    zooms = zooms_of(reader.width, reader.height)
    patches = [patches_at(reader, 1 / zoom, PATCHES_PER_ZOOM) for zoom in zooms]
    rgb = torch.from_numpy(np.concatenate(patches)).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        mean, log_variance = net(standardise(rgb.to(next(net.parameters()).device)))
    weights = np.exp(-log_variance.cpu().numpy().astype(np.float64))
    starts = np.cumsum([0, *(len(some) for some in patches[:-1])])
    sums = np.add.reduceat(weights * mean.cpu().numpy(), starts)
    return ScaleEstimates(zooms, np.asarray(sums / np.add.reduceat(weights, starts) + np.log(zooms), np.float64))


def pool_scales(pictures: Sequence[ScaleEstimates]) -> tuple[PooledScale, ...]:
    """Estimate the scale that pictures share, or several where the zoom was changed between them.

    Args:
        pictures: from `measure_scale`; of crops of several sizes, which are looked at at unlike zooms, each counts by
            what its own zooms come to.

    Returns:
        That of most pictures first.
    """
    zooms = pictures[0].zooms
    if all(np.array_equal(picture.zooms, zooms) for picture in pictures):
        measured = np.stack([picture.logarithms for picture in pictures])
    else:
        measured = np.array([[_settled(picture.logarithms, picture.zooms)] for picture in pictures])
        zooms = np.ones(1)
    parts = _split(measured, np.array([_settled(one, zooms) for one in measured]))
    pooled = [_pooled(part, zooms) for part in parts]
    return tuple(sorted(pooled, key=lambda scale: (-scale.pictures, scale.um_per_px)))


def _pooled(measured: Floats, zooms: Floats) -> PooledScale:
    middle = _settled(np.median(measured, axis=0), zooms)
    spread = _deviation(np.array([_settled(one, zooms) for one in measured]))
    error = np.hypot(1.25 * spread / np.sqrt(len(measured)), _LABORATORY)  # 1.25: of a median
    return PooledScale(round(float(np.exp(middle)), 5), round(float(error), 4), len(measured))


def _settled(estimates: Floats, zooms: Floats) -> float:
    """Average the zooms' estimates, counting those zooms that by this mean show cells at a readable size."""
    middle = float(np.median(estimates))
    for _ in range(_ROUNDS):
        off = (middle - np.log(zooms) - np.log(_BEST_UM)) / _BEST_WIDTH
        weights = np.exp((np.min(off**2) - off**2) / 2)
        middle = float(np.sum(weights * estimates) / np.sum(weights))
    return middle


def _split(measured: Floats, scales: Floats) -> list[Floats]:
    """Divide the pictures by their zoom, where their scales fall into parts that lie clearly apart."""
    order = np.argsort(scales, kind="stable")
    measured, scales = measured[order], scales[order]
    least = max(_MIN_PICTURES, round(_MIN_SHARE * len(scales)))
    gaps = np.diff(scales)[least - 1 : len(scales) - least]
    if not len(gaps):
        return [measured]
    cut = least + int(np.argmax(gaps))
    low, high = scales[:cut], scales[cut:]
    apart = np.median(high) - np.median(low)
    if apart < max(_MIN_LOG_DIFFERENCE, _MIN_DEVIATIONS * max(_deviation(low), _deviation(high))):
        return [measured]
    return [*_split(measured[:cut], low), *_split(measured[cut:], high)]


def _deviation(values: Floats) -> float:
    """Return the standard deviation as the median of the distances from the median tells it."""
    return float(1.48 * np.median(np.abs(values - np.median(values))))
