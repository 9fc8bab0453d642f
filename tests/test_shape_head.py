"""The shape head: cells are typed by their outlines as well, whatever their colours."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wbc_cli.classes import CLASS_NAMES
from wbc_cli.model.config import ModelConfig
from wbc_cli.model.evidence import evidence_weight
from wbc_cli.model.network import SGCLDFF
from wbc_cli.model.shape_head import CHANNELS, ShapeHead, cell_maps, without_density

SIDE = 80


def scene(x, y, nucleus=6, radius=14):
    """A window with one cell: pixels, segmentation logits, mask."""
    kinds = np.zeros((SIDE, SIDE), np.uint8)
    cv2.circle(kinds, (x, y), radius, 1, -1)
    cv2.circle(kinds, (x, y), nucleus, 2, -1)
    logits = torch.from_numpy(10.0 * np.stack([kinds == kind for kind in range(3)])).float()
    light = np.choose(kinds, (0.9, 0.6, 0.2)).astype(np.float32)
    pixels = torch.from_numpy(np.repeat(np.repeat(light, 2, 0), 2, 1)).expand(3, -1, -1)
    return pixels, logits, torch.from_numpy((kinds > 0).astype(np.float32))


def maps_of(*scenes):
    windows, segments, cells = (torch.stack(parts) for parts in zip(*scenes, strict=True))
    return cell_maps(windows, segments, cells, torch.arange(len(scenes)))


@pytest.fixture(scope="module")
def head():
    torch.manual_seed(0)
    return ShapeHead(len(CLASS_NAMES)).eval()


@given(x=st.integers(16, 63), y=st.integers(16, 63))
def test_a_cell_looks_the_same_wherever_it_lies_in_its_window(x, y):
    middle, elsewhere = maps_of(scene(40, 40), scene(x, y))
    assert middle.shape == (CHANNELS, 56, 56)
    torch.testing.assert_close(middle[:2], elsewhere[:2], atol=2e-2, rtol=0)
    inside = middle[:2].sum(dim=0) > 0.5
    torch.testing.assert_close(middle[2][inside], elsewhere[2][inside], atol=2e-2, rtol=0)


@given(exposure=st.floats(0.5, 1.1), strength=st.floats(0.7, 1.5))
def test_neither_exposure_nor_the_strength_of_the_stain_changes_what_it_sees(exposure, strength):
    pixels, segments, cell = scene(40, 40)
    other = (exposure * (pixels / 0.9) ** strength * 0.9).clamp(0, 1)
    first, second = maps_of((pixels, segments, cell), (other, segments, cell))
    torch.testing.assert_close(first, second, atol=0.05, rtol=0)


def test_a_touching_neighbour_is_not_taken_for_a_part_of_the_cell():
    pixels, segments, cell = scene(40, 40)
    _, other, neighbour = scene(69, 40)
    crowded = torch.where(neighbour > 0, other, segments)
    alone, beside = maps_of((pixels, segments, cell), (pixels, crowded, cell))
    assert float((alone[:2] - beside[:2]).abs().max()) < 0.05


SHAPELESS = ("basophil", "blast", "erythroblast", "platelet")


def test_shape_never_speaks_against_a_blast_or_for_a_platelet(head):
    found = head.log_probabilities(torch.rand(20, CHANNELS, 56, 56))
    others = [i for i, name in enumerate(CLASS_NAMES) if name not in SHAPELESS]
    for name in SHAPELESS:
        assert torch.equal(found[:, CLASS_NAMES.index(name)], found[:, others].amax(dim=1))


def test_it_is_asked_of_the_outlines_with_and_without_density(head):
    maps = torch.rand(4, CHANNELS, 56, 56)
    with torch.no_grad():
        both = (head(maps).log_softmax(dim=1) + head(without_density(maps)).log_softmax(dim=1)) / 2
        found = head.log_probabilities(maps)
    kept = [i for i, name in enumerate(CLASS_NAMES) if name not in SHAPELESS]
    torch.testing.assert_close(found[:, kept], both[:, kept])


@given(distances=st.lists(st.floats(0, 20), min_size=2, max_size=10))
def test_shape_weighs_the_more_the_less_a_cell_is_like_the_training_cells(distances):
    weights = evidence_weight(torch.tensor(sorted(distances)))
    assert torch.equal(weights, weights.sort().values)
    assert float(evidence_weight(torch.zeros(1))) == 0
    assert float(weights.max()) <= 4


@pytest.fixture
def network():
    """One whose cells are not all typical, so that their shape weighs something."""
    torch.manual_seed(0)
    network = SGCLDFF(ModelConfig(width=16)).eval()
    network.typicality.whitening.copy_(torch.eye(32))
    return network


def test_an_unlearned_head_leaves_the_types_as_they_are(network):
    pooled, shape = torch.randn(3, 32), torch.randn(3, len(CLASS_NAMES))
    typed = network.type_cells(pooled, shape)
    assert typed.evidence.abs().min() > 0
    torch.testing.assert_close(typed.logits, network.types.logits(pooled))


def test_the_read_out_types_as_the_network_does(network):
    weight, bias = (parameter.detach() for parameter in network.read_out())
    network.set_read_out(torch.randn(weight.shape), torch.randn(bias.shape))
    weight, bias = (parameter.detach() for parameter in network.read_out())
    pooled, shape = torch.randn(3, 32), torch.randn(3, len(CLASS_NAMES))
    typed = network.type_cells(pooled, shape)
    torch.testing.assert_close(typed.logits, torch.cat([pooled, typed.evidence], dim=1) @ weight.T + bias)
