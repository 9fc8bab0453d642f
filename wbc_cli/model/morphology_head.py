"""The morphology head: from the features of a cell, its nucleus and its cytoplasm, to its attributes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wbc_cli.morphology import ATTRIBUTES

PARTS = 3  # the whole cell, its nucleus, its cytoplasm
_HIDDEN_WIDTH = 256
_MAX_DEVIATIONS = 5.0  # standard deviations: what another laboratory's cell may be off without carrying everything


class MorphologyHead(nn.Module):
    """Two layers on pooled features; learned last, with the rest of the network as it is.

    Args:
        width: channels that are pooled.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(PARTS * width))
        self.register_buffer("deviation", torch.ones(PARTS * width))
        values = sum(len(values) for values in ATTRIBUTES.values())
        self.layers = nn.Sequential(
            nn.Dropout(0.3),
            nn.Linear(PARTS * width, _HIDDEN_WIDTH),
            nn.SiLU(),
            nn.Dropout(0.3),
            nn.Linear(_HIDDEN_WIDTH, values),
        )

    @staticmethod
    def pool(features: Tensor, texture: Tensor, segments: Tensor, cells: Tensor) -> Tensor:
        """Average the features over whole cells, their nuclei and their cytoplasm; zero where a cell has none.

        Args:
            features, texture: float [N, C, h, w] of each, see `network.NetworkOutput`.
            segments: float [N, 3, H, W], logits of background, cytoplasm, nucleus.
            cells: float [N, K, H, W], the masks of the cells of each window.

        Returns:
            float [N, K, PARTS * width].
        """
        nuclei = cells * (segments[:, 2:] > segments[:, 1:2])
        parts = torch.stack([cells, nuclei, cells - nuclei], dim=2)
        pooled_masks = F.adaptive_avg_pool2d(parts.flatten(1, 2), features.shape[-1])
        sums = [torch.einsum("nchw,nkhw->nkc", maps, pooled_masks) for maps in (features, texture)]
        means: Tensor = torch.cat(sums, dim=-1) / pooled_masks.sum(dim=(-2, -1)).clamp_min(1e-6)[..., None]
        return means.reshape(*cells.shape[:2], -1)

    def forward(self, pooled: Tensor) -> tuple[Tensor, ...]:
        """Compute the logits of each of ATTRIBUTES, float [N, values], of features [N, PARTS * width]."""
        normal = ((pooled - self.mean) / self.deviation).clamp(-_MAX_DEVIATIONS, _MAX_DEVIATIONS)
        logits: Tensor = self.layers(normal).float()
        return torch.split(logits, [len(values) for values in ATTRIBUTES.values()], dim=1)

    def predict(self, pooled: Tensor) -> Tensor:
        """Predict the likeliest value of each attribute, int64 [N, attributes], of features [N, PARTS * width]."""
        return torch.stack([logits.argmax(dim=1) for logits in self(pooled)], dim=1)
