"""Other laboratories' stains and optics, imitated on batches of float RGB [N, 3, H, W], 0 to 1."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def augment(rgb: Tensor, generator: torch.Generator) -> Tensor:
    """Change stain, light and optics of every image by itself; blur and resolution by quarters of the batch."""
    rgb = stain(rgb, generator)
    rgb = light(rgb, generator)
    order = torch.randperm(len(rgb), generator=generator, device=generator.device)
    parts = [optics(part, generator) for part in rgb[order].chunk(4)]
    rgb = torch.cat(parts)[torch.argsort(order)]
    noise = _uniform(generator, len(rgb), 0.0, 0.035) * _happens(generator, len(rgb), 0.4)
    rgb = rgb + noise[:, None, None, None] * torch.randn(rgb.shape, generator=generator, device=generator.device)
    return rgb.clamp(0, 1)


def stain(rgb: Tensor, generator: torch.Generator) -> Tensor:
    """Mix, bend and scale optical densities (Beer-Lambert), as other dyes, times and pH do.

    Bending, by an exponent for each channel, turns the colour of pale parts against that of nuclei, which no gain does.
    """
    n = len(rgb)
    density = -torch.log(rgb.clamp_min(1 / 255))
    strong = torch.where(_happens(generator, n, 0.3) > 0, 2.0, 1.0)[:, None, None]
    mixing = torch.eye(3, device=generator.device) + 0.09 * strong * torch.randn(
        (n, 3, 3), generator=generator, device=generator.device
    )
    density = torch.einsum("nij,njhw->nihw", mixing, density).clamp_min(0.02)
    density = density.pow(
        torch.exp(0.12 * strong * torch.randn((n, 3, 1), generator=generator, device=generator.device))[..., None]
    )
    gain = torch.exp(0.18 * strong * torch.randn((n, 3, 1), generator=generator, device=generator.device))
    # Some pictures lose most of their colour, so that shape and texture have to carry the type.
    grey = density.mean(dim=1, keepdim=True)
    saturation = torch.where(
        _happens(generator, n, 0.12) > 0, _uniform(generator, n, 0, 0.4), _uniform(generator, n, 0.6, 1.4)
    )
    density = grey + (density - grey) * saturation[:, None, None, None]
    return torch.exp(-(density * gain[..., None]).clamp(-0.5, 8)).clamp(0, 1)


def light(rgb: Tensor, generator: torch.Generator) -> Tensor:
    """Tint, exposure, gamma, contrast and vignette."""
    n, _, height, width = rgb.shape
    tint = torch.exp(0.08 * torch.randn((n, 3), generator=generator, device=generator.device))
    strong = _happens(generator, n, 0.2)[:, None]
    filtered = 1 - strong * torch.rand((n, 3), generator=generator, device=generator.device) * 0.6
    exposure = _uniform(generator, n, 0.75, 1.15)[:, None]
    rgb = rgb * (tint * filtered * exposure)[..., None, None]
    gamma = torch.exp(_uniform(generator, n, -0.35, 0.35))[:, None, None, None]
    rgb = rgb.clamp(1e-3, 1).pow(gamma)
    contrast = _uniform(generator, n, 0.75, 1.25)[:, None, None, None]
    middle = rgb.mean(dim=(1, 2, 3), keepdim=True)
    rgb = middle + (rgb - middle) * contrast
    y = (
        torch.linspace(-1, 1, height, device=rgb.device)[None, :, None]
        - _uniform(generator, n, -0.7, 0.7)[:, None, None]
    )
    x = (
        torch.linspace(-1, 1, width, device=rgb.device)[None, None, :]
        - _uniform(generator, n, -0.7, 0.7)[:, None, None]
    )
    depth = _uniform(generator, n, 0.0, 0.3) * _happens(generator, n, 0.35)
    shade = 1 - depth[:, None, None] * (x * x + y * y).clamp_max(2)
    # The dark round edge of a microscope's field, as photographs through the eyepiece show it; nearly straight here.
    angle = _uniform(generator, n, 0, 2 * math.pi)[:, None, None]
    beyond = x * torch.cos(angle) + y * torch.sin(angle) - _uniform(generator, n, 0.9, 1.4)[:, None, None]
    edge = _happens(generator, n, 0.08)[:, None, None] * torch.sigmoid(beyond / 0.03)
    return (rgb * (shade * (1 - edge))[:, None]).clamp(0, 1)


def optics(rgb: Tensor, generator: torch.Generator) -> Tensor:
    """Defocus, low resolution or over-sharpening: one of them, the same for the whole part of a batch."""
    choice = float(torch.rand((), generator=generator, device=generator.device))
    strength = float(torch.rand((), generator=generator, device=generator.device))
    if choice < 0.3:
        return _blur(rgb, 0.4 + 1.6 * strength)
    if choice < 0.45:
        side = max(8, round(rgb.shape[-1] / (1.3 + 1.9 * strength)))
        small = F.interpolate(rgb, size=(side, side), mode="area")
        return F.interpolate(small, size=rgb.shape[-2:], mode="bilinear", align_corners=False)
    if choice < 0.6:
        return (rgb + (0.4 + strength) * (rgb - _blur(rgb, 1.2))).clamp(0, 1)
    return rgb


def _blur(rgb: Tensor, sigma: float) -> Tensor:
    reach = math.ceil(2.5 * sigma)
    positions = torch.arange(-reach, reach + 1, dtype=torch.float32, device=rgb.device)
    kernel = torch.exp(-0.5 * (positions / sigma) ** 2)
    kernel = (kernel / kernel.sum()).repeat(3, 1)
    rgb = F.pad(rgb, (reach, reach, reach, reach), mode="replicate")
    rgb = F.conv2d(rgb, kernel[:, None, None, :], groups=3)
    return F.conv2d(rgb, kernel[:, None, :, None], groups=3)


def _uniform(generator: torch.Generator, n: int, low: float, high: float) -> Tensor:
    return low + (high - low) * torch.rand(n, generator=generator, device=generator.device)


def _happens(generator: torch.Generator, n: int, probability: float) -> Tensor:
    return (torch.rand(n, generator=generator, device=generator.device) < probability).float()
