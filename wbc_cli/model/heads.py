"""The two heads: what each pixel is and which cell it belongs to, and what type a cell is."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wbc_cli.model.norm import SmallMapNorm

SEGMENT_CHANNELS = 3  # background, cytoplasm, nucleus
SEGMENT_WEIGHTS = (1.0, 2.0, 1.5)
"""The weights of background, cytoplasm and nucleus in the loss: cytoplasm is the rarest and hardest."""

OFFSET_UNIT_PX = 16.0
MAP_STRIDE = 2
# Of the weights' logarithms. On the masks of the validation split cell IoU is 0.87 without, 0.88 with 0.6 and with 1.
_LOGIT_ADJUSTMENT = 0.6


class Maps(NamedTuple):
    """The segmentation head's output at stride 2.

    Attributes:
        segments: float [N, 3, S / 2, S / 2], logits of background, cytoplasm, nucleus.
        offsets: float [N, 2, S / 2, S / 2], x and y from the pixel to the middle of its cell in window pixels;
            pixels of one cell point at one position, which is what separates touching cells (Panoptic-DeepLab, 2020).
    """

    segments: Tensor
    offsets: Tensor


class SegmentationHead(nn.Module):
    """Brings the fused features back to stride 2 with the backbone's fine stages.

    Args:
        fused, stride4, stride2: channels of the fused features and of the stages at strides 4 and 2.
        weighted: it is trained with SEGMENT_WEIGHTS, of which its logits are rid in use, or outlines would be too wide
            (logit adjustment, Menon et al., ICLR 2021).
    """

    def __init__(self, fused: int, stride4: int, stride2: int, weighted: bool) -> None:
        super().__init__()
        self.weighted = weighted
        self.at4 = _Merge(fused, stride4, 64)
        self.at2 = _Merge(64, stride2, 32)
        self.out = nn.Conv2d(32, SEGMENT_CHANNELS + 2, 1)

    def forward(self, fused: Tensor, stride4: Tensor, stride2: Tensor) -> Maps:
        """Predict the maps from the fused features [N, C, S / 8, S / 8] and the stages at strides 4 and 2."""
        x = self.out(self.at2(self.at4(fused, stride4), stride2)).float()
        segments, offsets = x[:, :SEGMENT_CHANNELS], x[:, SEGMENT_CHANNELS:] * OFFSET_UNIT_PX
        if self.weighted and not self.training:
            adjustment = [_LOGIT_ADJUSTMENT * math.log(weight) for weight in SEGMENT_WEIGHTS]
            parts = [segments[:, i : i + 1] - shift for i, shift in enumerate(adjustment)]  # without waiting for a GPU
            segments = torch.cat(parts, dim=1)
        return Maps(segments, offsets)


class _Merge(nn.Module):
    def __init__(self, coarse: int, fine: int, out: int) -> None:
        super().__init__()
        self.coarse = nn.Conv2d(coarse, out, 1)
        self.fine = nn.Conv2d(fine, out, 1)
        self.mix = nn.Sequential(
            nn.GroupNorm(8, out), nn.SiLU(), nn.Conv2d(out, out, 3, padding=1), nn.GroupNorm(8, out), nn.SiLU()
        )

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        enlarged = F.interpolate(self.coarse(coarse), size=fine.shape[-2:], mode="bilinear", align_corners=False)
        merged: Tensor = self.mix(enlarged + self.fine(fine))
        return merged


class TypeHead(nn.Module):
    """The type of a cell from the features inside its mask.

    Linear after the pooling, so that Grad-CAM needs no second pass: the gradient of a class's logit with respect to
    the features, averaged over space, is that class's row of weights (Selvaraju et al., Grad-CAM, 2017, section 3).
    """

    def __init__(self, fused: int, width: int, classes: int) -> None:
        super().__init__()
        self.embed = nn.Sequential(nn.Conv2d(fused, width, 1), SmallMapNorm(16, width), nn.SiLU())
        self.drop = nn.Dropout(0.2)
        self.classify = nn.Linear(width, classes)

    def forward(self, fused: Tensor) -> Tensor:
        """Compute the type features [N, width, S / 8, S / 8] of the fused ones."""
        features: Tensor = self.embed(fused)
        return features

    def pool(self, features: Tensor, masks: Tensor) -> Tensor:
        """Average the features of cells over their masks.

        Args:
            features: float [N, width, h, w], of windows.
            masks: float [N, h, w], of one cell a window, or [N, K, h, w] of several: weight of each pixel.

        Returns:
            float [N, width] or [N, K, width]; zero for a cell whose mask is.
        """
        masks = masks.to(features.dtype)
        return torch.einsum("nchw,n...hw->n...c", features, masks) / masks.sum(dim=(-2, -1)).clamp_min(1e-6)[..., None]

    def logits(self, pooled: Tensor) -> Tensor:
        """Compute the class logits [N, classes] of pooled features [N, width]."""
        logits: Tensor = self.classify(self.drop(pooled))
        return logits.float()

    def cam(self, features: Tensor, classes: Tensor) -> Tensor:
        """Compute the Grad-CAM of one class a cell.

        Args:
            features: float [N, width, h, w], of windows.
            classes: int64 [N], of one cell a window, or [N, K] of several.

        Returns:
            float32 [N, h, w] or [N, K, h, w], not negative.
        """
        weights = self.classify.weight[classes]
        return F.relu(torch.einsum("nchw,n...c->n...hw", features.float(), weights.float()))
