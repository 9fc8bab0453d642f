"""The shape head is learned from cells' outlines alone, with the rest of the network as it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from wbc_cli.errors import UsageError
from wbc_cli.inference.engine import Engine
from wbc_cli.manifest import Box, Sample
from wbc_cli.model.config import ModelConfig
from wbc_cli.model.files import default_folder
from wbc_cli.model.storage import load, read_config, read_state
from wbc_cli.synthetic.fields import write_field
from wbc_cli.synthetic.smear import Smear
from wbc_cli.training.data import load_image
from wbc_cli.training.run import train
from wbc_cli.training.settings import TrainSettings
from wbc_cli.training.shape_training import fit_shape
from wbc_cli.training.start import Start

CPU = torch.device("cpu")
UM_PER_PX = 0.2
KINDS = ("neutrophil", "lymphocyte")


def drawn_field(folder, seed):
    """A drawn smear with its white cells boxed, as a training image."""
    smear = Smear(640, 480, UM_PER_PX, 10, seed)
    path = folder / f"{seed}.png"
    write_field(path, smear.render(0, 0, 640, 480), UM_PER_PX)
    boxes = tuple(
        Box(cell.class_name, cell.x - cell.radius, cell.y - cell.radius, cell.x + cell.radius, cell.y + cell.radius)
        for cell in smear.truth
        if cell.class_name in KINDS
    )
    labels = tuple(box.label for box in boxes)
    return load_image(Sample(path, "drawn", "train", labels, str(seed), UM_PER_PX, None, boxes), UM_PER_PX)


@pytest.fixture(scope="module")
def fields(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fields")
    return [drawn_field(folder, seed) for seed in range(8)]


def test_it_learns_to_tell_types_by_shape_and_changes_nothing_else(fields):
    network = load(default_folder()).network
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    torch.manual_seed(0)
    for layer in network.shape.layers.modules():
        if hasattr(layer, "reset_parameters"):
            layer.reset_parameters()
    network.shape.mixing.zero_()
    fit_shape(network, fields[:6], replace(TrainSettings(), shape_steps=100), CPU)
    changed = {
        name.split(".")[0] for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])
    }
    assert changed == {"shape"}
    mixing = network.shape.mixing
    assert torch.equal(mixing, torch.diag(mixing.diagonal()))
    assert float(mixing.diagonal().min()) > 0
    right = [evidence_of(network, field, target) == target.label for field in fields[6:] for target in field.targets]
    assert len(right) > 8
    assert np.mean(right) > 0.75


def evidence_of(network, field, target):
    """Which of KINDS, as an index into the classes, the shape of the cell at a target speaks for most."""
    side = network.config.window_px
    canvas = np.pad(field.rgb, ((side, side), (side, side), (0, 0)), mode="reflect")
    scale = field.um_per_px / network.config.um_per_px
    assert scale == pytest.approx(1)
    left, top = round(target.x + side / 2), round(target.y + side / 2)
    (window,) = Engine(network, CPU, torch.float32, 1).predict(canvas[top : top + side, left : left + side][None])
    middle = window.labels[side // 4, side // 4]
    (cell,) = (cell for cell in window.cells if cell.label == middle)
    evidence = cell.features[-len(network.config.classes) :]
    return max((network.config.classes.index(kind) for kind in KINDS), key=lambda kind: evidence[kind])


@pytest.fixture
def manifest(tmp_path):
    rows = []
    for split in ("train", "val"):
        smear = Smear(200, 200, UM_PER_PX, 1, 0)
        write_field(tmp_path / f"{split}.png", smear.render(0, 0, 200, 200), UM_PER_PX)
        rows.append(f"{split}.png,neutrophil,drawn,{split},{UM_PER_PX},\n")
    (tmp_path / "manifest.csv").write_text("image,label,dataset,split,um_per_px,mask\n" + "".join(rows))
    return tmp_path / "manifest.csv"


def test_no_steps_keep_the_network_of_earlier_weights(manifest, tmp_path):
    settings, start = replace(TrainSettings(), steps=0, shape_steps=3), Start(weights=default_folder())
    train(manifest, tmp_path / "out", read_config(default_folder()), settings, (), CPU, start)
    before, after = read_state(default_folder()), read_state(tmp_path / "out")
    kept = [name for name in before if name.startswith(("backbone.", "fusion.", "segmentation.", "types.", "prior."))]
    assert all(torch.equal(before[name], after[name]) for name in kept)
    assert not torch.equal(before["shape.layers.3.weight"], after["shape.layers.3.weight"])


def test_the_shape_head_can_be_left_out(manifest, tmp_path):
    settings, start = replace(TrainSettings(), steps=0, shape_steps=3), Start(weights=default_folder())
    train(manifest, tmp_path / "out", replace(read_config(default_folder()), shape=False), settings, (), CPU, start)
    assert not read_state(tmp_path / "out")["shape.mixing"].any()


def test_no_steps_are_refused_without_weights_to_keep(manifest, tmp_path):
    with pytest.raises(UsageError, match="steps=0"):
        train(manifest, tmp_path / "out", ModelConfig(), replace(TrainSettings(), steps=0), (), CPU)
    assert not (tmp_path / "out").exists()
