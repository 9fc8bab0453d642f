"""The baselines among the backbones, as timm builds them, with random weights.

Their norms are the same in training and use and do not depend on the batch.
"""

from __future__ import annotations

from typing import Any

import timm
from timm.layers.norm import GroupNorm
from timm.models.swin_transformer import SwinTransformer
from torch import Tensor, nn

Pieces = tuple[nn.Module, tuple[nn.Module, ...], tuple[int, ...]]
"""A stem, a stage for each stride, and the channels that each stage gives."""


def build(name: str, in_channels: int, window_px: int) -> Pieces:
    """Build a baseline, `resnet18` or `swin_nano`, for windows of a size with random weights."""
    return _resnet18(in_channels) if name == "resnet18" else _swin_nano(in_channels, window_px)


def _resnet18(in_channels: int) -> Pieces:
    net: Any = timm.create_model("resnet18", pretrained=False, in_chans=in_channels, norm_layer=GroupNorm)
    stem = nn.Sequential(net.conv1, net.bn1, net.act1)
    stages = (nn.Identity(), nn.Sequential(net.maxpool, net.layer1), net.layer2, net.layer3, net.layer4)
    return (stem, stages, (64, 64, 128, 256, 512))


def _swin_nano(in_channels: int, window_px: int) -> Pieces:
    """Build a Swin of half Swin-T's width with the windows of SwinStage.

    It has nothing at stride 2, where cells are outlined: a convolution comes first, and patches are 2 pixels of it
    (after Xiao et al., Early convolutions help transformers see better, 2021).
    """
    width, stem_width = 48, 32
    stem = nn.Sequential(
        nn.Conv2d(in_channels, stem_width, 3, 2, 1, bias=False), nn.GroupNorm(8, stem_width), nn.SiLU()
    )
    net = SwinTransformer(
        img_size=window_px // 2,
        patch_size=2,
        in_chans=stem_width,
        embed_dim=width,
        depths=(2, 2, 2, 2),
        num_heads=(2, 4, 8, 16),
        window_size=5,
        drop_path_rate=0.0,
    )
    at4, at8, at16, at32 = net.layers
    first, last = _Permute(0, 3, 1, 2), _Permute(0, 2, 3, 1)  # of the channels; Swin wants them last
    stages = (
        nn.Identity(),
        nn.Sequential(net.patch_embed, at4, first),
        nn.Sequential(last, at8, first),
        nn.Sequential(last, at16, first),
        nn.Sequential(last, at32, net.norm, first),
    )
    return (stem, stages, (stem_width, width, 2 * width, 4 * width, 8 * width))


class _Permute(nn.Module):
    def __init__(self, *order: int) -> None:
        super().__init__()
        self.order = order

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(self.order)
