"""The Grad-CAM of a cell is what a reference implementation computes with gradients."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import spots
from torch import nn

from wbc_cli.inference.engine import Engine

captum_attr = pytest.importorskip("captum.attr", reason="captum is not installed")


class Classifier(nn.Module):
    """Logits of the one cell of a window, as a plain network that gradients flow through."""

    def __init__(self, network, mask):
        super().__init__()
        self.network, self.mask = network, mask

    def forward(self, windows):
        features = self.network(windows).features
        places = F.adaptive_avg_pool2d(self.mask[None].expand(len(windows), -1, -1), features.shape[-1])
        return self.network.types.logits(self.network.types.pool(features, places))


@pytest.mark.parametrize("seed", [0, 1])
def test_grad_cam_is_that_of_captum(toy_network, seed):
    network = copy.deepcopy(toy_network)
    torch.manual_seed(seed)
    # Well apart, so that no cell is unclear and looked at again; and outlined by itself.
    nn.init.normal_(network.types.classify.weight, std=2.0)
    side = network.config.window_px
    picture = spots((side // 2, side // 2), (side // 3, side // 4), width=side, height=side, radius=20)
    engine = Engine(network, torch.device("cpu"), torch.float32, 4)
    (window,) = engine.predict(picture[None])
    (cell,) = window.cells
    mask = torch.from_numpy(window.labels == cell.label).float()
    likeliest = int(cell.logits.argmax())
    pixels = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
    reference = captum_attr.LayerGradCam(Classifier(network, mask), network.types.embed)
    expected = reference.attribute(pixels, target=likeliest, relu_attributions=True)[0, 0].detach().numpy()
    assert expected.max() > 0
    np.testing.assert_allclose(cell.cam, expected / expected.max(), atol=1e-4)
    assert np.ptp(cell.cam) > 0.1  # not flat, which would agree with anything
