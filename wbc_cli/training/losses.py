"""The losses of the network proper."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from wbc_cli.cells import NUCLEUS
from wbc_cli.classes import BLAST_INDEX
from wbc_cli.model.heads import MAP_STRIDE, OFFSET_UNIT_PX, SEGMENT_WEIGHTS
from wbc_cli.model.network import SGCLDFF, NetworkOutput
from wbc_cli.training.data import IGNORE, NOT_BLAST_TYPE, PART_UNKNOWN

_MIN_POOL_WEIGHT = 0.05  # weight of background in a cell without a mask: at first the network finds no cells
_LABEL_SMOOTHING = 0.05


class Batch(NamedTuple):
    """Windows and what is known of them.

    Attributes:
        rgb: float [N, 3, S, S], 0 to 1.
        code: int64 [N, S / 2, S / 2], see data.Code.
        labels: int64 [N].
        pool: float [N, S / 2, S / 2], the pixels that the type head pools over.
        masked: bool [N], `pool` is the cell's own mask.
    """

    rgb: Tensor
    code: Tensor
    labels: Tensor
    pool: Tensor
    masked: Tensor


def losses(network: SGCLDFF, output: NetworkOutput, batch: Batch, class_weights: Tensor) -> dict[str, Tensor]:
    """Compute every term by its name; their sum is what training minimises."""
    pool = F.adaptive_avg_pool2d(where_typed(output, batch)[:, None], output.features.shape[-1])[:, 0]
    terms = {
        "segment": segment_loss(output.maps.segments, batch.code, network.config.class_weights),
        "offset": offset_loss(output.maps.offsets, batch.code),
        "type": type_loss(network.types.logits(network.types.pool(output.features, pool)), batch.labels, class_weights),
    }
    if network.config.alignment:
        cam = network.types.cam(output.features, batch.labels.clamp_min(0))
        terms["alignment"] = 0.3 * alignment_loss(cam, pool, batch.masked & (batch.labels >= 0))
    return terms


def where_typed(output: NetworkOutput, batch: Batch) -> Tensor:
    """Weigh the pixels that the type is pooled over, float [N, S / 2, S / 2]: by the mask, or the foreground."""
    foreground = 1 - output.maps.segments.detach().softmax(dim=1)[:, 0]
    return torch.where(batch.masked[:, None, None], batch.pool, batch.pool * (_MIN_POOL_WEIGHT + foreground))


def segment_loss(logits: Tensor, code: Tensor, weighted: bool) -> Tensor:
    """Add cross-entropy (class-weighted) and Dice, of whole cells and of nuclei, over the pixels that are known."""
    known = code != IGNORE
    kind = torch.where(known, code % 4, 0)
    part_known = known & (kind != PART_UNKNOWN)
    weights = logits.new_tensor(SEGMENT_WEIGHTS if weighted else (1.0, 1.0, 1.0))
    log_probability = logits.log_softmax(dim=1)
    target = kind.clamp_max(2)
    entropy = F.nll_loss(log_probability, target, weight=weights, reduction="none") * part_known
    weight = weights[target] * part_known
    # Where only the cell is known, either of its parts is right.
    of_cell = known & ~part_known
    entropy = entropy - weights[1] * of_cell * torch.logsumexp(log_probability[:, 1:], dim=1)
    weight = weight + weights[1] * of_cell
    probability = log_probability.exp() * known[:, None]
    cell, nucleus = probability[:, 1:].sum(dim=1), probability[:, 2] * part_known
    dice = _dice(cell, (kind > 0).float()) + _dice(nucleus, ((kind == NUCLEUS) & part_known).float())
    return entropy.sum() / weight.sum().clamp_min(1) + dice / 2


def _dice(probability: Tensor, truth: Tensor) -> Tensor:
    overlap = 2 * (probability * truth).sum(dim=(1, 2)) + 10
    return (1 - overlap / (probability.sum(dim=(1, 2)) + truth.sum(dim=(1, 2)) + 10)).mean()


def offset_loss(offsets: Tensor, code: Tensor) -> Tensor:
    """Compute the smooth L1 of the offsets from cell pixels to the middle of their cell, in units of OFFSET_UNIT_PX."""
    target, inside = offset_target(code)
    error = F.smooth_l1_loss(offsets / OFFSET_UNIT_PX, target / OFFSET_UNIT_PX, reduction="none", beta=0.1).sum(dim=1)
    return (error * inside).sum() / inside.sum().clamp_min(1)


def offset_target(code: Tensor) -> tuple[Tensor, Tensor]:
    """Compute offsets to the middle of each pixel's cell [N, 2, h, w], window pixels, and where they are known."""
    n, height, width = code.shape
    instance = torch.where(code == IGNORE, 0, code // 4)
    y, x = torch.meshgrid(
        torch.arange(height, device=code.device), torch.arange(width, device=code.device), indexing="ij"
    )
    positions = torch.stack([x, y]).float().expand(n, 2, height, width)
    slots = (instance + 64 * torch.arange(n, device=code.device)[:, None, None]).flatten()
    sums = torch.zeros(64 * n, 3, device=code.device)
    values = torch.cat([positions, torch.ones_like(positions[:, :1])], dim=1).permute(0, 2, 3, 1).reshape(-1, 3)
    sums.index_add_(0, slots, values)
    middles = (sums[:, :2] / sums[:, 2:].clamp_min(1))[slots].reshape(n, height, width, 2).permute(0, 3, 1, 2)
    return (middles - positions) * MAP_STRIDE, (instance > 0).float()


def type_loss(logits: Tensor, labels: Tensor, class_weights: Tensor) -> Tensor:
    """Compute class-weighted cross-entropy with smoothing; `not_blast` cells only push the blast's probability down."""
    known = (labels >= 0).to(logits.dtype)
    target = labels.clamp_min(0)
    entropy = F.cross_entropy(logits, target, weight=class_weights, label_smoothing=_LABEL_SMOOTHING, reduction="none")
    loss = (entropy * known).sum() / (class_weights[target] * known).sum().clamp_min(1e-6)
    blast = logits.softmax(dim=1)[:, BLAST_INDEX].clamp_max(0.999)
    return loss - (torch.log1p(-blast) * (labels == NOT_BLAST_TYPE)).mean()


def alignment_loss(cam: Tensor, pool: Tensor, chosen: Tensor) -> Tensor:
    """Compute the share of the Grad-CAM energy outside the cell (grown by one pixel): the saliency-alignment loss.

    Args:
        cam: float [N, h, w], not negative.
        pool: float [N, h, w], the cell's mask.
        chosen: bool [N], of whom the mean is taken; 0 where there are none.
    """
    cell = F.max_pool2d((pool > 0.25).float()[:, None], 3, 1, 1)[:, 0]
    inside = (cam * cell).sum(dim=(1, 2))
    outside = 1 - (inside + 1e-4) / (cam.sum(dim=(1, 2)) + 1e-4)
    return (outside * chosen).sum() / chosen.sum().clamp_min(1)
