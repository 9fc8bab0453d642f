"""Learns the shape head, with the rest of the network as it is, from what that sees of augmented windows."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from wbc_cli.inference.engine import choose_precision
from wbc_cli.inference.instances import find_cells
from wbc_cli.model.network import SGCLDFF
from wbc_cli.model.shape_head import ShapeHead, cell_maps, without_density
from wbc_cli.training.augment import augment
from wbc_cli.training.batches import collate, prefetch, to_device
from wbc_cli.training.data import TrainingImage
from wbc_cli.training.losses import Batch
from wbc_cli.training.sampling import WindowSampler
from wbc_cli.training.settings import TrainSettings

log = logging.getLogger(__name__)

_WINDOWS_PER_STEP = 6  # windows that the network sees beforehand for every step of the head
_WINDOW_BATCH, _BATCH = 32, 64
_LEARNING_RATE, _WEIGHT_DECAY, _LABEL_SMOOTHING = 2e-3, 0.05, 0.1
_WARM_UP_STEPS = 100
_OUTLINES_SHARE = 0.5  # share of the cells that are seen without their density
_LOG_ZOOM_DEVIATION, _SHIFT_DEVIATION = 0.15, 0.08  # the latter in halves of the square's side
_DENSITY_GAIN_DEVIATION, _DENSITY_EXPONENT_DEVIATION = 0.1, 0.2  # of the logarithms


def fit_shape(network: SGCLDFF, images: Sequence[TrainingImage], settings: TrainSettings, device: torch.device) -> None:
    """Learn the shape head in place; nothing changes where no cell of a known type is found.

    Args:
        network: trained but for this head; put into evaluation mode.
        images: of the training split.
        settings: how many steps, and the seed.
        device: where the network is.
    """
    network.eval()
    seen = list(_seen(network, images, settings, device))
    if not seen:
        return
    maps, labels = torch.cat([maps for maps, _ in seen]), torch.cat([labels for _, labels in seen])
    log.info("shape: learning from %d cells", len(labels))
    _learn(network.shape, maps, labels, settings)
    network.shape.mixing.copy_(torch.eye(len(network.config.classes)))


def _seen(
    network: SGCLDFF, images: Sequence[TrainingImage], settings: TrainSettings, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the maps of typed cells, uint8 [N, CHANNELS, S, S], and their labels, int64 [N], a batch at a time."""
    sampler = WindowSampler(images, network.config)
    generator = torch.Generator(device)

    def make(batch: int) -> Batch:
        rng = np.random.default_rng((settings.seed, 7, batch))
        return collate([sampler.draw(rng) for _ in range(_WINDOW_BATCH)])

    count = -(-settings.shape_steps * _WINDOWS_PER_STEP // _WINDOW_BATCH)
    dtype = choose_precision("auto", device)
    for number, made in enumerate(prefetch(make, 0, count)):
        generator.manual_seed(settings.seed * 1_000_003 + number)
        batch = to_device(made, device)
        rgb = augment(batch.rgb, generator)
        with torch.no_grad(), torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            maps = network(rgb).maps
        _, found = find_cells(maps, network.config.um_per_px)
        pools = batch.pool.cpu().numpy() > 0
        cells = {i: _cell(found[i], pools[i]) for i in torch.nonzero(batch.labels >= 0).flatten().tolist()}
        cells = {i: cell for i, cell in cells.items() if cell.any()}
        if cells:
            owners = torch.tensor(list(cells), device=device)
            masks = torch.from_numpy(np.stack(list(cells.values()))).float().to(device)
            yield (255 * cell_maps(rgb, maps.segments, masks, owners)).round().byte(), batch.labels[owners]


def _cell(found: NDArray[np.uint8], pool: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Choose the cell that covers the most of where the labelled one lies, bool [h, w]; none where none does."""
    covered = np.bincount(found[pool], minlength=2)
    covered[0] = 0
    cell: NDArray[np.bool_] = (found == covered.argmax()) & covered.any()
    return cell


def _learn(head: ShapeHead, maps: Tensor, labels: Tensor, settings: TrainSettings) -> None:
    torch.manual_seed(settings.seed)
    optimiser = torch.optim.AdamW(head.parameters(), _LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
    head.train()
    for step in range(settings.shape_steps):
        chosen = torch.randint(len(labels), (_BATCH,)).to(maps.device)
        inputs = _changed(maps[chosen].float() / 255)
        outlines = (torch.rand(_BATCH, device=maps.device) < _OUTLINES_SHARE)[:, None, None, None]
        logits = head(torch.where(outlines, without_density(inputs), inputs))
        loss = F.cross_entropy(logits, labels[chosen], label_smoothing=_LABEL_SMOOTHING)
        for group in optimiser.param_groups:
            group["lr"] = _LEARNING_RATE * min(1, (step + 1) / _WARM_UP_STEPS) * (1 - step / settings.shape_steps)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    head.eval()


def _changed(maps: Tensor) -> Tensor:
    """Turn, mirror, zoom and shift cells' maps, and change the contrast of their density."""
    n, device = len(maps), maps.device
    angle = 2 * np.pi * torch.rand(n, device=device)
    zoom = torch.exp(_LOG_ZOOM_DEVIATION * torch.randn(n, device=device))
    mirror = torch.where(torch.rand(n, device=device) < 0.5, -1.0, 1.0)
    shift = _SHIFT_DEVIATION * torch.randn(2, n, device=device)
    cosine, sine = zoom * angle.cos(), zoom * angle.sin()
    rows = torch.stack([mirror * cosine, -sine, shift[0], mirror * sine, cosine, shift[1]], dim=1)
    gain = torch.exp(_DENSITY_GAIN_DEVIATION * torch.randn(n, 1, 1, 1, device=device))
    exponent = torch.exp(_DENSITY_EXPONENT_DEVIATION * torch.randn(n, 1, 1, 1, device=device))
    density = (maps[:, -1:] * gain).clamp(0, 1).pow(exponent)
    grid = F.affine_grid(rows.reshape(n, 2, 3), list(maps.shape), align_corners=False)
    return F.grid_sample(torch.cat([maps[:, :-1], density], dim=1), grid, align_corners=False)
