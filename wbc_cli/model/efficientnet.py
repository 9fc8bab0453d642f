"""EfficientNet-Lite (Tan and Le, 2019; the Lite variants of the TensorFlow authors, 2020) as far as a backbone goes.

The same function, and the same names and order of the weights, as timm's. It is our own because importing timm takes as
long again as importing torch does, and every analysis would begin with it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

_STEM_CHANNELS = 32
_EPSILON = 1e-3


class Stage(NamedTuple):
    """A stage of EfficientNet-Lite0: blocks, side of the kernel, stride of the first block, growth, channels."""

    blocks: int
    kernel: int
    stride: int
    expansion: int
    channels: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)
_GROWTH = {"efficientnet_lite0": (1.0, 1.0), "efficientnet_lite2": (1.1, 1.2)}
"""How much wider and deeper than Lite0 each is; the first and the last stage have one block in each."""


class DepthwiseSeparableConv(nn.Module):
    """A depthwise convolution and one across the channels: the block of the first stage."""

    def __init__(self, inner: int, out: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv_dw, self.bn1 = _convolution(inner, inner, kernel, stride, groups=inner), ActivatedNorm(inner)
        self.conv_pw, self.bn2 = _convolution(inner, out, 1), PlainNorm(out)
        self.adds = stride == 1 and inner == out

    def forward(self, x: Tensor) -> Tensor:
        """Compute features [N, out, H / stride, W / stride] from [N, inner, H, W]."""
        features: Tensor = self.bn2(self.conv_pw(self.bn1(self.conv_dw(x))))
        return features + x if self.adds else features


class InvertedResidual(nn.Module):
    """More channels, a depthwise convolution, and fewer again (MobileNetV2's block)."""

    def __init__(self, inner: int, out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inner * expansion
        self.conv_pw, self.bn1 = _convolution(inner, wide, 1), ActivatedNorm(wide)
        self.conv_dw, self.bn2 = _convolution(wide, wide, kernel, stride, groups=wide), ActivatedNorm(wide)
        self.conv_pwl, self.bn3 = _convolution(wide, out, 1), PlainNorm(out)
        self.adds = stride == 1 and inner == out

    def forward(self, x: Tensor) -> Tensor:
        """Compute features [N, out, H / stride, W / stride] from [N, inner, H, W]."""
        features: Tensor = self.bn3(self.conv_pwl(self.bn2(self.conv_dw(self.bn1(self.conv_pw(x))))))
        return features + x if self.adds else features


class ActivatedNorm(nn.BatchNorm2d):
    """A batch normalisation and the activation behind it."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=_EPSILON)
        self.act: nn.Module = nn.ReLU6(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise and activate [N, C, H, W]."""
        activated: Tensor = self.act(super().forward(x))
        return activated


class PlainNorm(ActivatedNorm):
    """A batch normalisation that nothing follows: what a block gives may be negative."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.act = nn.Identity()


class EfficientNetLite(nn.Module):
    """The stem and the blocks, with random weights; `stages` runs them.

    Args:
        name: `efficientnet_lite0` or `efficientnet_lite2`.
        in_channels: of the pixels.

    Attributes:
        channels: that each of the STAGES gives.
    """

    def __init__(self, name: str, in_channels: int) -> None:
        super().__init__()
        width, depth = _GROWTH[name]
        self.conv_stem, self.bn1 = _convolution(in_channels, _STEM_CHANNELS, 3, 2), ActivatedNorm(_STEM_CHANNELS)
        self.channels = tuple(_rounded(stage.channels * width) for stage in STAGES)
        stages, inner = [], _STEM_CHANNELS
        for stage, out in zip(STAGES, self.channels, strict=True):
            blocks = stage.blocks if stage.blocks == 1 else -int(-stage.blocks * depth // 1)
            stages.append(nn.Sequential(*(_block(stage, inner if not n else out, out, n) for n in range(blocks))))
            inner = out
        self.blocks = nn.Sequential(*stages)


def _convolution(inner: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """Return a convolution whose random weights leave the features' deviation as it is (He et al., 2015)."""
    conv = nn.Conv2d(inner, out, kernel, stride, kernel // 2, groups=groups, bias=False)
    with torch.no_grad():
        conv.weight.normal_(0.0, (2.0 * groups / (kernel * kernel * out)) ** 0.5)
    return conv


def _block(stage: Stage, inner: int, out: int, number: int) -> nn.Module:
    stride = stage.stride if number == 0 else 1
    if stage.expansion == 1:
        return DepthwiseSeparableConv(inner, out, stage.kernel, stride)
    return InvertedResidual(inner, out, stage.kernel, stride, stage.expansion)


def _rounded(channels: float) -> int:
    """Round a number of channels to a multiple of eight, not down by more than a tenth."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded
