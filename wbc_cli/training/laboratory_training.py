"""Fits the heads that hold a cell against the neutrophils of its laboratory, to what the finished network sees."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from wbc_cli.inference.neutrophils import MIN_GRANULOCYTES, paler_half
from wbc_cli.model.morphometric_head import (
    COMPARED,
    EOSINOPHIL_INDEX,
    MEASURES,
    NEUTROPHIL_INDEX,
    TOLD_APART,
    MorphometricHead,
    compared,
)
from wbc_cli.model.reference_head import SCORED, ReferenceHead
from wbc_cli.training.centred import CentredView

log = logging.getLogger(__name__)

_MORPHOMETRIC_PENALTY, _REFERENCE_PENALTY = 2.5e-3, 1e-2  # of the squared weights, beside the mean loss
_STEPS = 100


def fit_morphometry(head: MorphometricHead, views: Sequence[CentredView]) -> None:
    """Fit the morphometric head in place; nothing changes where no set has granulocytes enough to compare with.

    Args:
        head: of the network that the views are from.
        views: of training images.
    """

    def inputs_of(chosen: Sequence[CentredView], granulocytes: Sequence[CentredView]) -> Tensor:
        measures = np.stack([view.measures[:MEASURES] for view in chosen])
        neutrophils = paler_half(np.stack([view.measures for view in granulocytes]))[:COMPARED]
        return compared(torch.from_numpy(measures), torch.tensor(neutrophils).expand(len(chosen), -1))

    learned = _of_sets(views, inputs_of, TOLD_APART, head.weight.device)
    if learned is None:
        return
    inputs, labels, weights = learned
    head.mean.copy_(inputs.mean(dim=0))
    head.deviation.copy_(inputs.std(dim=0).clamp_min(1e-3))
    weight, bias = fit_regression(head.terms(inputs), labels, weights, len(TOLD_APART), _MORPHOMETRIC_PENALTY)
    head.weight.copy_(weight)
    head.bias.copy_(bias)


def fit_reference(head: ReferenceHead, views: Sequence[CentredView]) -> None:
    """Fit the reference head in place; nothing changes where no set has granulocytes enough to compare with.

    Args:
        head: of the network that the views are from.
        views: of training images.
    """

    def inputs_of(chosen: Sequence[CentredView], granulocytes: Sequence[CentredView]) -> Tensor:
        # The mean of scores is the score of the mean, as both are linear.
        neutrophils = paler_half(np.stack([np.append(view.measures[:MEASURES], view.pooled) for view in granulocytes]))
        found = np.stack([view.pooled for view in chosen]) - np.array(neutrophils[COMPARED:], np.float32)
        return torch.from_numpy(found)

    learned = _of_sets(views, inputs_of, SCORED, head.weight.device)
    if learned is None:
        return
    weight, bias = fit_regression(*learned, len(SCORED), _REFERENCE_PENALTY)
    head.weight.copy_(weight)
    head.bias.copy_(bias)


@torch.no_grad()
def fit_regression(
    terms: Tensor, labels: Tensor, weights: Tensor, classes: int, penalty: float
) -> tuple[Tensor, Tensor]:
    """Fit a multinomial logistic regression.

    Args:
        terms: float [M, terms].
        labels: int64 [M].
        weights: float [M], of the cells.
        classes: how many there are.
        penalty: of the squared weights of standardised terms, beside the mean loss.

    Returns:
        The weight, float [terms, classes], and the bias, float [classes].
    """
    centre, scale = terms.mean(dim=0), terms.std(dim=0).clamp_min(1e-3)
    terms = (terms - centre) / scale
    weight = terms.new_zeros(terms.shape[1], classes).requires_grad_()
    bias = terms.new_zeros(classes).requires_grad_()
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=_STEPS, line_search_fn="strong_wolfe")

    @torch.enable_grad()
    def loss() -> Tensor:
        optimiser.zero_grad()
        entropy = F.cross_entropy(terms @ weight + bias, labels, reduction="none")
        total = (weights * entropy).mean() + penalty * weight.square().sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    weight = weight / scale[:, None]
    return weight.detach(), (bias - centre @ weight).detach()


def _laboratories(views: Sequence[CentredView]) -> list[tuple[list[CentredView], list[CentredView]]]:
    """Gather the typed cells of every set, and the granulocytes among them, where these are enough."""
    sets: dict[str, list[CentredView]] = defaultdict(list)
    for view in views:
        if view.cell and view.image.targets and view.image.targets[0].label >= 0:
            sets[view.image.sample.dataset].append(view)
    pair = (NEUTROPHIL_INDEX, EOSINOPHIL_INDEX)
    found = [(chosen, [view for view in chosen if view.image.targets[0].label in pair]) for chosen in sets.values()]
    return [(chosen, granulocytes) for chosen, granulocytes in found if len(granulocytes) >= MIN_GRANULOCYTES]


def _of_sets(
    views: Sequence[CentredView],
    inputs_of: Callable[[Sequence[CentredView], Sequence[CentredView]], Tensor],
    classes: Sequence[int],
    device: torch.device,
) -> tuple[Tensor, Tensor, Tensor] | None:
    """Gather inputs, indices into the classes, and weights of all cells of some classes; None where there are none.

    Every set counts by the square roots of its classes' numbers of cells.

    Args:
        views: of training images.
        inputs_of: makes the inputs of the cells of a set, given its granulocytes.
        classes: that are told apart.
        device: where the tensors are wanted.
    """
    parts = []
    for chosen, granulocytes in _laboratories(views):
        labels = np.array([view.image.targets[0].label for view in chosen])
        kept = np.flatnonzero(np.isin(labels, classes))
        indices = torch.tensor([classes.index(label) for label in labels[kept]])
        weights = torch.from_numpy(np.bincount(labels[kept])[labels[kept]] ** -0.5).float()
        parts.append((inputs_of(chosen, granulocytes)[kept], indices, weights))
    if not parts:
        return None
    inputs, indices, weights = (torch.cat(column).to(device) for column in zip(*parts, strict=True))
    log.info(
        "%d classes against neutrophils: learning from %d cells of %d sets", len(classes), len(indices), len(parts)
    )
    return inputs, indices, weights / weights.mean()
