"""Training the scale estimator: patches of known scale, shrunk at random."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import cv2
import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray

from wbc_cli.manifest import Sample
from wbc_cli.model.scale_network import PATCH_PX, ScaleNet, scale_loss, standardise
from wbc_cli.training.augment import augment
from wbc_cli.training.batches import prefetch, to_tensor
from wbc_cli.training.data import load_rgb

log = logging.getLogger(__name__)

_BATCH = 48
_MAX_IMAGES_PER_SET = 900
_MAX_UM_PER_PX = 1.1

_Pyramid = list[tuple[NDArray[np.uint8], float]]


def train_scale(net: ScaleNet, samples: Sequence[Sample], steps: int, seed: int, device: torch.device) -> None:
    """Train the estimator in place on the samples whose scale is known."""
    sets: dict[str, list[_Pyramid]] = {}
    rng = np.random.default_rng((seed, 2))
    for name in sorted({s.dataset for s in samples if s.um_per_px}):
        known = [s for s in samples if s.dataset == name and s.um_per_px]
        chosen = rng.permutation(len(known))[:_MAX_IMAGES_PER_SET]
        sets[name] = [_pyramid(known[i]) for i in chosen]
    names = sorted(sets)

    def make(step: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        rng = np.random.default_rng((seed, 3, step))
        drawn = [sets[names[rng.integers(len(names))]] for _ in range(_BATCH)]
        patches = [_patch(pyramids[rng.integers(len(pyramids))], rng) for pyramids in drawn]
        return np.stack([p[0] for p in patches]), np.array([p[1] for p in patches], np.float32)

    optimiser = torch.optim.AdamW(net.parameters(), 1.5e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1.5e-3, steps)
    generator = torch.Generator(device).manual_seed(seed)
    net.requires_grad_(True).train()
    errors: list[float] = []
    for step, (rgb, target) in enumerate(prefetch(make, 0, steps)):
        pixels = augment(to_tensor(rgb, device), generator)
        truth = torch.from_numpy(target).to(device)
        with torch.autocast(device.type, torch.bfloat16):
            mean, log_variance = net(standardise(pixels))
        loss = scale_loss(mean.float(), log_variance.float(), truth)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        errors.append(float((mean.detach().float() - truth).abs().median()))
        if step % 100 == 0:
            log.info("scale: step %d of %d, median error %.3f", step, steps, float(np.mean(errors[-100:])))
    net.eval().requires_grad_(False)


def _pyramid(sample: Sample) -> _Pyramid:
    rgb, scale = load_rgb(sample), sample.um_per_px or 0.0
    levels = [(rgb, scale)]
    while scale < _MAX_UM_PER_PX / 2 and min(rgb.shape[:2]) >= 32:
        rgb = cv2.resize(rgb, (rgb.shape[1] // 2, rgb.shape[0] // 2), interpolation=cv2.INTER_AREA).astype(np.uint8)
        scale *= 2
        levels.append((rgb, scale))
    return levels


def _patch(pyramid: _Pyramid, rng: Generator) -> tuple[NDArray[np.uint8], float]:
    """Draw a patch and the log of its um per pixel; never enlarged, since its blur would give the scale away."""
    finest = pyramid[0][1]
    wanted = float(np.exp(rng.uniform(np.log(finest), np.log(_MAX_UM_PER_PX))))
    rgb, scale = [level for level in pyramid if level[1] <= wanted][-1]
    zoom = scale / wanted
    turn = rng.uniform(0, 2 * np.pi)
    linear = (
        zoom
        * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        @ np.diag([rng.choice((-1.0, 1.0)), 1.0])
    )
    height, width = rgb.shape[:2]
    source = np.array([width, height]) * rng.uniform(0.3, 0.7, 2)
    matrix = np.column_stack([linear, np.full(2, (PATCH_PX - 1) / 2) - linear @ source])
    # Mirrored beyond the border, so that a crop of one cell becomes a field of them.
    patch = cv2.warpAffine(rgb, matrix, (PATCH_PX, PATCH_PX), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return patch.astype(np.uint8), float(np.log(wanted))
