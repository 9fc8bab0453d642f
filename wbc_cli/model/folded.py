"""Convolutions with frozen batch normalisation."""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


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


def fold(net: nn.Module) -> None:
    """Replace each convolution that a batch normalisation follows, and leave that one's activation in its place."""
    for module in list(net.modules()):
        names = list(module._modules)
        for first, second in pairwise(names):
            conv, norm = module._modules[first], module._modules[second]
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                module._modules[first] = FoldedConv(conv, norm)
                module._modules[second] = cast("nn.Module", norm.act)
