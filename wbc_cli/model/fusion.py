"""Cross-layer fusion: every stage at one width and one stride, joined by grouped convolution and channel attention."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wbc_cli.model.norm import SmallMapNorm

FUSED_STRIDE = 8


class ChannelAttention(nn.Module):
    """Efficient channel attention (Wang et al., ECA-Net, CVPR 2020): kernel |log2(C) / 2 + 1 / 2|, odd."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        kernel = int(abs(math.log2(channels) / 2 + 0.5)) | 1
        self.conv = nn.Conv1d(1, 1, kernel, padding=kernel // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Weigh the channels of [N, C, H, W]."""
        weights = self.conv(x.mean(dim=(2, 3)).unsqueeze(1)).sigmoid()
        weighed: Tensor = x * weights.transpose(1, 2).unsqueeze(-1)
        return weighed


class CrossLayerFusion(nn.Module):
    """Joins the backbone's stages into one map at stride 8 (after ResNeXt-CC).

    Args:
        channels: channels of the stages.
        strides: their strides.
        width: channels of the fused map.
        enabled: fuse all stages; otherwise only the deepest one is projected and enlarged.
    """

    def __init__(self, channels: tuple[int, ...], strides: tuple[int, ...], width: int, enabled: bool) -> None:
        super().__init__()
        self.strides = strides
        self.first = 0 if enabled else len(channels) - 1
        self.project = nn.ModuleList(nn.Conv2d(c, width, 1) for c in channels[self.first :])
        self.join = nn.Sequential(nn.Conv2d(width * len(self.project), width, 1), SmallMapNorm(16, width), nn.SiLU())
        self.refine = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, groups=16),
            SmallMapNorm(16, width),
            nn.SiLU(),
            nn.Conv2d(width, width, 1),
            SmallMapNorm(16, width),
            ChannelAttention(width),
        )

    def forward(self, features: list[Tensor]) -> Tensor:
        """Fuse the stages.

        Args:
            features: float [N, C_i, S / stride_i, S / stride_i] of each stage.

        Returns:
            float [N, width, S / 8, S / 8].
        """
        side = features[0].shape[-1] * self.strides[0] // FUSED_STRIDE
        stages = [
            project(F.avg_pool2d(feature, FUSED_STRIDE // stride))
            if stride < FUSED_STRIDE
            else F.interpolate(project(feature), size=(side, side), mode="bilinear", align_corners=False)
            for project, feature, stride in zip(
                self.project, features[self.first :], self.strides[self.first :], strict=True
            )
        ]
        joined = self.join(torch.cat(stages, dim=1))
        return F.silu(joined + self.refine(joined))
