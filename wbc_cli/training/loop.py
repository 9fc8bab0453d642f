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
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from wbc_cli.classes import CLASS_NAMES
from wbc_cli.model.network import SGCLDFF
from wbc_cli.training.augment import augment
from wbc_cli.training.batches import ahead, collate
from wbc_cli.training.centred import centred_views, pseudo_code, validate
from wbc_cli.training.data import TrainingImage
from wbc_cli.training.losses import BLAST, losses
from wbc_cli.training.sampling import Window, WindowSampler
from wbc_cli.training.settings import TrainSettings

log = logging.getLogger(__name__)

LOSSES, FIGURES = "log.csv", "validation.csv"
OTHER = CLASS_NAMES.index("platelet")
_WARM_UP = 150
_CHECKPOINT_SECONDS = 240
_LOG_EVERY = 50


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
        self.optimiser = torch.optim.AdamW(groups, weight_decay=self.settings.weight_decay)

    @property
    def mean_network(self) -> SGCLDFF:
        """The network with averaged weights."""
        return cast("SGCLDFF", self.averaged.module)

    @property
    def checkpoint(self) -> Path:
        """The file a killed run goes on from."""
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
        for name in (LOSSES, FIGURES):
            forget(self.folder / name, self.step)
        log.info("resuming at step %d", self.step)
        return True


def train_network(
    training: Training, images: Sequence[TrainingImage], held_out: Sequence[TrainingImage], trained: bool
) -> SGCLDFF:
    """Train to the end and return the averaged network.

    Args:
        training: the run; its prior and scale estimator are trained already.
        images: the training split.
        held_out: the validation split; watched, never trained on.
        trained: the network segments cells already, and draws the missing masks before the first step.
    """
    settings = training.settings
    drawn_at = 0 if trained else round(settings.steps * settings.pseudo_at)
    if training.step < drawn_at:
        _run(training, images, held_out, drawn_at)
    if training.step < settings.steps:
        images = _with_pseudo_masks(training, images)
        if trained:
            # What edges and colours look like is learned by then; the gradient down there is a fifth of a step's time.
            training.network.backbone.freeze_fine_stages()
        _run(training, images, held_out, settings.steps)
    return training.mean_network.eval()


def _run(training: Training, images: Sequence[TrainingImage], held_out: Sequence[TrainingImage], stop: int) -> None:
    settings, network, device = training.settings, training.network, training.device
    sampler = WindowSampler(images, network.config, OTHER)
    weights = (
        class_weights(images).to(device)
        if network.config.class_weights
        else torch.ones(len(CLASS_NAMES), device=device)
    )

    def make(step: int) -> list[Window]:
        rng = np.random.default_rng((settings.seed, 4, step))
        return [sampler.draw(rng) for _ in range(settings.batch)]

    generator = torch.Generator(device)
    sums: dict[str, float] = {}
    counted = 0
    saved = began = time.monotonic()
    for windows in ahead(make, training.step, stop):
        for name, value in _learn(training, windows, weights, generator).items():
            sums[name] = sums.get(name, 0.0) + value
        counted += 1
        if training.step % _LOG_EVERY == 0 or training.step == stop:
            means = {name: value / counted for name, value in sums.items()}
            speed = counted * settings.batch / (time.monotonic() - began)
            log.info("step %d of %d, %.0f windows/s, %s", training.step, settings.steps, speed, _line(means))
            record(training.folder / LOSSES, {"step": training.step, **means})
            sums, counted, began = {}, 0, time.monotonic()
        if training.step % max(1, settings.steps // 8) == 0 or training.step == settings.steps:
            _watch(training, held_out)
            began = time.monotonic()
        if time.monotonic() - saved > _CHECKPOINT_SECONDS or training.step == stop:
            training.save()
            saved = time.monotonic()


def _learn(
    training: Training, windows: list[Window], weights: torch.Tensor, generator: torch.Generator
) -> dict[str, float]:
    """One step of the optimiser; returns the losses by name."""
    settings, network, device = training.settings, training.network, training.device
    network.train()
    network.prior.eval()
    generator.manual_seed(settings.seed * 1_000_003 + training.step)
    torch.manual_seed(settings.seed * 1_000_003 + training.step)  # of the dropout; a resumed run draws the same
    batch = collate(windows, device)
    batch.rgb[:] = augment(batch.rgb, generator)
    with torch.autocast(device.type, torch.bfloat16):
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
    return {name: float(term.detach()) for name, term in terms.items()}


def _watch(training: Training, held_out: Sequence[TrainingImage]) -> None:
    figures = validate(list(centred_views(training.mean_network, held_out, training.device)), BLAST)
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
    record(training.folder / FIGURES, row)


def _with_pseudo_masks(training: Training, images: Sequence[TrainingImage]) -> list[TrainingImage]:
    """Masks by the averaged network at the change of stage; kept on disk, so that a resumed run sees the same."""
    file = training.folder / "pseudo_masks.npz"
    centred = [i for i in images if i.targets and not i.sample.boxes and i.sample.labels != ("platelet",)]
    if not file.exists():
        log.info("drawing masks for %d images", len(centred))
        views = centred_views(training.mean_network, centred, training.device)
        codes = {str(i): pseudo_code(view, training.network.config.um_per_px) for i, view in enumerate(views)}
        aside = file.with_name("pseudo_masks.tmp.npz")
        np.savez_compressed(aside, allow_pickle=False, **codes)
        aside.replace(file)
    with np.load(file) as codes:
        drawn = {id(image): image.with_code(codes[str(i)]) for i, image in enumerate(centred)}
    return [drawn.get(id(image), image) for image in images]


def class_weights(images: Sequence[TrainingImage]) -> torch.Tensor:
    """Weights of the type loss: fourth root of the inverse counts (the sampler takes a square root), mean 1."""
    labels = [t.label for image in images for t in image.targets if t.label >= 0]
    counts = np.bincount(labels, minlength=len(CLASS_NAMES)).clip(20)
    weights = counts**-0.25
    return torch.tensor(weights / weights.mean(), dtype=torch.float32)


def rate(step: int, steps: int) -> float:
    """The schedule: a short rise, then half a cosine, as a share of the peak."""
    if step < _WARM_UP:
        return (step + 1) / _WARM_UP
    return 0.5 * (1 + math.cos(math.pi * (step - _WARM_UP) / max(1, steps - _WARM_UP))) + 0.002


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
