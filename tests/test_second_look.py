"""Unclear cells are looked at again, turned; clear ones are left as they are."""

from __future__ import annotations

import pytest
import torch

from wbc_cli.inference.second_look import look_again
from wbc_cli.model.heads import Maps
from wbc_cli.model.network import Answer

UNCLEAR, CLEAR = [0.0, 0.5, 0.2], [0.0, 9.0, 1.0]


def network(windows):
    """Features that depend on how the window lies: brightness, and how far down and right a place is."""
    windows = windows.float()
    slope = torch.arange(windows.shape[-1]).float().expand_as(windows[:, 0])
    features = torch.stack([windows[:, 0], slope + 0 * windows[:, 0]], dim=1)
    return Answer(Maps(windows, windows), features, windows)


@pytest.fixture
def windows():
    return torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_only_windows_with_an_unclear_cell_change(windows):
    features = network(windows).features
    cells = torch.tensor([CLEAR, CLEAR, UNCLEAR, CLEAR])
    again = look_again(network, windows, features, cells, torch.tensor([0, 1, 1, 2]))
    assert torch.equal(again[[0, 2]], features[[0, 2]])
    assert not torch.equal(again[1], features[1])


def test_turned_features_come_back_to_their_place_before_they_are_averaged(windows):
    features = network(windows).features
    again = look_again(network, windows, features, torch.tensor([UNCLEAR] * 3), torch.arange(3))
    torch.testing.assert_close(again[:, 0], features[:, 0])  # brightness turns with the window
    torch.testing.assert_close(again[:, 1], torch.full((3, 8, 8), 3.5))  # the slope cancels out


def test_the_answer_does_not_depend_on_how_the_window_lies(windows):
    unclear, every = torch.tensor([UNCLEAR] * 3), torch.arange(3)
    turned = torch.rot90(windows, 1, (2, 3))
    upright = look_again(network, windows, network(windows).features, unclear, every)
    lying = look_again(network, turned, network(turned).features, unclear, every)
    torch.testing.assert_close(torch.rot90(upright, 1, (2, 3)), lying)
