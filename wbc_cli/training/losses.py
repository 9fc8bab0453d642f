"""The losses of the network proper."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from wbc_cli.classes import CLASS_NAMES
from wbc_cli.model.heads import MAP_STRIDE, OFFSET_UNIT_PX
from wbc_cli.model.network import SGCLDFF, Answer
from wbc_cli.training.data import IGNORE, NOT_BLAST_TYPE

BLAST = CLASS_NAMES.index("blast")
_SEGMENT_WEIGHTS = (1.0, 2.0, 1.5)  # cytoplasm is the rarest and hardest of background, cytoplasm, nucleus


@dataclass(frozen=True, eq=False)
class Batch:
    """Windows and what is known of them.

    Attributes:
        rgb: float [N, 3, S, S], 0 to 1.
        code: int64 [N, S / 2, S / 2], see data.Code.
        labels: int64 [N].
        pool: float [N, S / 2, S / 2], where the type head looks.
        masked: bool [N], `pool` is the cell's own mask.
    """

    rgb: Tensor
    code: Tensor
    labels: Tensor
    pool: Tensor
    masked: Tensor


def losses(network: SGCLDFF, answer: Answer, batch: Batch, class_weights: Tensor) -> dict[str, Tensor]:
    """Every term by its name; their sum is what training minimises."""
    side = answer.features.shape[-1]
    pool = F.adaptive_avg_pool2d(batch.pool[:, None], side)[:, 0]
    terms = {
        "segment": segment_loss(answer.maps.segments, batch.code, network.config.class_weights),
        "offset": offset_loss(answer.maps.offsets, batch.code),
        "type": type_loss(network.types.logits(network.types.pool(answer.features, pool)), batch.labels, class_weights),
    }
    if network.config.alignment:
        terms["alignment"] = pool.new_zeros(())  # in a batch without masks; the table of losses keeps its columns
        chosen = batch.masked & (batch.labels >= 0)
        if bool(chosen.any()):
            cam = network.types.cam(answer.features[chosen], batch.labels[chosen])
            terms["alignment"] = 0.3 * alignment_loss(cam, pool[chosen])
    return terms


def segment_loss(logits: Tensor, code: Tensor, weighted: bool) -> Tensor:
    """Cross-entropy (class-weighted) and Dice over the pixels that are known."""
    known = code != IGNORE
    if not bool(known.any()):
        return logits.sum() * 0
    target = torch.where(known, code % 4, 0)
    weights = logits.new_tensor(_SEGMENT_WEIGHTS if weighted else (1.0, 1.0, 1.0))
    entropy = F.cross_entropy(logits, torch.where(known, target, -100), weight=weights, ignore_index=-100)
    probability = logits.softmax(dim=1) * known[:, None]
    truth = F.one_hot(target, 3).permute(0, 3, 1, 2) * known[:, None]
    overlap = 2 * (probability * truth).sum(dim=(2, 3)) + 10
    total = probability.sum(dim=(2, 3)) + truth.sum(dim=(2, 3)) + 10
    return entropy + (1 - overlap / total)[:, 1:].mean()


def offset_loss(offsets: Tensor, code: Tensor) -> Tensor:
    """Smooth L1 between where cell pixels point and the middle of their cell, in units of OFFSET_UNIT_PX."""
    target, inside = offset_target(code)
    error = F.smooth_l1_loss(offsets / OFFSET_UNIT_PX, target / OFFSET_UNIT_PX, reduction="none", beta=0.1).sum(dim=1)
    return (error * inside).sum() / inside.sum().clamp_min(1)


def offset_target(code: Tensor) -> tuple[Tensor, Tensor]:
    """Offsets to the middle of each pixel's cell in window pixels [N, 2, h, w], and where they are known [N, h, w]."""
    n, height, width = code.shape
    instance = torch.where(code == IGNORE, 0, code // 4)
    y, x = torch.meshgrid(
        torch.arange(height, device=code.device), torch.arange(width, device=code.device), indexing="ij"
    )
    places = torch.stack([x, y]).float().expand(n, 2, height, width)
    slots = (instance + 64 * torch.arange(n, device=code.device)[:, None, None]).flatten()
    sums = torch.zeros(64 * n, 3, device=code.device)
    values = torch.cat([places, torch.ones_like(places[:, :1])], dim=1).permute(0, 2, 3, 1).reshape(-1, 3)
    sums.index_add_(0, slots, values)
    middles = (sums[:, :2] / sums[:, 2:].clamp_min(1))[slots].reshape(n, height, width, 2).permute(0, 3, 1, 2)
    return (middles - places) * MAP_STRIDE, (instance > 0).float()


def type_loss(logits: Tensor, labels: Tensor, class_weights: Tensor) -> Tensor:
    """Class-weighted cross-entropy with smoothing; `not_blast` cells only push the blast's probability down."""
    known = labels >= 0
    loss = logits.sum() * 0
    if bool(known.any()):
        loss = (
            loss
            + F.cross_entropy(logits[known], labels[known], weight=class_weights, label_smoothing=0.05)
            * known.float().mean()
        )
    other = labels == NOT_BLAST_TYPE
    if bool(other.any()):
        probability = logits[other].softmax(dim=1)[:, BLAST]
        loss = loss - torch.log1p(-probability.clamp_max(0.999)).mean() * other.float().mean()
    return loss


def alignment_loss(cam: Tensor, pool: Tensor) -> Tensor:
    """Share of the Grad-CAM energy that lies outside the cell (grown by one place): the saliency-alignment loss.

    Args:
        cam: float [N, h, w], not negative.
        pool: float [N, h, w], the cell's mask.
    """
    cell = F.max_pool2d((pool > 0.25).float()[:, None], 3, 1, 1)[:, 0]
    inside = (cam * cell).sum(dim=(1, 2))
    return (1 - (inside + 1e-4) / (cam.sum(dim=(1, 2)) + 1e-4)).mean()
