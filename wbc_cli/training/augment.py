"""Other laboratories' stains and optics, imitated on batches of float RGB [N, 3, H, W], 0 to 1."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

# Of the stain's random matrix, gains and exponents.
_MIXING_DEVIATION, _GAIN_DEVIATION, _EXPONENT_DEVIATION = 0.22, 0.30, 0.15
_MILD_STRENGTH = 0.4  # of these, in the share _MILD_SHARE of the images
_MILD_SHARE = 0.3
_DOWNSAMPLES = (1.4, 1.9, 2.5, 3.2)  # of low resolution, by quarters of a batch
_MAX_BLUR_SIGMA_PX = 2.0  # pixels: sigma of defocus
_MIN_LIGHT = 1 / 255  # of the light: keeps the optical density finite


def augment(rgb: Tensor, generator: torch.Generator, cells: Tensor | None = None, apart: float = 0.0) -> Tensor:
    """Change stain, light and optics of every image by itself.

    Args:
        rgb: the images.
        generator: of everything that is drawn, on the images' device.
        cells: float [N, 1, H, W], 1 inside white cells, for `stain`.
        apart: share of the images whose cells get a stain of their own.
    """
    rgb = stain(rgb, generator, cells, apart)
    return grain(optics(light(rgb, generator), generator), generator)


def stain(rgb: Tensor, generator: torch.Generator, cells: Tensor | None = None, apart: float = 0.0) -> Tensor:
    """Mix, bend and scale optical densities (Beer-Lambert), as other dyes, times and pH do.

    Bending, by an exponent for each channel, turns the colour of pale parts against that of nuclei, which no gain does.
    In a share of the images white cells are stained in one way and all else in another: what differs from the red cells
    of its own field is a white cell, whatever its hue.

    Args:
        rgb: the images.
        generator: of everything that is drawn.
        cells: float [N, 1, H, W], 1 inside white cells and between 0 and 1 at their rims; None where unknown.
        apart: share of the images whose white cells are stained by themselves.
    """
    density = -torch.log(rgb.clamp_min(_MIN_LIGHT))
    stained = _restain(density, generator)
    if cells is not None and apart:
        own = cells * _happens(generator, len(rgb), apart)[:, None, None, None]
        stained = stained + own * (_restain(density, generator) - stained)
    return torch.exp(-stained.clamp(-0.5, 8)).clamp(0, 1)


def _restain(density: Tensor, generator: torch.Generator) -> Tensor:
    n, device = len(density), generator.device
    strength = torch.where(_happens(generator, n, _MILD_SHARE) > 0, _MILD_STRENGTH, 1.0)[:, None, None]

    def normal(*shape: int) -> Tensor:
        return torch.randn((n, *shape), generator=generator, device=device)

    mixing = torch.eye(3, device=device) + _MIXING_DEVIATION * strength * normal(3, 3)
    density = torch.einsum("nij,njhw->nihw", mixing, density).clamp_min(0.02)
    density = density.pow(torch.exp(_EXPONENT_DEVIATION * strength * normal(3, 1))[..., None])
    # Some pictures lose most of their colour, so that shape and texture have to carry the type.
    grey = density.mean(dim=1, keepdim=True)
    density = grey + (density - grey) * _uniform(generator, n, 0.2, 1.4)[:, None, None, None]
    return density * torch.exp(_GAIN_DEVIATION * strength * normal(3, 1))[..., None]


def light(rgb: Tensor, generator: torch.Generator) -> Tensor:
    """Change tint, exposure, gamma and contrast, and add tinted corners and the round edge of a field."""
    n, _, height, width = rgb.shape
    tint = torch.exp(0.08 * torch.randn((n, 3), generator=generator, device=generator.device))
    strong = _happens(generator, n, 0.2)[:, None]
    filtered = 1 - strong * torch.rand((n, 3), generator=generator, device=generator.device) * 0.6
    exposure = _uniform(generator, n, 0.6, 1.15)[:, None]
    rgb = rgb * (tint * filtered * exposure)[..., None, None]
    gamma = torch.exp(_uniform(generator, n, -0.35, 0.35))[:, None, None, None]
    rgb = rgb.clamp(1e-3, 1).pow(gamma)
    contrast = _uniform(generator, n, 0.7, 1.25)[:, None, None, None]
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
    depth = _uniform(generator, n, 0.0, 0.35) * _happens(generator, n, 0.4)
    colour = 1 + 0.5 * torch.randn((n, 3), generator=generator, device=generator.device)
    shade = 1 - (depth[:, None] * colour)[..., None, None] * (x * x + y * y).clamp_max(2)[:, None]
    # The dark round edge of a microscope's field, as photographs through the eyepiece show it; nearly straight here.
    angle = _uniform(generator, n, 0, 2 * math.pi)[:, None, None]
    beyond = x * torch.cos(angle) + y * torch.sin(angle) - _uniform(generator, n, 0.9, 1.4)[:, None, None]
    edge = _happens(generator, n, 0.08)[:, None, None] * torch.sigmoid(beyond / 0.03)
    return (rgb * shade * (1 - edge)[:, None]).clamp(0, 1)


def optics(rgb: Tensor, generator: torch.Generator) -> Tensor:
    """Lower the resolution of some images, and defocus or over-sharpen some."""
    n = len(rgb)
    parts = rgb.chunk(len(_DOWNSAMPLES))
    coarse = torch.cat([_shrunk(part, shrink) for part, shrink in zip(parts, _DOWNSAMPLES, strict=False)])
    rgb = torch.where(_happens(generator, n, 0.15)[:, None, None, None] > 0, coarse, rgb)
    blurred = _blur(rgb, _uniform(generator, n, 0.4, _MAX_BLUR_SIGMA_PX))
    choice = torch.rand(n, generator=generator, device=generator.device)
    sharpening = _uniform(generator, n, 0.3, 2.5) * (choice < 0.3).float()
    amount = torch.where(choice > 0.7, -torch.ones_like(choice), sharpening)[:, None, None, None]
    return (rgb + amount * (rgb - blurred)).clamp(0, 1)


def grain(rgb: Tensor, generator: torch.Generator) -> Tensor:
    """Add noise of single pixels, and of some pixels' size, as cameras leave it that smooth and sharpen."""
    n, channels, height, width = rgb.shape

    def drawn(shrink: int, most: float, share: float) -> Tensor:
        strength = (_uniform(generator, n, 0.0, most) * _happens(generator, n, share))[:, None, None, None]
        size = (n, channels, -(-height // shrink), -(-width // shrink))
        return strength * torch.randn(size, generator=generator, device=generator.device)

    coarse = F.interpolate(drawn(3, 0.05, 0.3), size=(height, width), mode="bilinear", align_corners=False)
    return (rgb + drawn(1, 0.035, 0.4) + coarse).clamp(0, 1)


def _shrunk(rgb: Tensor, shrink: float) -> Tensor:
    side = max(8, round(rgb.shape[-1] / shrink))
    small = F.interpolate(rgb, size=(side, side), mode="area")
    return F.interpolate(small, size=rgb.shape[-2:], mode="bilinear", align_corners=False)


def _blur(rgb: Tensor, sigma: Tensor) -> Tensor:
    """Blur each image by a Gaussian of its own sigma [N], of _MAX_BLUR_SIGMA_PX pixels at most."""
    n, channels, height, width = rgb.shape
    reach = math.ceil(2.5 * _MAX_BLUR_SIGMA_PX)
    positions = torch.arange(-reach, reach + 1, dtype=torch.float32, device=rgb.device)
    kernel = torch.exp(-0.5 * (positions / sigma[:, None]) ** 2)
    kernel = (kernel / kernel.sum(dim=1, keepdim=True)).repeat_interleave(channels, dim=0)[:, None]
    # As one image of all their channels: each has a kernel of its own then.
    flat = F.pad(rgb.reshape(1, n * channels, height, width), (reach, reach, reach, reach), mode="replicate")
    flat = F.conv2d(flat, kernel[:, :, None, :], groups=n * channels)
    flat = F.conv2d(flat, kernel[:, :, :, None], groups=n * channels)
    return flat.reshape(n, channels, height, width)


def _uniform(generator: torch.Generator, n: int, low: float, high: float) -> Tensor:
    return low + (high - low) * torch.rand(n, generator=generator, device=generator.device)


def _happens(generator: torch.Generator, n: int, probability: float) -> Tensor:
    return (torch.rand(n, generator=generator, device=generator.device) < probability).float()
