"""The saliency prior: a tiny net on coarse pixels that points at white cells."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

COARSE_UM_PER_PX = 1.0
STRIDE = 2


class SaliencyPrior(nn.Module):
    """Saliency of white cells from standardised RGB at 1 um a pixel.

    A stride-2 stem and depthwise stages with growing dilation (receptive field 47 px), about 700 multiplications
    a pixel. Batch statistics are frozen after training, so that the answer at a place depends on its
    surroundings alone and not on how an image is split.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, width // 2, 3, STRIDE, 1, bias=False), nn.BatchNorm2d(width // 2), nn.ReLU()
        )
        self.widen = nn.Sequential(nn.Conv2d(width // 2, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.stages = nn.ModuleList(_depthwise(width, dilation) for dilation in (1, 2, 3, 4))
        self.head = nn.Conv2d(width, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Saliency logits.

        Args:
            x: float [N, 3, H, W], from `standardise`.

        Returns:
            float [N, 1, ceil(H / 2), ceil(W / 2)].
        """
        x = self.widen(self.stem(x))
        for stage in self.stages:
            x = x + stage(x)
        logits: Tensor = self.head(x)
        return logits


def _depthwise(width: int, dilation: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(width, width, 3, 1, dilation, dilation, groups=width, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, width, 1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
    )


def standardise(rgb: Tensor) -> Tensor:
    """RGB [N, 3, H, W] to zero mean and unit deviation by each image's own statistics over all its channels.

    One deviation for the three channels keeps what tells stain from background; a mean per channel takes the tint away.
    """
    mean = rgb.mean(dim=(2, 3), keepdim=True)
    deviation = (rgb - mean).square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
    return (rgb - mean) / (deviation + 0.02)


def window_saliency(prior: SaliencyPrior, windows: Tensor, um_per_px: float) -> Tensor:
    """The prior's view of windows at the network's scale.

    Args:
        prior: the trained prior.
        windows: float [N, 3, S, S], RGB 0 to 1.
        um_per_px: scale of the windows.

    Returns:
        float [N, 1, S, S], 0 to 1.
    """
    side = max(1, round(windows.shape[-1] * um_per_px / COARSE_UM_PER_PX))
    coarse = F.adaptive_avg_pool2d(windows.float(), side)
    saliency = torch.sigmoid(prior(standardise(coarse)))
    return F.interpolate(saliency, size=windows.shape[-2:], mode="bilinear", align_corners=False)
