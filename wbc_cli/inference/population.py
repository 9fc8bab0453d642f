"""What the cells of one sample tell of each other: what its neutrophils look like, and how common each class is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from wbc_cli.cells import Population
from wbc_cli.classes import CLASS_NAMES
from wbc_cli.inference.class_prior import UNIFORM, estimate_class_prior
from wbc_cli.inference.neutrophils import Neutrophils, Typed, measure_neutrophils
from wbc_cli.inference.window_cells import WindowCell
from wbc_cli.model.evidence import PRIOR_POWER
from wbc_cli.model.network import SGCLDFF, TypedCells
from wbc_cli.model.reference_head import KEPT

KNOWN = KEPT + len(UNIFORM)
"""How many numbers the network is told of a population."""


def row_of(population: Population) -> NDArray[np.float32]:
    """Return what the network is told of a population, float32 [KNOWN], not a number where it is not known.

    See `SGCLDFF.among`.
    """
    neutrophils = population.neutrophils or (np.nan,) * KEPT
    class_prior = population.class_prior or (np.nan,) * len(UNIFORM)
    return np.array([*neutrophils, *np.log(class_prior)], np.float32)


@torch.inference_mode()
def measure_population(
    cells: Sequence[Typed], network: SGCLDFF, beside: Callable[[], Neutrophils | None] = lambda: None
) -> Population:
    """Measure the population of cells that were typed each by itself.

    Args:
        cells: of one sample.
        network: that typed them.
        beside: gives the neutrophils of other samples of the laboratory, where these cells do not tell.
    """
    if not cells:
        return Population(beside())
    alone = _typed_alone(cells, network)
    neutrophils = measure_neutrophils(cells, alone.logits.cpu().numpy()) or beside()
    if not network.config.class_prior:
        return Population(neutrophils)
    # How common the classes are is told by what the cells are taken for when the neutrophils have had their say.
    typed = _among(alone, cells, Population(neutrophils), network)
    own = F.linear(torch.cat([typed.pooled, typed.evidence], dim=1), *network.own_read_out)
    tempered = PRIOR_POWER * own / network.own_temperature(typed.distance)[:, None]
    class_prior = estimate_class_prior(tempered.softmax(dim=1).cpu().numpy())
    return Population(neutrophils, class_prior)


@torch.inference_mode()
def typed_among(cells: Sequence[WindowCell], population: Population, network: SGCLDFF) -> list[WindowCell]:
    """Type cells by their population that were typed each by itself.

    Args:
        cells: as the network types them.
        population: that they are from.
        network: that typed them.

    Returns:
        The cells with other logits and features; their Grad-CAM is what it was.
    """
    typed = _among(_typed_alone(cells, network), cells, population, network)
    features = np.stack([cell.features for cell in cells])
    features[:, -len(CLASS_NAMES) :] = typed.evidence.cpu().numpy()
    rows = zip(cells, typed.logits.cpu().numpy(), features, strict=True)
    return [replace(cell, logits=logits, features=kept) for cell, logits, kept in rows]


def _typed_alone(cells: Sequence[Typed], network: SGCLDFF) -> TypedCells:
    """Return how cells were typed each by itself, from what is kept of them."""
    features = _column([cell.features for cell in cells], network)
    pooled, evidence = features[:, : -len(CLASS_NAMES)], features[:, -len(CLASS_NAMES) :]
    weight, bias = network.own_read_out
    return TypedCells(pooled, F.linear(features, weight, bias), evidence, network.typicality(pooled))


def _among(alone: TypedCells, cells: Sequence[Typed], population: Population, network: SGCLDFF) -> TypedCells:
    known = _column([row_of(population)], network).expand(len(cells), -1)
    return network.among(alone, _column([cell.measures for cell in cells], network), known)


def _column(values: Sequence[NDArray[np.floating]], network: SGCLDFF) -> torch.Tensor:
    return torch.from_numpy(np.stack(values).astype(np.float32)).to(network.shape.mixing.device)
