"""The saliency prior: a tiny net on coarse pixels that points at white cells."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from wbc_cli.model.folded import ActivatedConv

COARSE_UM_PER_PX = 2.0
STRIDE = 2
_WIDTH = 32  # channels

BACKGROUND_QUANTILE = 0.9
"""The share of a picture's pixels, by each channel, that are darker than its background."""

_MIN_LIGHT = 0.03  # of the light, see optical_density
_DENSITY_GAIN = 2.0  # brings nuclei, at densities around one half, near what batch normalisation is used to
_MIN_STAINED_DENSITY = 0.25  # mean density from which on a pixel shows something
_MIN_STAINED_SHARE = 0.005  # share of a picture's pixels: fewer stained ones say nothing about its red cells
_LEAST_RED_SHARE = 1 / 3  # of what is stained, that is taken for red cells at first
_TRIMMINGS = 3
_MAX_SQUARED_DISTANCE = 6.0  # squared Mahalanobis distance; a ninth of what is distributed normally lies farther off
_LEAST_WEIGHT = 1e-6  # of pixels farther off than that: keeps their sum above zero
_DEVIATION_OFFSET = 0.1  # density that is added to deviations: keeps what is all alike from being set against itself
_MIN_DEVIATIONS, _MAX_DEVIATIONS = -4.0, 6.0  # deviations of a density by itself
_MIN_RESIDUAL, _MAX_RESIDUAL = -6.0, 8.0  # deviations from what the densities before it let expect
_ORDER = [1, 2, 0]  # green, blue, red: red cells hardly take up red light, and nuclei do

INPUTS = 8
"""The channels of the prior's input, see `prior_input`."""


class SaliencyPrior(nn.Module):
    """The saliency of white cells from stain densities at 2 um a pixel.

    Each density enters three times: as it is, relative to the red cells of the same field, and relative to what the
    other densities let expect of a red cell. What differs from the red cells of its own field is a candidate, whatever
    the laboratory's colours.

    A stride-2 stem and depthwise stages with growing dilation, about 300 multiplications for each square micrometre.
    Batch statistics are frozen after training, so that the output at a pixel depends on its surroundings alone and not
    on how an image is split.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(INPUTS, _WIDTH // 2, 3, STRIDE, 1, bias=False), nn.BatchNorm2d(_WIDTH // 2), nn.ReLU()
        )
        self.widen = nn.Sequential(nn.Conv2d(_WIDTH // 2, _WIDTH, 1, bias=False), nn.BatchNorm2d(_WIDTH), nn.ReLU())
        self.stages = nn.ModuleList(_depthwise(_WIDTH, dilation) for dilation in (1, 2, 3))
        # Applied as a linear layer: a convolution with one output rounds differently from one batch size to the next.
        self.weight = nn.Parameter(torch.randn(_WIDTH, 1, 1) * _WIDTH**-0.5)
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """Compute saliency logits.

        Args:
            x: float [N, INPUTS, H, W], from `prior_input`.

        Returns:
            float [N, 1, ceil(H / 2), ceil(W / 2)].
        """
        x = self.widen(self.stem(x))
        for stage in self.stages:
            x = x + stage(x)
        return F.linear(x.permute(0, 2, 3, 1), self.weight.flatten()[None]).permute(0, 3, 1, 2) + self.bias


def _depthwise(width: int, dilation: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(width, width, 3, 1, dilation, dilation, groups=width, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, width, 1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
    )


def folded(prior: SaliencyPrior) -> SaliencyPrior:
    """Copy the prior for inference: its batch normalisation is folded into the convolutions, in their fastest layout.

    Measured on one core in fp32: in 0.65 of the time.
    """
    prior = copy.deepcopy(prior)
    prior.stem, prior.widen = _joined(prior.stem), _joined(prior.widen)
    prior.stages = nn.ModuleList(_joined(stage) for stage in prior.stages)
    return prior.to(memory_format=torch.channels_last)


def _joined(layers: nn.Module) -> nn.Sequential:
    """Join convolutions with the batch normalisation and ReLU behind them, each into one layer."""
    joined = nn.Sequential()
    for conv, norm in pairwise(layers.children()):
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            joined.append(ActivatedConv(fuse_conv_bn_eval(conv, norm), nn.ReLU(inplace=True)))
    return joined


def background_colour(rgb: Tensor) -> Tensor:
    """Estimate the colour that each picture has where nothing lies: a high quantile of every channel.

    Unlike a mean it hardly cares whether the picture is a crop of one cell or a whole smear.

    Args:
        rgb: float [N, 3, H, W], 0 to 1.

    Returns:
        float [N, 3, 1, 1].
    """
    pixels = rgb.flatten(2)
    rank = max(1, round(BACKGROUND_QUANTILE * pixels.shape[2]))
    return pixels.kthvalue(rank, dim=2).values[..., None, None]


def stain_density(rgb: Tensor, background: Tensor) -> Tensor:
    """Compute the optical density above the background's (Beer-Lambert), which lamp and exposure do not change.

    Args:
        rgb: float, 0 to 1.
        background: of a shape that fits, from `background_colour`.
    """
    return _DENSITY_GAIN * optical_density(rgb, background, _MIN_LIGHT)


class FieldStatistics(NamedTuple):
    """The statistics tell how the stain densities of a field's red cells are distributed.

    Attributes:
        mean, deviation: float [N, 3, 1, 1], by channel.
        whitening: float [N, 2, 3]. It makes of the densities less their mean, in the order green, blue and red, the
            residuals of blue given green and of red given both, in deviations.
    """

    mean: Tensor
    deviation: Tensor
    whitening: Tensor


def field_statistics(density: Tensor) -> FieldStatistics:
    """Estimate the distribution of the red cells' stain densities by trimmed means and covariances.

    Most of what is stained in a field is red cells, but in a small one a white cell may be a third of it, and in
    leukaemia more than half. Red light is what red cells hardly take up, so the third that takes up least of it is what
    is begun with; then come in what is near, by its Mahalanobis distance, and what is near to these. Where hardly any
    pixel is stained, all count.

    Args:
        density: float [N, 3, H, W], from `stain_density`.
    """
    stained = (density.mean(dim=1, keepdim=True) > _MIN_STAINED_DENSITY).flatten(2)
    stained = stained | (stained.to(density.dtype).mean(dim=2, keepdim=True) < _MIN_STAINED_SHARE)
    pixels = density.flatten(2)[:, _ORDER]
    red = pixels[:, -1:]
    least_red = red.masked_fill(~stained, torch.nan).nanquantile(_LEAST_RED_SHARE, dim=2, keepdim=True)
    mean, covariance, whitening = _moments(pixels, stained, red <= least_red)
    for _ in range(_TRIMMINGS):
        squared = _product(whitening, pixels - mean).square().sum(dim=1, keepdim=True)
        mean, covariance, whitening = _moments(pixels, stained, squared < _MAX_SQUARED_DISTANCE)
    deviation = covariance.diagonal(dim1=1, dim2=2).sqrt()
    unordered = [_ORDER.index(channel) for channel in range(3)]
    return FieldStatistics(mean[:, unordered, :, None], deviation[:, unordered, None, None], whitening[:, 1:])


def _moments(pixels: Tensor, stained: Tensor, near: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the mean [N, 3, 1], covariance and whitening, both [N, 3, 3], of pixels [N, 3, P].

    Args:
        pixels: the densities.
        stained, near: bool [N, 1, P]; what is stained and not near hardly counts, and the rest not at all.
    """
    weight = stained * near.to(pixels.dtype).clamp_min(_LEAST_WEIGHT)
    total = weight.sum(dim=2, keepdim=True)
    mean = (pixels * weight).sum(dim=2, keepdim=True) / total
    centred = pixels - mean
    covariance = (centred[:, :, None] * (centred * weight)[:, None]).sum(dim=3) / total
    unit = torch.eye(3, dtype=pixels.dtype, device=pixels.device)
    # Unlike `cholesky` it does not wait for the GPU's word that all went well, which the offset sees to.
    factor, _ = torch.linalg.cholesky_ex(covariance + _DEVIATION_OFFSET**2 * unit)
    return mean, covariance, torch.linalg.solve_triangular(factor, unit.expand_as(factor), upper=False)


def _product(matrices: Tensor, pixels: Tensor) -> Tensor:
    """Multiply matrices [N, M, 3] and pixels [N, 3, P]; a batched product rounds by the size of the batch."""
    return (matrices[..., None] * pixels[:, None]).sum(dim=2)


def prior_input(density: Tensor, statistics: FieldStatistics) -> Tensor:
    """Make the prior's input: densities, how far they lie from the red cells' mean, and their residuals, in deviations.

    Args:
        density: float [N, 3, H, W], from `stain_density`.
        statistics: of the field that the pictures are from.

    Returns:
        float [N, INPUTS, H, W].
    """
    centred = density - statistics.mean
    relative = centred / (statistics.deviation + _DEVIATION_OFFSET)
    residual = _product(statistics.whitening, centred[:, _ORDER].flatten(2)).reshape(
        len(density), -1, *density.shape[2:]
    )
    relative = relative.clamp(_MIN_DEVIATIONS, _MAX_DEVIATIONS)
    return torch.cat([density, relative, residual.clamp(_MIN_RESIDUAL, _MAX_RESIDUAL)], dim=1)


def optical_density(rgb: Tensor, background: Tensor, min_light: float) -> Tensor:
    """Compute the optical density (natural logarithm) against the background.

    Args:
        rgb: float, 0 to 1.
        background: of a shape that fits.
        min_light: share of the light that is added to both, which keeps the density finite in the dark.
    """
    return torch.log((background + min_light) / (rgb + min_light))


def window_saliency(prior: SaliencyPrior, windows: Tensor, um_per_px: float) -> tuple[Tensor, Tensor]:
    """Run the prior on windows at the network's scale, and estimate their background colours.

    Args:
        prior: the trained prior.
        windows: float [N, 3, S, S], RGB 0 to 1.
        um_per_px: scale of the windows.

    Returns:
        float [N, 1, S, S], 0 to 1; and float [N, 3, 1, 1], from `background_colour`.
    """
    side = max(1, round(windows.shape[-1] * um_per_px / COARSE_UM_PER_PX))
    coarse = F.adaptive_avg_pool2d(windows.float(), side)
    background = background_colour(coarse)
    density = stain_density(coarse, background)
    saliency = torch.sigmoid(prior(prior_input(density, field_statistics(density))))
    return F.interpolate(saliency, size=windows.shape[-2:], mode="bilinear", align_corners=False), background
