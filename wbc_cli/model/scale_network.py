"""Estimating micrometres per pixel from the cells in the picture."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PATCH_PX = 160
_WIDTHS = (16, 32, 64, 96, 128)  # channels


class ScaleNet(nn.Module):
    """Reads the physical scale of a patch from the size of its red cells and nuclei.

    Its output is a normal distribution of log(um per pixel), so that patches which show nothing of known size
    weigh little (Kendall and Gal, "What uncertainties do we need", 2017).
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for width in _WIDTHS:
            layers += [nn.Conv2d(before, width, 3, 2, 1), nn.GroupNorm(8, width), nn.SiLU()]
            layers += [nn.Conv2d(width, width, 3, 1, 1, groups=width // 8), nn.GroupNorm(8, width), nn.SiLU()]
            before = width
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(2 * before, 2)

    def forward(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Estimate the scale of each patch.

        Args:
            patches: float [N, 3, PATCH_PX, PATCH_PX], from `standardise`.

        Returns:
            mean and log-variance of log(um per patch pixel), float [N] each.
        """
        features = self.features(patches)
        pooled = torch.cat([features.mean(dim=(2, 3)), features.amax(dim=(2, 3))], dim=1)
        mean, log_variance = self.head(pooled).unbind(dim=1)
        return mean - 1.5, log_variance.clamp(-7.0, 3.0)


def standardise(rgb: Tensor) -> Tensor:
    """Bring RGB [N, 3, H, W] to zero mean and unit deviation by each image's own statistics over all its channels.

    One deviation for the three channels keeps what tells stain from background; a mean per channel takes the tint away.
    """
    mean = rgb.mean(dim=(2, 3), keepdim=True)
    deviation = (rgb - mean).square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
    return (rgb - mean) / (deviation + 0.02)


def scale_loss(mean: Tensor, log_variance: Tensor, target: Tensor) -> Tensor:
    """Add a smooth L1 to the Gaussian negative log-likelihood, lest early training hide in the variance."""
    likelihood = 0.5 * (log_variance + (target - mean).square() * torch.exp(-log_variance))
    return likelihood.mean() + F.smooth_l1_loss(mean, target, beta=0.1)
