"""The backbone is what timm builds, from the same weights, without timm."""

from __future__ import annotations

import sys

import pytest
import timm
import torch
from timm.models.swin_transformer import SwinTransformerBlock
from torch import nn

from wbc_cli.errors import SetupError
from wbc_cli.model.backbone import Backbone
from wbc_cli.model.stages import BACKBONES, PRETRAINED, STRIDES
from wbc_cli.model.swin import SwinBlock

SIDE = 160


@pytest.mark.parametrize("name", PRETRAINED)
def test_the_backbone_starts_as_the_network_whose_weights_it_is_given(name):
    """The same features as timm's own network gives; Swin blocks and saliency add nothing yet."""
    torch.manual_seed(1)
    net = timm.create_model(name, pretrained=False, bn_eps=1e-3).eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.8, 1.2)
    rgb = torch.randn(1, 3, SIDE, SIDE)
    with torch.inference_mode():
        expected = net.blocks(net.bn1(net.conv_stem(rgb)))
        plain = Backbone(name, 3, SIDE, swin=False, imagenet=net.state_dict()).eval()
        torch.testing.assert_close(plain(rgb)[-1], expected, rtol=1e-3, atol=1e-3)
        whole = Backbone(name, 4, SIDE, swin=True, imagenet=net.state_dict()).eval()
        with_saliency = torch.cat([rgb, torch.rand(1, 1, SIDE, SIDE)], dim=1)
        torch.testing.assert_close(whole(with_saliency)[-1], expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("side", "window", "shift"), [(10, 5, 2), (5, 5, 0), (8, 5, 2), (8, 5, 0)])
def test_a_swin_block_gives_what_timms_gives_with_the_same_weights(side, window, shift):
    torch.manual_seed(side + shift)
    theirs = SwinTransformerBlock(64, (side, side), 2, window_size=window, shift_size=shift, mlp_ratio=2.0).eval()
    nn.init.normal_(theirs.attn.relative_position_bias_table)
    ours = SwinBlock(64, side, 2, window, shift, mlp_ratio=2.0).eval()
    ours.load_state_dict(theirs.state_dict())
    features = torch.randn(3, side, side, 64)
    with torch.inference_mode():
        torch.testing.assert_close(ours(features), theirs(features))


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("swin", [True, False])
def test_every_backbone_gives_features_of_sane_size_at_every_stride(name, swin):
    torch.manual_seed(0)
    backbone = Backbone(name, 4, SIDE, swin).eval()
    with torch.inference_mode():
        features = backbone(torch.rand(2, 4, SIDE, SIDE) * 2 - 1)
    assert [tuple(f.shape) for f in features] == [
        (2, channels, SIDE // stride, SIDE // stride)
        for channels, stride in zip(backbone.channels, STRIDES, strict=True)
    ]
    assert all(0.01 < float(f.std()) < 20 for f in features)


def test_a_baseline_without_timm_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    monkeypatch.delitem(sys.modules, "wbc_cli.model.baselines", raising=False)
    with pytest.raises(SetupError, match=r"resnet18 is built by timm: pip install 'wbc-cli\[train\]'"):
        Backbone("resnet18", 3, SIDE, swin=False)
