"""Saliency-guided stain normalisation: the nuclei that the prior points at are brought to one colour.

Laboratories differ in dyes, times, pH, lamps and cameras; a nucleus is stained in all of them. Optical densities are
scaled channel by channel, which maps background to background and nuclei to one reference, and takes all else along.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from wbc_cli.model.saliency import optical_density

REFERENCE_DENSITIES = (0.95, 1.5, 0.39)
"""Optical densities (natural logarithm; red, green, blue) of nuclei as May-Gruenwald-Giemsa stains them: the mean of
the PBC validation images. Any would do, since all training images are brought to it."""

_BACKGROUND_LIGHT = 0.94  # of the light
_MIN_LIGHT = 0.01  # of the light, see optical_density
_DOWNSAMPLE = 4  # window pixels to one that is measured: 0.8 um, a tenth of a nucleus
# Pixels of those, 13 square micrometres: how much of a window has to be as dark as its darkest nucleus.
_DARKEST_PX = 20
_NUCLEAR_DENSITY_SHARE = 0.7  # share of that density from which on a pixel is taken for nuclear
# Measured pixels that the reference weighs: where the prior finds no cell, colours stay as they are.
_REFERENCE_WEIGHT = 2.0
_MAX_GAIN = 2.5  # times a density is raised or lowered at most


def normalise_stain(rgb: Tensor, saliency: Tensor, background: Tensor) -> Tensor:
    """Bring the stain of each window to the reference.

    Args:
        rgb: float [N, 3, S, S], 0 to 1.
        saliency: the prior's view of them, float [N, 1, S, S].
        background: their colour where nothing lies, float [N, 3, 1, 1].

    Returns:
        float [N, 3, S, S], 0 to 1.
    """
    small = optical_density(F.avg_pool2d(rgb, _DOWNSAMPLE), background, _MIN_LIGHT)
    salient = F.avg_pool2d(saliency, _DOWNSAMPLE)
    green = small[:, 1:2] * salient  # where nuclei stand out most
    darkest = green.flatten(1).topk(min(_DARKEST_PX, green[0].numel())).values[:, -1, None, None, None]
    weight = salient * (green >= _NUCLEAR_DENSITY_SHARE * darkest)
    # Filled in on the device: a tensor made of the numbers would be copied there, and waited for in every batch.
    reference = torch.cat([rgb.new_full((1, 1, 1), density) for density in REFERENCE_DENSITIES])
    total = (weight * small).sum(dim=(2, 3), keepdim=True) + _REFERENCE_WEIGHT * reference
    nucleus = total / (weight.sum(dim=(2, 3), keepdim=True) + _REFERENCE_WEIGHT)
    gain = (reference / nucleus.clamp_min(_MIN_LIGHT)).clamp(1 / _MAX_GAIN, _MAX_GAIN)
    density = optical_density(rgb, background, _MIN_LIGHT) * gain
    return (_BACKGROUND_LIGHT * torch.exp(-density)).clamp(0, 1)
