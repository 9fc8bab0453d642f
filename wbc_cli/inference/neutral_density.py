"""Whether what was outlined takes up all colours alike, as dirt and hairs do and no stained nucleus does."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from wbc_cli.model.heads import MAP_STRIDE
from wbc_cli.model.saliency import background_colour, optical_density

_MIN_LIGHT = 0.02  # of the light, see optical_density
_MIN_DENSITY = 0.7  # natural logarithm, of the colour that is taken up most: what is paler has a colour hard to tell
_COLOURLESS, _QUANTILE = 0.1, 0.98  # densities of nearly all pixels of a grey picture lie no farther apart


def evenness(windows: Tensor, nuclei: Tensor, owners: Tensor) -> Tensor:
    """Tell how evenly the darkest of each nucleus takes up red, green and blue: the least density over the greatest.

    Args:
        windows: uint8 [N, 3, S, S], RGB.
        nuclei: float [M, S / 2, S / 2], how much of each pixel is nucleus of the cell.
        owners: int64 [M], the window of each cell.

    Returns:
        float [M], 0 to 1; 0 for pale nuclei and in windows that have no colour at all.
    """
    rgb = F.avg_pool2d(windows.float() / 255, MAP_STRIDE)
    density = optical_density(rgb, background_colour(rgb), _MIN_LIGHT).clamp_min(0)
    # Dirt is outlined with the red cell that it lies on: the dark pixels tell.
    weights = nuclei * density.amax(dim=1).square()[owners]
    taken_up = torch.einsum("mchw,mhw->mc", density[owners], weights)
    dark = taken_up.amax(dim=1) > _MIN_DENSITY * weights.sum(dim=(1, 2))
    colour = (density.amax(dim=1) - density.amin(dim=1)).flatten(1)
    coloured = colour.kthvalue(round(_QUANTILE * colour.shape[1]), dim=1).values > _COLOURLESS
    even = taken_up.amin(dim=1) / taken_up.amax(dim=1).clamp_min(1e-6)
    return even * (dark & coloured[owners])
