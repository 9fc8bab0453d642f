"""Learns the morphology head, last of all and with the rest of the network as it is."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from wbc_cli.model.morphology_head import MorphologyHead
from wbc_cli.morphology import ATTRIBUTES
from wbc_cli.training.centred import CentredView

log = logging.getLogger(__name__)

_EPOCHS, _BATCH = 40, 128
_LEARNING_RATE, _WEIGHT_DECAY = 1e-3, 0.05
_MIN_DEVIATION = 1e-3  # of a feature: in half precision less is lost
_BALANCE_EXPONENT = 0.5  # rare values weigh by the root of how rare they are


def fit_morphology(
    head: MorphologyHead, views: Sequence[CentredView], held_out: Sequence[CentredView], seed: int
) -> None:
    """Learn the attributes of cells from the network's features of them; nothing changes where none are known.

    Args:
        head: of the network that the views are from.
        views: of training images; those without attributes are passed over.
        held_out: of validation images, whose share of right values is logged.
        seed: of the order and the dropout.
    """
    described = [view for view in views if view.image.sample.morphology and view.cell]
    if not described:
        return
    device = head.mean.device
    features, truth = _features(described, device), _truth(described, device)
    head.mean.copy_(features.mean(dim=0))
    head.deviation.copy_(features.std(dim=0).clamp_min(_MIN_DEVIATION))
    weights = [_weights(truth[:, i], len(values)) for i, values in enumerate(ATTRIBUTES.values())]
    torch.manual_seed(seed)
    optimiser = torch.optim.AdamW(head.parameters(), _LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
    per_epoch = -(-len(features) // _BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _LEARNING_RATE, _EPOCHS * per_epoch)
    head.train()
    for _ in range(_EPOCHS):
        for chosen in torch.split(torch.randperm(len(features)).to(device), _BATCH):
            outputs = head(features[chosen])
            terms = [F.cross_entropy(logits, truth[chosen, i], weights[i]) for i, logits in enumerate(outputs)]
            loss = torch.stack(terms).sum()
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
    head.eval()
    validation = [view for view in held_out if view.image.sample.morphology and view.cell]
    if validation:
        with torch.no_grad():
            right = (head.predict(_features(validation, device)) == _truth(validation, device)).float().mean()
        log.info("morphology: %.4f of the values of %d held-out cells right", float(right), len(validation))


def _features(views: Sequence[CentredView], device: torch.device) -> Tensor:
    return torch.tensor(np.stack([view.parts for view in views]), device=device)


def _truth(views: Sequence[CentredView], device: torch.device) -> Tensor:
    rows = [[values.index(view.image.sample.morphology[name]) for name, values in ATTRIBUTES.items()] for view in views]
    return torch.tensor(rows, device=device)


def _weights(truth: Tensor, values: int) -> Tensor:
    """Compute the weights of an attribute's values, so that the mean cell weighs 1."""
    counts = torch.bincount(truth, minlength=values).float()
    weights = counts.clamp_min(1) ** -_BALANCE_EXPONENT
    return weights * counts.sum() / (weights * counts).sum()
