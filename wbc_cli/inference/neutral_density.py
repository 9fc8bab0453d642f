"""Whether what was outlined takes up all colours alike, as dirt and hairs do and no stained nucleus does."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from wbc_cli.model.heads import MAP_STRIDE
from wbc_cli.model.saliency import background_colour, optical_density

# Densities are natural logarithms, of the colour that is taken up most.
_STRIDE_PX = 4  # 0.8 um
_MIN_LIGHT = 0.02  # of the light, see optical_density
_MIN_DENSITY = 0.7  # what is paler has a colour hard to tell
_PALE = 0.4  # dark pixels count no more than that for what is usual, lest they are that themselves
_MIN_DIFFERENCE = 0.05


def evenness(windows: Tensor, nuclei: Tensor, owners: Tensor) -> Tensor:
    """Tell how evenly the darkest of each nucleus takes up red, green and blue: the least density over the greatest.

    Dirt is also more even than what lies around it is, while in the light of some cameras all is rather even, red cells
    more so than nuclei. Of 1,000 white cells of ten laboratories none comes above 0.42 where it is more even than its
    window; dirt on empty fields comes to 0.52 to 0.87, and the rim of an eyepiece's field to 0.55 to 0.60.

    Args:
        windows: uint8 [N, 3, S, S], RGB.
        nuclei: float [M, S / 2, S / 2], how much of each pixel is nucleus of the cell.
        owners: int64 [M], the window of each cell.

    Returns:
        float [M], 0 to 1; 0 for pale nuclei, and where all that lies in the window is as even.
    """
    rgb = F.avg_pool2d(windows.float(), _STRIDE_PX) / 255
    nuclei = F.avg_pool2d(nuclei, _STRIDE_PX // MAP_STRIDE)
    density = optical_density(rgb, background_colour(rgb), _MIN_LIGHT).clamp_min(0)
    most = density.amax(dim=1)
    even = density.amin(dim=1) / most.clamp_min(1e-6)
    usual = _mean(even, most.clamp_max(_PALE))[owners]
    # Dirt is outlined with the red cell that it lies on: the dark pixels tell.
    weights = nuclei * most.square()[owners]
    found = _mean(even[owners], weights)
    return found * ((_mean(most[owners], weights) > _MIN_DENSITY) & (found > usual + _MIN_DIFFERENCE))


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    """Average maps [N, h, w] with weights."""
    return (values * weights).sum(dim=(1, 2)) / weights.sum(dim=(1, 2)).clamp_min(1e-6)
