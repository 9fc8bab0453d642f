"""Training the saliency prior: whole images at the coarse scale, what is a white cell and what is not."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from wbc_cli.classes import OTHER
from wbc_cli.model.saliency import (
    COARSE_UM_PER_PX,
    STRIDE,
    SaliencyPrior,
    background_colour,
    field_statistics,
    prior_input,
    stain_density,
)
from wbc_cli.training.augment import light, stain
from wbc_cli.training.batches import prefetch, to_tensor
from wbc_cli.training.data import IGNORE, TrainingImage
from wbc_cli.training.sampling import shares, warp_pair
from wbc_cli.training.surroundings import blend

log = logging.getLogger(__name__)

_SIDES_PX = (12, 16, 20, 24, 32, 40)  # from a crop of one cell to a field
_BATCH = 64
_SHARE_POWER = 0.2  # of a set's size: laboratories count for more than cells, and small sets have the masks
_OWN_STAIN_SHARE = 0.6  # share of the pictures whose white cells are stained by themselves, see augment.stain
_PLAIN_SHARE = 0.2  # share of the masked views in which nothing but white cells is stained, as in pale or thin smears
_EMPTY_FIELD_SHARE = 0.2  # share of the views that show fields without white cells: on a slide there is little else
_CELL_RADIUS_UM, _UNKNOWN_RADIUS_UM = 3.0, 10.0  # around a centred cell without a mask


@dataclass(frozen=True, eq=False)
class _CoarseImage:
    rgb: NDArray[np.uint8]
    target: NDArray[np.uint8]  # 0 background, 1 white cell, IGNORE
    masked: bool  # the target shows whole cells and not their middles
    padding: tuple[int, ...]


def train_prior(
    prior: SaliencyPrior, images: Sequence[TrainingImage], steps: int, seed: int, device: torch.device
) -> None:
    """Train the prior in place and freeze its batch statistics."""
    sets: dict[str, list[_CoarseImage]] = {}
    for image in images:
        sets.setdefault(image.sample.dataset, []).append(_coarse(image))
    empty = [_coarse(image) for image in images if not image.targets]
    share = shares(sets, _SHARE_POWER)
    names = list(share)

    def make(step: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.bool_]]:
        rng = np.random.default_rng((seed, 1, step))
        side = int(rng.choice(_SIDES_PX))
        drawn = [sets[names[rng.choice(len(names), p=list(share.values()))]] for _ in range(_BATCH)]
        if empty:
            drawn = [empty if rng.random() < _EMPTY_FIELD_SHARE else images for images in drawn]
        chosen = [images[rng.integers(len(images))] for images in drawn]
        pairs = [_view(image, side, rng) for image in chosen]
        masked = np.array([image.masked for image in chosen])
        return np.stack([p[0] for p in pairs]), np.stack([p[1] for p in pairs]), masked

    optimiser = torch.optim.AdamW(prior.parameters(), 3e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, steps)
    generator = torch.Generator(device).manual_seed(seed)
    prior.requires_grad_(True).train()
    for step, (rgb, target, masked) in enumerate(prefetch(make, 0, steps)):
        truth = torch.from_numpy(target).to(device).long()
        whole = (truth == 1) & torch.from_numpy(masked).to(device)[:, None, None]
        cells = F.interpolate(whole.float()[:, None], scale_factor=STRIDE, mode="bilinear", align_corners=False)
        pixels = light(stain(to_tensor(rgb, device), generator, cells, _OWN_STAIN_SHARE), generator)
        density = stain_density(pixels, background_colour(pixels))
        loss = _loss(prior(prior_input(density, field_statistics(density))), truth)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        if step % 200 == 0:
            log.info("prior: step %d of %d, loss %.4f", step, steps, float(loss.detach()))
    prior.eval().requires_grad_(False)


def _loss(logits: Tensor, target: Tensor) -> Tensor:
    """Add binary cross-entropy and Dice on the pixels that are known; a missed cell costs more than a false one."""
    known = (target != IGNORE).float()
    truth = (target == 1).float()
    logits = logits[:, 0]
    entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none", pos_weight=logits.new_tensor(3.0))
    probability = logits.sigmoid() * known
    dice = 1 - (2 * (probability * truth).sum() + 1) / (probability.sum() + truth.sum() + 1)
    return (entropy * known).sum() / known.sum().clamp_min(1) + dice


def _coarse(image: TrainingImage) -> _CoarseImage:
    scale = image.um_per_px / COARSE_UM_PER_PX
    # Twice the coarse resolution, so that turning and zooming below blur no more than the area average in use.
    size = (max(4, round(image.rgb.shape[1] * scale * 2)), max(4, round(image.rgb.shape[0] * scale * 2)))
    rgb = cv2.resize(image.rgb, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
    kind = np.where(image.code == IGNORE, IGNORE, (image.code % 4 > 0).astype(np.uint8)).astype(np.uint8)
    if not image.masked and image.targets and image.sample.labels != (OTHER,):
        kind[:] = IGNORE
        ring = np.zeros(kind.shape, np.uint8)
        centres = [(round(target.x), round(target.y)) for target in image.targets]
        for centre in centres:
            cv2.circle(ring, centre, round(_UNKNOWN_RADIUS_UM / image.um_per_px), 1, -1)
        # Of boxed fields the edge stays unknown; around the cell of a crop nothing is.
        kind[ring == 0] = np.where(image.code == IGNORE, IGNORE, 0)[ring == 0] if image.sample.boxes else 0
        for centre in centres:
            cv2.circle(kind, centre, round(_CELL_RADIUS_UM / image.um_per_px), 1, -1)
    target = cv2.resize(kind, size, interpolation=cv2.INTER_NEAREST_EXACT).astype(np.uint8)
    return _CoarseImage(rgb, target, image.masked, tuple(int(c) for c in image.padding))


def _view(image: _CoarseImage, side: int, rng: Generator) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Turn and zoom an image into a view, uint8 [side, side, 3], with its target at the prior's stride."""
    turn = rng.uniform(0, 2 * np.pi)
    zoom = np.exp(np.clip(rng.normal(0, 0.15), -0.35, 0.35)) / 2
    linear = zoom * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    height, width = image.rgb.shape[:2]
    span = np.maximum(0, np.array([width, height]) * zoom - side) / 2 / zoom
    source = np.array([width - 1, height - 1]) / 2 + rng.uniform(-1, 1, 2) * (span + 4)
    matrix = np.column_stack([linear, np.full(2, (side - 1) / 2) - linear @ source])
    rgb, target = warp_pair(image.rgb, image.target, matrix, side, STRIDE, image.padding)
    if image.masked and rng.random() < _PLAIN_SHARE:
        plain = np.broadcast_to(np.array(image.padding, np.uint8), rgb.shape)
        rgb = blend(plain, rgb, cv2.dilate((target > 0).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0)
    return rgb, target
