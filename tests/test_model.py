"""The network is what its parts say, and weights on disk give the answers they gave before."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import spots
from torch import nn

from wbc_cli.errors import SetupError, UsageError
from wbc_cli.inference.engine import Engine
from wbc_cli.model.backbone import Backbone
from wbc_cli.model.config import ModelConfig
from wbc_cli.model.files import CONFIG_NAME, WEIGHTS_NAME, checksum
from wbc_cli.model.folded import ActivatedConv, FoldedConv
from wbc_cli.model.heads import TypeHead
from wbc_cli.model.network import SGCLDFF
from wbc_cli.model.saliency import window_saliency
from wbc_cli.model.stages import BACKBONES
from wbc_cli.model.storage import load, save

SIDE = 160


def windows(count):
    """Different pictures of dark spots: uint8 [count, 160, 160, 3]."""
    random = np.random.default_rng(3)
    places = random.integers(30, SIDE - 30, (count, 2)).tolist()
    stack = np.stack([spots(place, width=SIDE, height=SIDE) for place in places])
    return np.clip(stack + random.normal(0, 8, stack.shape), 0, 255).astype(np.uint8)


def pixels(count):
    return torch.from_numpy(windows(count)).permute(0, 3, 1, 2)


def outputs(network, rgb):
    with torch.inference_mode():
        answer = network(rgb)
    return {**answer.maps._asdict(), "features": answer.features, "saliency": answer.saliency}


def assert_same(one, other, tolerance):
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(
            tensor, other[name], rtol=tolerance, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
        )


def test_saved_and_loaded_weights_give_the_same_answers(toy_network, tmp_path):
    config = replace(toy_network.config, temperature=1.7, min_confidence=0.61)
    save(toy_network, config, tmp_path / "made")
    loaded = load(tmp_path / "made")
    assert loaded.network.config == config
    assert not loaded.network.training
    rounded = SGCLDFF(config).eval()
    rounded.load_state_dict(
        {k: v.half().float() if v.is_floating_point() else v for k, v in toy_network.state_dict().items()}
    )
    rgb = pixels(2)
    assert_same(outputs(loaded.network, rgb), outputs(rounded, rgb), 1e-5)
    assert_same(outputs(loaded.network, rgb), outputs(toy_network, rgb), 0.05)
    save(loaded.network, config, tmp_path / "again")
    assert checksum(tmp_path / "again") == loaded.checksum


def damage(folder, what):
    weights, config = folder / WEIGHTS_NAME, folder / CONFIG_NAME
    if what == "no weights":
        weights.unlink()
    elif what == "no config":
        config.unlink()
    elif what == "weights cut short":
        weights.write_bytes(weights.read_bytes()[:-1000])
    elif what == "empty weights":
        weights.write_bytes(b"")
    elif what == "weights of text":
        weights.write_text("version https://git-lfs.github.com/spec/v1\n")
    elif what == "config of text":
        config.write_text("window_px = 160")
    else:
        values = json.loads(config.read_text()) | {"other switches": {"swin": False}}.get(what, {})
        values |= {"unknown setting": {"colour": "blue"}, "unknown backbone": {"backbone": "abacus"}}.get(what, {})
        if what == "no classes":
            del values["classes"]
        config.write_text(json.dumps([values] if what == "config of another kind" else values))


@pytest.mark.parametrize(
    "what",
    [
        *("no weights", "weights cut short", "empty weights", "weights of text"),
        *("no config", "config of text", "config of another kind", "other switches", "unknown setting"),
        *("unknown backbone", "no classes"),
    ],
)
def test_damaged_weights_say_so_and_name_the_file(toy_weights, tmp_path, what):
    for file in toy_weights.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    load(tmp_path)
    damage(tmp_path, what)
    with pytest.raises(SetupError, match=str(tmp_path)):
        load(tmp_path)


@pytest.mark.parametrize("off", ["saliency", "swin", "fusion"])
def test_every_part_can_be_switched_off(off):
    torch.manual_seed(0)
    config = replace(ModelConfig(), **{off: False})
    network = SGCLDFF(config).eval()
    whole = SGCLDFF(ModelConfig())
    assert sum(p.numel() for p in network.parameters()) < sum(p.numel() for p in whole.parameters())
    answer = outputs(network, pixels(1))
    assert {name: tuple(tensor.shape) for name, tensor in answer.items()} == {
        "segments": (1, 3, 80, 80),
        "offsets": (1, 2, 80, 80),
        "features": (1, 2 * config.width, 20, 20),
        "saliency": (1, 1, SIDE, SIDE),
    }
    assert all(tensor.isfinite().all() for tensor in answer.values())


def test_saliency_reaches_the_answer_only_where_it_is_switched_on(toy_network, dark_prior):
    rgb = pixels(1)
    for guided in (True, False):
        torch.manual_seed(0)
        network = SGCLDFF(replace(toy_network.config, saliency=guided, stain=False)).eval()
        blind = outputs(network, rgb)["features"]
        network.prior.load_state_dict(dark_prior.state_dict())
        assert bool((outputs(network, rgb)["features"] != blind).any()) is guided


def test_the_prior_sees_a_dark_spot_where_it_is(dark_prior):
    rgb = torch.from_numpy(spots((50, 110), width=SIDE, height=SIDE)[None]).permute(0, 3, 1, 2) / 255
    with torch.inference_mode():
        saliency = window_saliency(dark_prior, rgb, 0.2)[0][0, 0]
    assert saliency.shape == (SIDE, SIDE)
    assert saliency[110, 50] > 0.9
    assert saliency[50, 110] < 0.1


def frozen_norm(channels):
    norm = nn.BatchNorm2d(channels, eps=1e-3).eval()
    for tensor, low, high in (
        *((norm.running_mean, -1, 1), (norm.running_var, 0.2, 3)),
        *((norm.weight, -1.5, 1.5), (norm.bias, -1, 1)),
    ):
        nn.init.uniform_(tensor, low, high)
    return norm


@pytest.mark.parametrize(("groups", "stride", "kernel"), [(1, 1, 1), (1, 2, 3), (12, 1, 3), (12, 2, 5)])
def test_a_folded_convolution_is_the_convolution_with_frozen_batch_normalisation(groups, stride, kernel):
    torch.manual_seed(groups + stride + kernel)
    conv = nn.Conv2d(12, 24, kernel, stride, kernel // 2, groups=groups, bias=False)
    norm = frozen_norm(24)
    folded = FoldedConv(conv, norm)
    one, other = (torch.randn(2, 12, 17, 17, requires_grad=True) for _ in range(2))
    other.data.copy_(one.data)
    expected, answer = norm(conv(one)), folded(other)
    torch.testing.assert_close(answer, expected, rtol=1e-4, atol=1e-5)
    expected.square().sum().backward()
    answer.square().sum().backward()
    torch.testing.assert_close(other.grad, one.grad, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("activation", [nn.ReLU(), nn.ReLU6()])
@pytest.mark.parametrize(("groups", "stride", "kernel"), [(1, 1, 1), (1, 2, 3), (32, 1, 3)])
def test_a_convolution_joined_with_its_activation_gives_what_the_two_give(groups, stride, kernel, activation, dtype):
    torch.manual_seed(groups + stride + kernel)
    conv = nn.Conv2d(32, 32, kernel, stride, kernel // 2, groups=groups).to(dtype, memory_format=torch.channels_last)
    x = 20 * torch.randn(2, 32, 17, 17).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode(), torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        expected, answer = activation(conv(x)), ActivatedConv(conv, activation)(x)
    assert answer.dtype == expected.dtype == dtype
    assert (expected == 0).any() and (expected >= 6).any()
    torch.testing.assert_close(answer, expected)


def alike(targets, answer, network):
    """A loss of all three answers against given ones."""
    logits = network.types.logits(network.types.pool(answer.features, torch.ones(2, 20, 20)))
    return (
        nn.functional.cross_entropy(answer.maps.segments, targets["segments"])
        + nn.functional.smooth_l1_loss(answer.maps.offsets / 16, targets["offsets"])
        + nn.functional.cross_entropy(logits, targets["types"])
    )


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_learns_in_all_its_parts(name):
    torch.manual_seed(0)
    network = SGCLDFF(replace(ModelConfig(), backbone=name))
    network.types.drop.eval()
    rgb = pixels(2)
    targets = {
        "segments": (rgb[:, 0, ::2, ::2] < 128).long(),
        "offsets": torch.ones(2, 2, 80, 80),
        "types": torch.tensor([1, 5]),
    }
    optimiser = torch.optim.AdamW(network.backbone.parameters(), lr=1e-4)
    before = {n: p.detach().clone() for n, p in network.backbone.named_parameters()}
    losses = []
    for _ in range(4):
        loss = alike(targets, network(rgb), network)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert [n for n, p in network.backbone.named_parameters() if torch.equal(p, before[n])] == []


@pytest.mark.parametrize("name", BACKBONES[1:])
def test_a_baseline_answers_the_same_in_training_and_alone_and_after_saving(name, tmp_path):
    torch.manual_seed(0)
    config = replace(ModelConfig(), backbone=name)
    network = SGCLDFF(config).half().float().eval()
    rgb = pixels(2)
    expected = outputs(network, rgb)
    save(network, config, tmp_path)
    assert load(tmp_path).network.config == config
    assert_same(outputs(load(tmp_path).network, rgb), expected, 1e-4)
    network.backbone.train()
    alone = [outputs(network, one[None]) for one in rgb]
    # Alone, sums run in another order; a thousandth is far less than a batch's statistics would make.
    assert_same({n: torch.cat([a[n] for a in alone]) for n in expected}, expected, 1e-3)


def test_an_unknown_backbone_names_the_choices():
    with pytest.raises(UsageError, match=r"abacus.*efficientnet_lite0, efficientnet_lite2, resnet18, swin_nano"):
        SGCLDFF(replace(ModelConfig(), backbone="abacus"))


def test_only_a_backbone_that_has_imagenet_weights_takes_them():
    with pytest.raises(ValueError, match="random weights"):
        Backbone("resnet18", 3, SIDE, swin=False, imagenet={})


def test_grad_cam_is_what_its_definition_by_gradients_gives():
    """Gradients of the class's logit averaged over space weigh the features (Selvaraju et al., 2017)."""
    torch.manual_seed(2)
    head = TypeHead(fused=32, width=64, classes=9).eval()
    features = head(torch.randn(5, 32, 20, 20)).detach().requires_grad_()
    masks = torch.rand(5, 20, 20) * (torch.rand(5, 20, 20) > 0.5)
    classes = torch.tensor([0, 3, 8, 5, 3])
    head.logits(head.pool(features, masks))[torch.arange(5), classes].sum().backward()
    weights = features.grad.mean(dim=(2, 3), keepdim=True)
    expected = torch.relu((weights * features).sum(dim=1)).detach()
    cam = head.cam(features, classes).detach()

    def scaled(maps):
        return maps / maps.amax(dim=(1, 2), keepdim=True)

    assert (expected.amax(dim=(1, 2)) > 0).all()
    torch.testing.assert_close(scaled(cam), scaled(expected), rtol=0, atol=1e-4)


def test_the_type_of_a_cell_depends_on_what_lies_inside_its_mask_alone():
    torch.manual_seed(2)
    head = TypeHead(fused=32, width=64, classes=9).eval()
    features = torch.randn(1, 64, 20, 20)
    mask = torch.zeros(1, 20, 20)
    mask[:, 5:11, 6:13] = 1
    elsewhere = torch.where(mask[:, None] > 0, features, torch.randn(1, 64, 20, 20))
    torch.testing.assert_close(head.pool(elsewhere, mask), head.pool(features, mask), rtol=1e-5, atol=1e-5)


def test_the_batch_size_does_not_change_the_answers(toy_network):
    rgb = windows(5)
    runs = [Engine(toy_network, torch.device("cpu"), torch.float32, size).predict(rgb) for size in (1, 2, 5)]
    for answers in runs[1:]:
        assert len(answers) == len(runs[0]) == 5
        for answer, alone in zip(answers, runs[0], strict=True):
            assert np.array_equal(answer.labels, alone.labels)
            assert len(answer.cells) == len(alone.cells) == 1
            np.testing.assert_allclose(answer.probabilities, alone.probabilities, atol=1e-4)
            np.testing.assert_allclose(answer.saliency, alone.saliency, atol=1e-4)
            for cell, same in zip(answer.cells, alone.cells, strict=True):
                np.testing.assert_allclose(cell.logits, same.logits, atol=1e-4)
                np.testing.assert_allclose(cell.cam, same.cam, atol=1e-4)
                assert cell.cam_in_cell == pytest.approx(same.cam_in_cell, abs=1e-4)


def test_weights_whose_classes_are_in_another_order_are_refused(toy_network, tmp_path):
    swapped = replace(toy_network.config, classes=toy_network.config.classes[::-1])
    save(toy_network, swapped, tmp_path)
    with pytest.raises(SetupError, match="in this order"):
        load(tmp_path)
