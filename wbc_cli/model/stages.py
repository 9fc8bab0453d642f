"""The networks a backbone can be made of, each cut into a stem and one stage for each stride.

An EfficientNet-Lite is what wbc-cli ships. The others are baselines to compare it with, and start from random weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from wbc_cli.errors import SetupError, UsageError
from wbc_cli.model.efficientnet import EfficientNetLite
from wbc_cli.model.folded import fold

STRIDES = (2, 4, 8, 16, 32)
PRETRAINED = ("efficientnet_lite0", "efficientnet_lite2")
"""The backbones that there are ImageNet's weights of."""
BASELINES = ("resnet18", "swin_nano")
BACKBONES = (*PRETRAINED, *BASELINES)

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
        SetupError: timm, which builds the baselines, is not installed.
        ValueError: ImageNet weights for a backbone that has none.
    """
    if name in PRETRAINED:
        return _efficientnet_lite(name, in_channels, imagenet)
    if name not in BASELINES:
        raise UsageError(f"backbone={name}: there is no such backbone; give one of {', '.join(BACKBONES)}")
    if imagenet is not None:
        raise ValueError(f"{name} starts from random weights")
    try:
        from wbc_cli.model.baselines import build  # noqa: PLC0415 - timm, which takes as long to import as torch again
    except ImportError as error:
        raise SetupError(f"backbone={name} is built by timm: pip install 'wbc-cli[train]'") from error
    return Stages(*build(name, in_channels, window_px))


def _efficientnet_lite(name: str, in_channels: int, imagenet: Mapping[str, Tensor] | None) -> Stages:
    net = EfficientNetLite(name, in_channels)
    if imagenet is not None:
        net.load_state_dict(_rename(net, imagenet, in_channels))
    # Random weights have no statistics, and learn without them: features keep a deviation of 0.4 to 9 at every depth.
    fold(net)
    stages = (
        nn.Sequential(*net.blocks[start:end])
        for start, end in zip((0, *(e + 1 for e in _STAGE_ENDS[:-1])), (e + 1 for e in _STAGE_ENDS), strict=True)
    )
    channels = tuple(net.channels[end] for end in _STAGE_ENDS)
    return Stages(nn.Sequential(net.conv_stem, net.bn1), tuple(stages), channels)


def _rename(net: nn.Module, state: Mapping[str, Tensor], in_channels: int) -> dict[str, Tensor]:
    """Rename ImageNet weights of another implementation in the same order, which go on to a classifier.

    Input channels beyond RGB start at zero.
    """
    renamed = dict(zip(net.state_dict(), state.values(), strict=False))
    stem = renamed["conv_stem.weight"]
    extra = torch.zeros(stem.shape[0], in_channels - 3, *stem.shape[2:])
    renamed["conv_stem.weight"] = torch.cat([stem, extra], dim=1)
    return renamed
