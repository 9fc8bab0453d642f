"""The networks a backbone can be made of, each cut into a stem and one stage for each stride.

An EfficientNet-Lite is what wbc-cli ships. The others are baselines to compare it with, and start from random weights;
their norms are the same in training and use and do not depend on the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import timm
import torch
from timm.layers.norm import GroupNorm
from timm.models.swin_transformer import SwinTransformer
from torch import Tensor, nn

from wbc_cli.errors import UsageError
from wbc_cli.model.folded import fold

STRIDES = (2, 4, 8, 16, 32)
PRETRAINED = ("efficientnet_lite0", "efficientnet_lite2")
"""The backbones that there are ImageNet's weights of."""

# Where each of the strides above ends among the seven block groups of an EfficientNet.
_STAGE_ENDS = (0, 1, 2, 4, 6)


class Stages(NamedTuple):
    """A network in the pieces that a backbone runs one after the other.

    Attributes:
        stem: from pixels [N, C, S, S] to stride 2.
        stages: one for each of STRIDES; each takes what the one before gives.
        channels: that each stage gives.
    """

    stem: nn.Module
    stages: tuple[nn.Module, ...]
    channels: tuple[int, ...]


def build_stages(name: str, in_channels: int, window_px: int, imagenet: Mapping[str, Tensor] | None) -> Stages:
    """Build the stages of a network by its name, from ImageNet weights or random ones.

    Args:
        name: one of BACKBONES.
        in_channels: RGB, and the saliency map where it enters.
        window_px: side of the windows.
        imagenet: weights in timm's order; only PRETRAINED takes any.

    Raises:
        UsageError: there is no such backbone.
        ValueError: ImageNet weights for a backbone that has none.
    """
    if name in PRETRAINED:
        return _efficientnet_lite(name, in_channels, imagenet)
    if name not in _BASELINES:
        raise UsageError(f"backbone={name}: there is no such backbone; give one of {', '.join(BACKBONES)}")
    if imagenet is not None:
        raise ValueError(f"{name} starts from random weights")
    return _BASELINES[name](in_channels, window_px)


def _efficientnet_lite(name: str, in_channels: int, imagenet: Mapping[str, Tensor] | None) -> Stages:
    net: Any = timm.create_model(name, pretrained=False, in_chans=in_channels, bn_eps=1e-3)
    if imagenet is not None:
        net.load_state_dict(_rename(net, imagenet, in_channels))
    # Random weights have no statistics, and learn without them: features keep a deviation of 0.4 to 9 at every depth.
    fold(net)
    stages = (
        nn.Sequential(*net.blocks[start:end])
        for start, end in zip((0, *(e + 1 for e in _STAGE_ENDS[:-1])), (e + 1 for e in _STAGE_ENDS), strict=True)
    )
    features = {info["stage"]: info["num_chs"] for info in net.feature_info}
    channels = tuple(features[end + 1] for end in _STAGE_ENDS)
    return Stages(nn.Sequential(net.conv_stem, net.bn1), tuple(stages), channels)


def _rename(net: nn.Module, state: Mapping[str, Tensor], in_channels: int) -> dict[str, Tensor]:
    """Rename ImageNet weights of another implementation in the same order; input channels beyond RGB start at zero."""
    renamed = dict(zip(net.state_dict(), state.values(), strict=True))
    stem = renamed["conv_stem.weight"]
    extra = torch.zeros(stem.shape[0], in_channels - 3, *stem.shape[2:])
    renamed["conv_stem.weight"] = torch.cat([stem, extra], dim=1)
    return renamed


def _resnet18(in_channels: int, window_px: int) -> Stages:
    net: Any = timm.create_model("resnet18", pretrained=False, in_chans=in_channels, norm_layer=GroupNorm)
    stem = nn.Sequential(net.conv1, net.bn1, net.act1)
    stages = (nn.Identity(), nn.Sequential(net.maxpool, net.layer1), net.layer2, net.layer3, net.layer4)
    return Stages(stem, stages, (64, 64, 128, 256, 512))


def _swin_nano(in_channels: int, window_px: int) -> Stages:
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
    return Stages(stem, stages, (stem_width, width, 2 * width, 4 * width, 8 * width))


class _Permute(nn.Module):
    def __init__(self, *order: int) -> None:
        super().__init__()
        self.order = order

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(self.order)


_BASELINES: dict[str, Callable[[int, int], Stages]] = {"resnet18": _resnet18, "swin_nano": _swin_nano}
BACKBONES = (*PRETRAINED, *_BASELINES)
