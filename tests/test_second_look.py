"""Unclear cells are looked at again, turned; clear ones are left as they are."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from conftest import spots
from fakes import ArrayReader

from wbc_cli.inference.engine import Engine, correlation
from wbc_cli.inference.pipeline import Analyser
from wbc_cli.inference.second_look import look_again
from wbc_cli.inference.stream import Stream

UNCLEAR, CLEAR = [0.0, 0.5, 0.2], [0.0, 9.0, 1.0]


def features_of(windows):
    """Features that depend on how the window lies: brightness, and how far down and right a place is."""
    windows = windows.float()
    slope = torch.arange(windows.shape[-1]).float().expand_as(windows[:, 0])
    return torch.stack([windows[:, 0], slope + 0 * windows[:, 0]], dim=1)


@pytest.fixture
def windows():
    return torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_only_windows_with_an_unclear_cell_change(windows):
    features = features_of(windows)
    cells = torch.tensor([CLEAR, CLEAR, UNCLEAR, CLEAR])
    again = look_again(features_of, windows, features, cells, torch.tensor([0, 1, 1, 2])).features
    assert torch.equal(again[[0, 2]], features[[0, 2]])
    assert not torch.equal(again[1], features[1])


def test_turned_features_come_back_to_their_place_before_they_are_averaged(windows):
    features = features_of(windows)
    again = look_again(features_of, windows, features, torch.tensor([UNCLEAR] * 3), torch.arange(3)).features
    torch.testing.assert_close(again[:, 0], features[:, 0])  # brightness turns with the window
    slope = (torch.arange(8.0) + 2 * 3.5) / 3  # those of the two turns cancel out
    torch.testing.assert_close(again[:, 1], slope.expand(3, 8, 8))


def test_what_was_looked_at_again_is_also_seen_shifted():
    windows = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    features = features_of(windows)
    found = look_again(features_of, windows, features, torch.tensor([CLEAR, UNCLEAR]), torch.arange(2))
    assert found.again.tolist() == [1]
    torch.testing.assert_close(found.shifted[0, 0, 8:, 8:], features[1, 0, :-8, :-8])  # the brightness has moved along


def test_the_correlation_of_maps_is_pearsons_and_of_a_flat_one_zero():
    maps = torch.rand(3, 5, 4, generator=torch.Generator().manual_seed(0))
    others = torch.stack([2 * maps[0] + 1, -maps[1], torch.ones(5, 4)])
    torch.testing.assert_close(correlation(maps, others), torch.tensor([1.0, -1.0, 0.0]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("is_clear", [True, False])
def test_only_of_unclear_cells_is_it_known_whether_the_explanation_stays(toy_network, is_clear):
    model = copy.deepcopy(toy_network)
    torch.manual_seed(0)
    torch.nn.init.normal_(model.types.classify.weight, std=0.05)
    model.types.classify.bias.data.zero_()
    model.types.classify.bias.data[2] = 9 * is_clear
    side = model.config.window_px
    picture = spots((side // 2, side // 2), width=side, height=side, radius=20)
    engine = Engine(model, torch.device("cpu"), torch.float32, 4)
    (window,) = engine.look(picture[None])
    for cell in window.cells:
        assert (cell.cam_stability is None) == is_clear
        assert is_clear or 0 < cell.cam_stability <= 1
        assert -1 <= cell.cam_saliency <= 1


@pytest.mark.parametrize(
    ("figures", "flag"),
    [
        ({"cam_in_cell": 0.4}, "explanation"),
        ({"cam_saliency": 0.4}, "explanation"),
        ({"cam_stability": 0.4}, "unstable"),
        ({"cam_in_cell": 0.6, "cam_saliency": 0.6, "cam_stability": 0.6}, ""),
        ({"cam_in_cell": 0.6, "cam_saliency": 0.6, "cam_stability": None}, ""),
    ],
)
def test_a_cell_whose_explanation_fails_is_flagged_with_the_reason(toy_network, monkeypatch, figures, flag):
    engine = Engine(toy_network, torch.device("cpu"), torch.float32, 4)
    sound = {"cam_in_cell": 0.9, "cam_saliency": 0.9, "cam_stability": 0.9}
    look = engine.look

    def told(windows):
        return [
            replace(window, cells=tuple(replace(cell, **{**sound, **figures}) for cell in window.cells))
            for window in look(windows)
        ]

    monkeypatch.setattr(engine, "look", told)
    cells = Analyser(Stream(engine, 1), 0.0).analyse(ArrayReader(spots((240, 100))), "a", 0.4).cells
    assert cells
    for cell in cells:
        assert [found for found in cell.flags if found in ("explanation", "unstable")] == [flag] * bool(flag)
