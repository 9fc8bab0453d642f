"""Whoever is shown a Grad-CAM can see whether it tells what the network looks at."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from conftest import TOY_UM_PER_PX, spots
from fakes import ArrayReader
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from lab import make_cell

from wbc_cli.evaluation import faithfulness
from wbc_cli.evaluation.faithfulness import FaithfulnessScore, OrderScore, Probe
from wbc_cli.inference.engine import Engine
from wbc_cli.inference.pipeline import Analyser
from wbc_cli.inference.stream import Stream

maps = arrays(np.float32, (5, 5), elements=st.floats(0, 1, width=32))


@given(maps)
def test_pixels_go_in_the_order_of_the_map_in_equal_shares(order):
    first = faithfulness.first_pixels(order, 20)
    shares = first.mean(axis=(1, 2))
    assert shares == pytest.approx(np.linspace(0, 1, len(first)), abs=1 / 400)
    assert all((after | ~before).all() for before, after in pairwise(first))  # what went stays gone


def test_the_highest_pixels_go_first():
    order = np.zeros((4, 4), np.float32)
    order[:2, :2] = 1
    first = faithfulness.first_pixels(order, 16)
    assert first[1][:6, :6].sum() == first[1].sum() == 16


def test_what_a_map_does_not_rank_goes_in_no_order_of_rows():
    first = faithfulness.first_pixels(np.zeros((4, 4), np.float32), 16)
    half = first[len(first) // 2]
    assert 0.25 < half[:8].mean() < 0.75


@given(maps)
def test_a_map_is_like_itself_and_like_its_ranks(order):
    alike = faithfulness.correlation(order, order**3)
    assert alike == pytest.approx(1 if np.ptp(order**3) > 0 else 0, abs=0.2)
    assert faithfulness.correlation(order, np.ones_like(order)) == 0  # a flat map says nothing


def test_a_reversed_map_has_correlation_minus_one():
    order = np.arange(9, dtype=np.float32).reshape(3, 3)
    assert faithfulness.correlation(order, -order) == pytest.approx(-1)


def test_the_cells_to_check_are_spread_over_the_sets_and_always_the_same(lab):
    for index in range(30):
        lab.add("neutrophil", [], dataset="large" if index % 5 else "small")
    lab.add("", [], dataset="negatives")
    lab.add("platelet", [], dataset="platelets")
    chosen = faithfulness.choose(lab.samples, 8)
    sets = [lab.samples[index].dataset for index in chosen]
    assert (sets.count("large"), sets.count("small")) == (4, 4)
    assert chosen == faithfulness.choose(lab.samples, 8)
    assert len(faithfulness.choose(lab.samples, 1000)) == 30  # of those that show a labelled cell
    assert not faithfulness.choose(lab.samples, 0)


def test_the_figures_stand_beside_orders_that_ignore_the_map(lab):
    score = FaithfulnessScore(
        OrderScore(0.2, 0.8), OrderScore(0.5, 0.4), OrderScore(0.3, 0.7), (0.3, -0.3), (0.1, -0.3), -0.6
    )
    for _ in range(3):
        lab.add("neutrophil", [make_cell("neutrophil")])
    figures = lab.figures(faithfulness=2, check=lambda reader, result, cell: score)
    assert (figures["deletion"].value, figures["deletion"].n) == (pytest.approx(0.2), 2)
    assert figures["deletion"].baselines == {"random_order": 0.5, "centre_order": 0.3}
    assert figures["insertion"].baselines == {"random_order": 0.4, "centre_order": 0.7}
    assert figures["new_head_correlation"].value == pytest.approx(0)
    assert figures["new_head_likeness"].value == pytest.approx(0.3)
    assert figures["new_network_correlation"].value == pytest.approx(-0.1)
    assert figures["new_network_likeness"].baselines == {"centre_gaussian": 0.6}
    assert "deletion" not in lab.figures(faithfulness=0, check=lambda reader, result, cell: score)


def test_a_cell_that_was_missed_has_no_explanation_to_check(lab):
    lab.add("neutrophil", [])
    assert "deletion" not in lab.figures(faithfulness=5, check=None)


@pytest.fixture
def probed(toy_network):
    """The toy network's view of a dark spot, and its probe."""
    engine = Engine(toy_network, torch.device("cpu"), torch.float32, 8)
    reader = ArrayReader(spots((240, 100)))
    result = Analyser(Stream(engine, 1), 0.0).analyse(reader, "a", TOY_UM_PER_PX)
    return Probe(engine), reader, result


def test_the_check_starts_from_the_probability_that_was_reported(probed, monkeypatch):
    probe, reader, result = probed
    (cell,) = result.cells
    curves = []
    whole = Probe._probabilities

    def recorded(self, *asked):
        curves.append(whole(self, *asked))
        return curves[-1]

    monkeypatch.setattr(Probe, "_probabilities", recorded)
    score = probe.score(reader, result, cell)
    assert len(curves) == 6
    for deleted, inserted in zip(curves[::2], curves[1::2], strict=True):
        assert deleted[0] == pytest.approx(cell.confidence, abs=0.02)  # the mask was resampled on its way
        assert inserted[-1] == pytest.approx(deleted[0], abs=1e-5)
        assert inserted[0] == pytest.approx(deleted[-1], abs=1e-5)
    assert score.cam.deletion == pytest.approx(np.mean((curves[0][1:] + curves[0][:-1]) / 2))


def test_the_check_is_repeatable_and_leaves_the_network_as_it_was(probed):
    probe, reader, result = probed
    before = {name: tensor.clone() for name, tensor in probe.engine.network.state_dict().items()}
    state = torch.random.get_rng_state()
    once, twice = (probe.score(reader, result, result.cells[0]) for _ in range(2))
    assert once == twice
    assert torch.equal(state, torch.random.get_rng_state())
    after = probe.engine.network.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert len(set(once.new_head)) == len(once.new_head) > 1  # each from weights of its own
    assert all(-1 <= rho <= 1 for rho in (*once.new_head, *once.new_network, once.gaussian))
