"""The blocks of a Swin Transformer (Liu et al., 2021): attention within windows that every second block shifts.

The same function, and the same names of the weights, as timm's block. It is our own because importing timm takes as
long again as importing torch does, and every analysis would begin with it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_APART = -100.0
"""What is added to the attention between places that the shift brought side by side: none is left behind softmax."""


class WindowAttention(nn.Module):
    """Attention among the places of a window, which knows how they lie to each other.

    Args:
        channels: of the features.
        heads: of the attention; a divisor of the channels.
        window: side of a window, in places.
    """

    index: Tensor

    def __init__(self, channels: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.scale = (channels // heads) ** -0.5
        self.relative_position_bias_table = nn.Parameter(torch.empty((2 * window - 1) ** 2, heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        self.softmax = nn.Softmax(dim=-1)
        line = torch.arange(window)
        place = torch.cartesian_prod(line, line)
        apart = place[:, None] - place + window - 1  # [places, places, 2], from 0
        self.register_buffer("index", (apart[..., 0] * (2 * window - 1) + apart[..., 1]).flatten(), persistent=False)

    def forward(self, x: Tensor, apart: Tensor | None) -> Tensor:
        """Attend within windows.

        Args:
            x: features [N times windows, places, channels], the windows of an image one after the other.
            apart: what is added to the attention of each window [windows, places, places], or None.
        """
        count, places, _ = x.shape
        q, k, v = self.qkv(x).reshape(count, places, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        attention = (q * self.scale) @ k.transpose(-2, -1)
        bias = self.relative_position_bias_table[self.index].view(places, places, -1).permute(2, 0, 1).contiguous()
        attention = attention + bias
        if apart is not None:
            attention = attention.view(-1, len(apart), self.heads, places, places) + apart[:, None]
            attention = attention.view(-1, self.heads, places, places)
        attended: Tensor = self.proj((self.softmax(attention) @ v).transpose(1, 2).reshape(count, places, -1))
        return attended


class Mlp(nn.Module):
    """The two layers behind the attention."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.act, self.fc2 = nn.Linear(channels, hidden), nn.GELU(), nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Change features [..., channels] place by place."""
        changed: Tensor = self.fc2(self.act(self.fc1(x)))
        return changed


class SwinBlock(nn.Module):
    """Attention within windows, then two layers place by place, each added to what it is given.

    Args:
        channels: of the features.
        side: of the feature map, in places; it is padded to whole windows.
        heads: of the attention.
        window: side of a window.
        shift: how far the windows are shifted, with those at the edge going round; 0 for plain windows.
        mlp_ratio: channels of the hidden layer for each channel.
    """

    apart: Tensor | None

    def __init__(self, channels: int, side: int, heads: int, window: int, shift: int, mlp_ratio: float) -> None:
        super().__init__()
        self.window, self.shift = window, shift
        self.norm1 = nn.LayerNorm(channels)
        self.attn = WindowAttention(channels, heads, window)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = Mlp(channels, int(channels * mlp_ratio))
        padded = -(-side // window) * window
        self.register_buffer("apart", _apart(padded, window, shift) if shift else None, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Attend over [N, side, side, channels]."""
        x = x + self._attend(self.norm1(x))
        added: Tensor = x + self.mlp(self.norm2(x))
        return added

    def _attend(self, x: Tensor) -> Tensor:
        count, side, _, channels = x.shape
        if self.shift:
            x = torch.roll(x, (-self.shift, -self.shift), (1, 2))
        beyond = -side % self.window
        windows = _windows(F.pad(x, (0, 0, 0, beyond, 0, beyond)), self.window)
        windows = self.attn(windows, self.apart)
        across = (side + beyond) // self.window
        x = windows.view(count, across, across, self.window, self.window, channels).transpose(2, 3)
        x = x.reshape(count, side + beyond, side + beyond, channels)[:, :side, :side]
        return torch.roll(x, (self.shift, self.shift), (1, 2)) if self.shift else x


def _windows(x: Tensor, window: int) -> Tensor:
    """Cut [N, side, side, C] into windows [N times windows, window * window, C]."""
    count, side, _, channels = x.shape
    x = x.view(count, side // window, window, side // window, window, channels).transpose(2, 3)
    return x.reshape(-1, window * window, channels)


def _apart(side: int, window: int, shift: int) -> Tensor:
    """What keeps apart the places of a window [windows, places, places] that only the shift brought together."""
    band = torch.cat([torch.full((n,), float(i)) for i, n in enumerate((side - window, window - shift, shift))])
    regions = _windows((3 * band[:, None] + band)[None, :, :, None], window)[..., 0]
    return _APART * (regions[:, :, None] != regions[:, None]).float()
