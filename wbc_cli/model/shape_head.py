"""The shape head: a second opinion on the type of a cell, from its outlines, that no stain or camera sways."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wbc_cli.classes import BASOPHIL, BLAST, CLASS_NAMES, ERYTHROBLAST, OTHER
from wbc_cli.model.heads import MAP_STRIDE
from wbc_cli.model.saliency import background_colour, optical_density

CHANNELS = 3  # nucleus, cytoplasm, density
# A basophil's nucleus lies under granules, and an erythroblast differs from a small lymphocyte in colour alone. Shape
# takes no suspicion from a blast, and turns no cell into a platelet.
_SHAPELESS = tuple(CLASS_NAMES.index(name) for name in (BASOPHIL, BLAST, ERYTHROBLAST, OTHER))
_SIDE_PX = 56  # of the square that is looked at, in map pixels: 22 um
_WIDTH = 32
_DENSITY_CHANNEL = 2
_MIN_LIGHT = 0.02  # of the light, see optical_density
DENSITY_GAIN = 0.5
"""Brings densities relative to the nucleus's into 0 to 1."""
_MIN_NUCLEAR_DENSITY = 0.15
_BLUR_SIGMA_PX = 1.2  # map pixels: 0.5 um, which leaves no granule
_BLUR_REACH_PX = 3  # map pixels


class ShapeHead(nn.Module):
    """Types a cell from where its nucleus and cytoplasm lie, and from how dense they are in the large.

    Texture and hue differ between laboratories far more than shape does: on laboratories that were left out this small
    net alone is right as often as the network is, and each is right where the other is wrong. Their log-probabilities
    are added (a product of experts, Hinton, 2002). Learned last, with the rest of the network as it is.

    A cell takes 0.15 of the time that its window takes the network (one core, bf16), half of it for the maps.

    Args:
        classes: outputs of the type head.

    Attributes:
        mixing: float [classes, classes], what the evidence is multiplied by before it joins the type logits: zero
            until the head is learned, and one for each class by itself from then on, unless a profile has another.
    """

    mixing: Tensor

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            _halving(CHANNELS, _WIDTH),
            _halving(_WIDTH, 2 * _WIDTH),
            _halving(2 * _WIDTH, 4 * _WIDTH),
            nn.Conv2d(4 * _WIDTH, 4 * _WIDTH, 3, 1, 1),
            nn.SiLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(4 * _WIDTH, classes),
        )
        self.register_buffer("mixing", torch.zeros(classes, classes))

    def forward(self, maps: Tensor) -> Tensor:
        """Compute class logits [N, classes] of cells' maps, float [N, CHANNELS, S, S] from `cell_maps`."""
        logits: Tensor = self.layers(maps)
        return logits

    def log_probabilities(self, maps: Tensor) -> Tensor:
        """Compute log-probabilities of the classes, the mean of those with and without the density.

        Shape is not asked of basophils, blasts, erythroblasts and platelets, and never speaks against them: they have
        the value of the likeliest of the other classes.

        Args:
            maps: float [N, CHANNELS, S, S], from `cell_maps`.

        Returns:
            float [N, classes].
        """
        views = torch.cat([maps, without_density(maps)])
        with_density, outlines = self(views).log_softmax(dim=1).chunk(2)
        found: Tensor = (with_density + outlines) / 2
        likeliest = torch.stack([found[:, i] for i in range(found.shape[1]) if i not in _SHAPELESS]).amax(dim=0)
        return torch.stack([likeliest if i in _SHAPELESS else found[:, i] for i in range(found.shape[1])], dim=1)


def without_density(maps: Tensor) -> Tensor:
    """Return maps whose density is zero, which leaves the outlines."""
    return torch.cat([maps[:, :_DENSITY_CHANNEL], torch.zeros_like(maps[:, _DENSITY_CHANNEL:])], dim=1)


def cell_maps(windows: Tensor, segments: Tensor, cells: Tensor, owners: Tensor | None = None) -> Tensor:
    """Cut what the shape head sees of cells out of their windows, each cell in the middle.

    Args:
        windows: float (0 to 1) or uint8 [N, 3, S, S], RGB.
        segments: float [N, 3, h, w], logits of background, cytoplasm, nucleus.
        cells: float [M, h, w], the masks of cells, none of them empty.
        owners: int64 [M], the window of each; None where every window has one.

    Returns:
        float [M, CHANNELS, s, s]: the probabilities of nucleus and cytoplasm inside the cell's mask, and the optical
        density of the window without its fine detail, relative to the mean of the cell's nucleus; zero beyond the
        window.
    """
    probabilities, density = segments.float().softmax(dim=1), _coarse_density(windows)
    if owners is not None:
        probabilities, density = probabilities[owners], density[owners]
    nucleus, cytoplasm = probabilities[:, 2] * cells, probabilities[:, 1] * cells
    nuclear = (density * nucleus).sum(dim=(1, 2)) / nucleus.sum(dim=(1, 2)).clamp_min(1)
    relative = (DENSITY_GAIN * density / nuclear.clamp_min(_MIN_NUCLEAR_DENSITY)[:, None, None]).clamp(0, 1)
    return _centred(torch.stack([nucleus, cytoplasm, relative], dim=1), cells)


def _coarse_density(windows: Tensor) -> Tensor:
    """Compute the optical density of the mean of the colours at the maps' stride, float [N, h, w], smoothed."""
    rgb = windows.float() / 255 if windows.dtype == torch.uint8 else windows
    grey = F.avg_pool2d(rgb.mean(dim=1, keepdim=True), MAP_STRIDE)
    density = optical_density(grey, background_colour(grey), _MIN_LIGHT)
    offsets = torch.arange(-_BLUR_REACH_PX, _BLUR_REACH_PX + 1, device=rgb.device, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (offsets / _BLUR_SIGMA_PX) ** 2)
    kernel = (kernel / kernel.sum())[None, None, :, None]
    padded = F.pad(density, (_BLUR_REACH_PX,) * 4, mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel), kernel.transpose(2, 3))[:, 0]


def _centred(maps: Tensor, cells: Tensor) -> Tensor:
    """Cut squares of _SIDE_PX around the middles of cells out of maps [M, C, h, w]."""
    height, width = maps.shape[-2:]
    size = cells.sum(dim=(1, 2))
    rows = torch.arange(height, device=maps.device, dtype=torch.float32)
    columns = torch.arange(width, device=maps.device, dtype=torch.float32)
    y = torch.einsum("nhw,h->n", cells, rows) / size
    x = torch.einsum("nhw,w->n", cells, columns) / size
    steps = torch.arange(_SIDE_PX, device=maps.device, dtype=torch.float32) - (_SIDE_PX - 1) / 2
    grid_y = (2 * (y[:, None] + steps) + 1) / height - 1
    grid_x = (2 * (x[:, None] + steps) + 1) / width - 1
    grid = torch.stack(
        [grid_x[:, None, :].expand(-1, _SIDE_PX, -1), grid_y[:, :, None].expand(-1, -1, _SIDE_PX)], dim=-1
    )
    return F.grid_sample(maps, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _halving(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, 2, 1), nn.GroupNorm(8, outputs), nn.SiLU())
