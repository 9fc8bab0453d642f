"""Training the network proper: windows in, averaged weights out, resumable at every checkpoint."""

from __future__ import annotations

import csv
import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from wbc_cli.classes import CLASS_NAMES
from wbc_cli.inference.engine import choose_precision
from wbc_cli.model.heads import MAP_STRIDE
from wbc_cli.model.network import SGCLDFF
from wbc_cli.training.augment import augment
from wbc_cli.training.batches import collate, prefetch, to_device
from wbc_cli.training.centred import centred_views, validate
from wbc_cli.training.data import IGNORE, TrainingImage
from wbc_cli.training.losses import Batch, losses
from wbc_cli.training.sampling import WindowSampler
from wbc_cli.training.settings import TrainSettings

log = logging.getLogger(__name__)

LOSS_FILE, VALIDATION_FILE = "log.csv", "validation.csv"
_WARM_UP_STEPS = 150
_CHECKPOINT_SECONDS = 240
_LOG_EVERY_STEPS = 50
_VALIDATIONS = 4
_OWN_STAIN_SHARE = 0.25  # share of the windows whose cell is stained by itself, see augment.stain


@dataclass
class Training:
    """The state of a run, and where it is kept."""

    network: SGCLDFF
    settings: TrainSettings
    folder: Path
    device: torch.device
    step: int = 0
    averaged: AveragedModel = field(init=False)
    optimiser: torch.optim.AdamW = field(init=False)

    def __post_init__(self) -> None:
        """Set up the average and the optimiser."""
        decay = get_ema_multi_avg_fn(self.settings.ema)  # type: ignore[no-untyped-call]
        self.averaged = AveragedModel(self.network, multi_avg_fn=decay)
        backbone = list(self.network.backbone.parameters())
        known = {id(p) for p in backbone}
        others = [p for p in self.network.parameters() if p.requires_grad and id(p) not in known]
        rate = self.settings.learning_rate
        groups = [{"params": backbone, "lr": rate / 2}, {"params": others, "lr": rate}]
        fused = self.device.type == "cuda"
        self.optimiser = torch.optim.AdamW(groups, weight_decay=self.settings.weight_decay, fused=fused)

    @property
    def mean_network(self) -> SGCLDFF:
        """The network with averaged weights."""
        return cast("SGCLDFF", self.averaged.module)

    @property
    def half(self) -> bool:
        """Whether the device computes bf16 natively; emulated it is slower than single precision."""
        return choose_precision("auto", self.device) == torch.bfloat16

    @property
    def checkpoint(self) -> Path:
        """The file that a killed run goes on from."""
        return self.folder / "checkpoint.pt"

    def save(self) -> None:
        """Write the checkpoint by a rename, so that a kill leaves the old or the new one."""
        aside = self.checkpoint.with_suffix(".tmp")
        state = {"network": self.network.state_dict(), "averaged": self.averaged.state_dict()}
        torch.save({**state, "optimiser": self.optimiser.state_dict(), "step": self.step}, aside)
        aside.replace(self.checkpoint)

    def resume(self) -> bool:
        """Go on from the checkpoint, if there is one."""
        if not self.checkpoint.exists():
            return False
        state = torch.load(self.checkpoint, map_location=self.device, weights_only=True)
        self.network.load_state_dict(state["network"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = state["step"]
        for name in (LOSS_FILE, VALIDATION_FILE):
            forget(self.folder / name, self.step)
        log.info("resuming at step %d", self.step)
        return True


def train_network(training: Training, images: Sequence[TrainingImage], held_out: Sequence[TrainingImage]) -> SGCLDFF:
    """Train to the end and return the averaged network.

    Args:
        training: the run; its prior and scale estimator are trained already.
        images: the training split.
        held_out: images of the validation split; validated on, never trained on.
    """
    settings, network, device = training.settings, training.network, training.device
    sampler = WindowSampler(images, network.config)
    weights = (
        class_weights(images).to(device)
        if network.config.class_weights
        else torch.ones(len(CLASS_NAMES), device=device)
    )

    def make(step: int) -> Batch:
        rng = np.random.default_rng((settings.seed, 4, step))
        return collate([sampler.draw(rng) for _ in range(settings.batch)])

    generator = torch.Generator(device)
    sums: dict[str, Tensor] = {}
    counted = 0
    saved = began = time.monotonic()
    for batch in prefetch(make, training.step, settings.steps):
        for name, value in _learn(training, batch, weights, generator).items():
            sums[name] = sums.get(name, 0.0) + value  # on the device, which is not waited for
        counted += 1
        ended = training.step == settings.steps
        if training.step % _LOG_EVERY_STEPS == 0 or ended:
            means = {name: float(value) / counted for name, value in sums.items()}
            speed = counted * settings.batch / (time.monotonic() - began)
            log.info("step %d of %d, %.0f windows/s, %s", training.step, settings.steps, speed, _line(means))
            record(training.folder / LOSS_FILE, {"step": training.step, **means})
            sums, counted, began = {}, 0, time.monotonic()
        if training.step % max(1, settings.steps // _VALIDATIONS) == 0 or ended:
            _validate(training, held_out)
            began = time.monotonic()
        if time.monotonic() - saved > _CHECKPOINT_SECONDS or ended:
            training.save()
            saved = time.monotonic()
    return training.mean_network.eval()


def _learn(training: Training, made: Batch, weights: torch.Tensor, generator: torch.Generator) -> dict[str, Tensor]:
    """Make one step of the optimiser and return the losses by name."""
    settings, network, device = training.settings, training.network, training.device
    network.train()
    network.prior.eval()
    generator.manual_seed(settings.seed * 1_000_003 + training.step)
    torch.manual_seed(settings.seed * 1_000_003 + training.step)  # of the dropout; a resumed run draws the same
    batch = to_device(made, device)
    cells = ((batch.code // 4 > 0) & (batch.code != IGNORE) & batch.masked[:, None, None]).float()
    soft = F.avg_pool2d(F.interpolate(cells[:, None], scale_factor=MAP_STRIDE), 5, 1, 2, count_include_pad=False)
    batch = batch._replace(rgb=augment(batch.rgb, generator, soft, _OWN_STAIN_SHARE))
    with torch.autocast(device.type, torch.bfloat16, enabled=training.half):
        terms = losses(network, network(batch.rgb), batch, weights)
    for group, scale in zip(training.optimiser.param_groups, (0.5, 1.0), strict=True):
        group["lr"] = scale * settings.learning_rate * rate(training.step, settings.steps)
    training.optimiser.zero_grad()
    torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
    # Without the prior and the scale estimator: only an unbroken run holds gradients of theirs, and stale ones.
    torch.nn.utils.clip_grad_norm_([p for p in network.parameters() if p.requires_grad], 3.0)
    training.optimiser.step()
    training.averaged.update_parameters(network)
    training.step += 1
    return {name: term.detach() for name, term in terms.items()}


def _validate(training: Training, held_out: Sequence[TrainingImage]) -> None:
    figures = validate(list(centred_views(training.mean_network, held_out, training.device)))
    log.info(
        "step %d, validation: accuracy %.4f, cell IoU %.4f, nucleus IoU %.4f",
        training.step,
        figures.accuracy,
        figures.cell_iou,
        figures.nucleus_iou,
    )
    row = {
        "step": training.step,
        "accuracy": figures.accuracy,
        "cell_iou": figures.cell_iou,
        "nucleus_iou": figures.nucleus_iou,
    }
    record(training.folder / VALIDATION_FILE, row)


def class_weights(images: Sequence[TrainingImage]) -> torch.Tensor:
    """Compute the type loss's weights: fourth root of the inverse counts (the sampler takes a square root), mean 1."""
    labels = [t.label for image in images for t in image.targets if t.label >= 0]
    counts = np.bincount(labels, minlength=len(CLASS_NAMES)).clip(20)
    weights = counts**-0.25
    return torch.tensor(weights / weights.mean(), dtype=torch.float32)


def rate(step: int, steps: int) -> float:
    """Return the scheduled learning rate, a short rise and then half a cosine, as a share of the peak."""
    rise = min(_WARM_UP_STEPS, steps // 10)
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise))) + 0.002


def record(file: Path, row: dict[str, float]) -> None:
    """Append a row to a CSV, with a header when it is new."""
    new = not file.exists()
    with file.open("a", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        if new:
            writer.writerow(row)
        writer.writerow(f"{value:.6g}" for value in row.values())


def forget(file: Path, step: int) -> None:
    """Drop the rows after a step, which a resumed run writes again."""
    if file.exists():
        header, *rows = file.read_text(encoding="utf-8").splitlines()
        kept = [row for row in rows if int(row.split(",")[0]) <= step]
        file.write_text("\n".join([header, *kept, ""]), encoding="utf-8")


def _line(means: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in means.items())
