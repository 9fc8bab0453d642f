"""Fits the morphometric head to what the finished network sees of training cells."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from wbc_cli.inference.neutrophils import MIN_GRANULOCYTES, paler_half
from wbc_cli.model.morphometric_head import (
    EOSINOPHIL_INDEX,
    NEUTROPHIL_INDEX,
    TOLD_APART,
    MorphometricHead,
    compared,
)
from wbc_cli.training.centred import CentredView

log = logging.getLogger(__name__)

_PENALTY = 2.5e-3  # of the squared weights, beside the mean loss
_STEPS = 100


def fit_morphometry(head: MorphometricHead, views: Sequence[CentredView]) -> None:
    """Fit the head in place; nothing changes where no set has granulocytes enough to compare with.

    Every set counts by the square roots of its classes' numbers of cells, and is held against its own neutrophils.

    Args:
        head: of the network that the views are from.
        views: of training images.
    """
    sets: dict[str, list[CentredView]] = defaultdict(list)
    for view in views:
        if view.cell and view.image.targets and view.image.targets[0].label in TOLD_APART:
            sets[view.image.sample.dataset].append(view)
    parts = [part for chosen in sets.values() if (part := _against_own_neutrophils(chosen)) is not None]
    if not parts:
        return
    inputs, labels, weights = (torch.from_numpy(np.concatenate(column)) for column in zip(*parts, strict=True))
    log.info("morphometry: learning from %d cells of %d sets", len(labels), len(parts))
    device = head.weight.device
    _fit(head, inputs.to(device), labels.to(device), (weights / weights.mean()).to(device))


def _against_own_neutrophils(
    views: Sequence[CentredView],
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]] | None:
    """Return inputs of the head, indices into TOLD_APART, and weights of the cells of one set; None if it has few."""
    measures = np.stack([view.measures for view in views])
    labels = np.array([view.image.targets[0].label for view in views])
    granulocytes = np.isin(labels, [NEUTROPHIL_INDEX, EOSINOPHIL_INDEX])
    if np.count_nonzero(granulocytes) < MIN_GRANULOCYTES:
        return None
    neutrophils = torch.tensor(paler_half(measures[granulocytes]))
    inputs = compared(torch.from_numpy(measures), neutrophils.expand(len(views), -1)).numpy()
    counts = np.bincount(labels)
    return inputs, np.array([TOLD_APART.index(label) for label in labels]), counts[labels].astype(np.float32) ** -0.5


@torch.no_grad()
def _fit(head: MorphometricHead, inputs: Tensor, labels: Tensor, weights: Tensor) -> None:
    head.mean.copy_(inputs.mean(dim=0))
    head.deviation.copy_(inputs.std(dim=0).clamp_min(1e-3))
    terms = head.terms(inputs)
    centre, scale = terms.mean(dim=0), terms.std(dim=0).clamp_min(1e-3)
    terms = (terms - centre) / scale
    weight = torch.zeros_like(head.weight, requires_grad=True)
    bias = torch.zeros_like(head.bias, requires_grad=True)
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=_STEPS, line_search_fn="strong_wolfe")

    @torch.enable_grad()
    def loss() -> Tensor:
        optimiser.zero_grad()
        entropy = F.cross_entropy(terms @ weight + bias, labels, reduction="none")
        total = (weights * entropy).mean() + _PENALTY * weight.square().sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    head.weight.copy_(weight / scale[:, None])
    head.bias.copy_(bias - centre / scale @ weight)
