"""The EfficientSwin-style backbone: stages of a smaller network, Swin blocks behind the deep ones."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from wbc_cli.model.stages import STRIDES, build_stages
from wbc_cli.model.swin import SwinBlock

_WINDOW = 5  # positions a side within which a block attends


class SwinStage(nn.Module):
    """Two Swin blocks (plain and shifted windows) on a feature map; the identity at the start of training."""

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        heads = max(1, channels // 32)
        while channels % heads:
            heads -= 1
        shifts = (0, _WINDOW // 2 if side > _WINDOW else 0)
        self.blocks = nn.ModuleList(
            SwinBlock(channels, side, heads, min(_WINDOW, side), shift, mlp_ratio=2.0) for shift in shifts
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
    """The features at strides 2 to 32 of a square window.

    Attributes:
        channels: number of channels at each of STRIDES.

    Args:
        name: one of `stages.BACKBONES`.
        in_channels: RGB, and the saliency map where it enters.
        window_px: side of the windows.
        swin: whether Swin blocks follow the stages at strides 16 and 32.
        imagenet: weights to start from, in timm's order; only `stages.PRETRAINED` takes any.

    Raises:
        UsageError: there is no such backbone.
    """

    def __init__(
        self, name: str, in_channels: int, window_px: int, swin: bool, imagenet: Mapping[str, Tensor] | None = None
    ) -> None:
        super().__init__()
        self.stem, stages, self.channels = build_stages(name, in_channels, window_px, imagenet)
        self.stages = nn.ModuleList(stages)
        self.attention = nn.ModuleDict(
            {
                str(stride): SwinStage(channels, window_px // stride)
                for stride, channels in zip(STRIDES, self.channels, strict=True)
                if swin and stride >= 16
            }
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """Compute the features of windows [N, C, S, S], one tensor for each of STRIDES."""
        x = self.stem(x)
        features = []
        for stride, stage in zip(STRIDES, self.stages, strict=True):
            x = stage(x)
            if str(stride) in self.attention:
                x = self.attention[str(stride)](x)
            features.append(x)
        return features
