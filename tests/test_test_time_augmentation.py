"""Windows of unclear cells are augmented, turned and shifted; those of clear ones are left as they are."""

from __future__ import annotations

import copy
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import spots
from fakes import ArrayReader

from wbc_cli.inference import engine
from wbc_cli.inference.engine import Engine, correlation
from wbc_cli.inference.pipeline import Analyser
from wbc_cli.inference.stream import Stream
from wbc_cli.inference.test_time_augmentation import augment_unclear

UNCLEAR, CLEAR = [0.0, 0.5, 0.2], [0.0, 9.0, 1.0]


def features_of(windows):
    """Features that depend on how the window lies, at stride 8: brightness, and how far right a place is."""
    brightness = F.avg_pool2d(windows.float(), 8)[:, 0]
    return torch.stack([brightness, torch.arange(float(brightness.shape[-1])).expand_as(brightness)], dim=1)


@pytest.fixture
def windows():
    return torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def test_only_windows_with_an_unclear_cell_change(windows):
    features = features_of(windows)
    cells = torch.tensor([CLEAR, CLEAR, UNCLEAR, CLEAR])
    found = augment_unclear(features_of, windows, features, cells, torch.tensor([0, 1, 1, 2])).features
    assert torch.equal(found[[0, 2]], features[[0, 2]])
    assert not torch.equal(found[1], features[1])


def test_turned_and_shifted_features_come_back_to_their_place_before_they_are_averaged(windows):
    features = features_of(windows)
    found = augment_unclear(features_of, windows, features, torch.tensor([UNCLEAR] * 3), torch.arange(3))
    inside = (slice(None), slice(0, 7), slice(0, 7))  # the shifted window does not show the last row and column
    torch.testing.assert_close(found.features[:, 0][inside], features[:, 0][inside])  # brightness moves along
    torch.testing.assert_close(found.shifted[:, 0][inside], features[:, 0][inside])
    across, down = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="xy")
    expected = (across + (7 - down).flip(0) + across + 1) / 3  # as it lies, turned, and shifted
    torch.testing.assert_close(found.features[:, 1][inside], expected.expand(3, 8, 8)[inside])


def test_the_augmented_windows_are_told(windows):
    found = augment_unclear(features_of, windows, features_of(windows), torch.tensor([CLEAR, UNCLEAR]), torch.arange(2))
    assert found.windows.tolist() == [1]
    assert found.shifted.shape == (1, 2, 8, 8)


def test_the_correlation_of_maps_is_pearsons_and_of_a_flat_one_zero():
    maps = torch.rand(3, 5, 4, generator=torch.Generator().manual_seed(0))
    others = torch.stack([2 * maps[0] + 1, -maps[1], torch.ones(5, 4)])
    torch.testing.assert_close(correlation(maps, others), torch.tensor([1.0, -1.0, 0.0]), atol=1e-5, rtol=0)


@pytest.fixture
def unsure(toy_network):
    """Unclear of the type of every cell."""
    network = copy.deepcopy(toy_network)
    torch.manual_seed(0)
    torch.nn.init.normal_(network.types.classify.weight, std=0.05)
    network.types.classify.bias.data.zero_()
    return network


@pytest.fixture
def predict(monkeypatch):
    """Has a network predict a window with a cell at a position in it."""

    def predict(network, x):
        side = network.config.window_px
        labels = np.zeros((side // 2, side // 2), np.uint8)
        cv2.circle(labels, (x, side // 4), 10, 1, -1)
        monkeypatch.setattr(engine, "find_cells", lambda *_: ([np.zeros((3, *labels.shape), np.float32)], [labels]))
        picture = spots((2 * x, side // 2), width=side, height=side, radius=20)
        (window,) = Engine(network, torch.device("cpu"), torch.float32, 4).predict(picture[None])
        (cell,) = window.cells
        return cell

    return predict


def test_only_of_unclear_cells_is_it_known_whether_the_explanation_stays(unsure, predict):
    unclear = predict(unsure, 40)
    assert 0 < unclear.cam_stability <= 1
    assert -1 <= unclear.cam_saliency <= 1
    unsure.types.classify.bias.data[2] = 9
    assert predict(unsure, 40).cam_stability is None


def test_an_unclear_cell_that_the_border_cuts_is_left_to_the_window_of_its_own(unsure, predict):
    assert predict(unsure, 11).cam_stability is not None
    assert predict(unsure, 5).cam_stability is None


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
    toy = Engine(toy_network, torch.device("cpu"), torch.float32, 4)
    sound = {"cam_in_cell": 0.9, "cam_saliency": 0.9, "cam_stability": 0.9}
    answer = toy.predict

    def told(windows, neutrophils):
        return [
            replace(window, cells=tuple(replace(cell, **{**sound, **figures}) for cell in window.cells))
            for window in answer(windows)
        ]

    monkeypatch.setattr(toy, "predict", told)
    cells = Analyser(Stream(toy, 1), 0.0).analyse(ArrayReader(spots((240, 100))), "a", 0.4).cells
    assert cells
    for cell in cells:
        assert [found for found in cell.flags if found in ("explanation", "unstable")] == [flag] * bool(flag)
