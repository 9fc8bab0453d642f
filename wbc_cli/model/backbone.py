"""The EfficientSwin-style backbone: EfficientNet-Lite stages, Swin blocks behind the deep ones."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, cast

import timm
import torch
import torch.nn.functional as F
from timm.models.swin_transformer import SwinTransformerBlock
from torch import Tensor, nn

STRIDES = (2, 4, 8, 16, 32)
# Where each of the strides above ends among the seven block groups of an EfficientNet.
_STAGE_ENDS = (0, 1, 2, 4, 6)


class FoldedConv(nn.Module):
    """A convolution with its batch normalisation, the statistics frozen, folded into the weights.

    The same function and the same trainable numbers as a frozen batch normalisation, without its passes over the
    activations (training the bare backbone on two cores: 69 against 49 windows a second). Frozen statistics are what
    survives another laboratory's stain.
    """

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        assert norm.running_var is not None and norm.running_mean is not None
        gain = norm.weight.detach() / torch.sqrt(norm.running_var + norm.eps)
        self.weight = nn.Parameter(conv.weight.detach().clone())
        self.gain = nn.Parameter(gain)
        self.bias = nn.Parameter(norm.bias.detach() - norm.running_mean * gain)
        self.stride, self.padding, self.groups = conv.stride, conv.padding, conv.groups

    def forward(self, x: Tensor) -> Tensor:
        """Convolve [N, C, H, W]."""
        weight = self.weight * self.gain[:, None, None, None]
        # The CPU's bf16 gradient of depthwise convolutions is five times slower than its fp32 one.
        full = self.groups > 1 and x.device.type == "cpu" and torch.is_grad_enabled()
        with torch.autocast(x.device.type, enabled=torch.is_autocast_enabled(x.device.type) and not full):
            if full:
                x = x.float()
            return F.conv2d(x, weight, self.bias, self.stride, self.padding, 1, self.groups)


class SwinStage(nn.Module):
    """Two Swin blocks (plain and shifted windows) on a feature map; the identity at the start of training."""

    def __init__(self, channels: int, side: int, window: int = 5) -> None:
        super().__init__()
        heads = max(1, channels // 32)
        while channels % heads:
            heads -= 1
        shifts = (0, window // 2 if side > window else 0)
        self.blocks = nn.ModuleList(
            SwinTransformerBlock(
                channels, (side, side), heads, window_size=min(window, side), shift_size=shift, mlp_ratio=2.0
            )
            for shift in shifts
        )
        for name, parameter in self.blocks.named_parameters():
            if "attn.proj" in name or "mlp.fc2" in name:
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """Attend over [N, C, side, side]."""
        x = x.permute(0, 2, 3, 1)
        for block in self.blocks:
            x = block(x)
        return x.permute(0, 3, 1, 2)


class Backbone(nn.Module):
    """Features at strides 2 to 32 of a square window.

    Attributes:
        channels: number of channels at each of STRIDES.

    Args:
        name: timm name of an EfficientNet-Lite.
        in_channels: RGB, and the saliency map where it enters.
        window_px: side of the windows.
        swin: whether Swin blocks follow the stages at strides 16 and 32.
        imagenet: weights to start from, in timm's order.
    """

    def __init__(
        self, name: str, in_channels: int, window_px: int, swin: bool, imagenet: Mapping[str, Tensor] | None = None
    ) -> None:
        super().__init__()
        net: Any = timm.create_model(name, pretrained=False, in_chans=in_channels, bn_eps=1e-3)
        if imagenet is not None:
            net.load_state_dict(_rename(net, imagenet, in_channels))
        _fold(net)
        self.stem = nn.Sequential(net.conv_stem, net.bn1)
        self.stages = nn.ModuleList(
            nn.Sequential(*net.blocks[start:end])
            for start, end in zip((0, *(e + 1 for e in _STAGE_ENDS[:-1])), (e + 1 for e in _STAGE_ENDS), strict=True)
        )
        features = {info["stage"]: info["num_chs"] for info in net.feature_info}
        self.channels = tuple(features[end + 1] for end in _STAGE_ENDS)
        self.attention = nn.ModuleDict(
            {
                str(stride): SwinStage(channels, window_px // stride)
                for stride, channels in zip(STRIDES, self.channels, strict=True)
                if swin and stride >= 16
            }
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """Features of [N, C, S, S], one tensor for each of STRIDES."""
        x = self.stem(x)
        features = []
        for stride, stage in zip(STRIDES, self.stages, strict=True):
            x = stage(x)
            if str(stride) in self.attention:
                x = self.attention[str(stride)](x)
            features.append(x)
        return features


def _rename(net: nn.Module, state: Mapping[str, Tensor], in_channels: int) -> dict[str, Tensor]:
    """ImageNet weights of another implementation in the same order; input channels beyond RGB start at zero."""
    renamed = dict(zip(net.state_dict(), state.values(), strict=True))
    stem = renamed["conv_stem.weight"]
    extra = torch.zeros(stem.shape[0], in_channels - 3, *stem.shape[2:])
    renamed["conv_stem.weight"] = torch.cat([stem, extra], dim=1)
    return renamed


def _fold(net: nn.Module) -> None:
    """Replace each convolution that a batch normalisation follows, and leave that one's activation in its place."""
    for module in list(net.modules()):
        names = list(module._modules)
        for first, second in pairwise(names):
            conv, norm = module._modules[first], module._modules[second]
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                module._modules[first] = FoldedConv(conv, norm)
                module._modules[second] = cast("nn.Module", norm.act)
