"""Who cross-validates gets figures of what each model has not seen, and keeps them until something changes."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import spots, write_picture

from wbc_cli.cross_validation.away import write_away
from wbc_cli.cross_validation.measuring import Laboratory
from wbc_cli.model.files import write_checksum
from wbc_cli.model.storage import load, save
from wbc_cli.training import run
from wbc_cli.training.start import Start

PLACE, RADIUS = (60, 60), 32


def write_manifest(folder: Path) -> Path:
    """Three laboratories: typed masks with every split, one without a test split, one of untyped boxes."""
    rows = ["image,label,dataset,split,um_per_px,mask"]
    boxes = ["image,label,x0,y0,x1,y1"]

    def add(dataset, split, number, label="neutrophil"):
        name = f"{dataset}_{split}_{number}.png"
        write_picture(folder / name, spots(PLACE, width=120, height=120, radius=RADIUS))
        mask = np.zeros((120, 120), np.uint8)
        cv2.circle(mask, PLACE, RADIUS, 1, -1)
        assert cv2.imwrite(str(folder / f"mask_{name}"), mask)
        rows.append(f"{name},{label},{dataset},{split},0.2,{f'mask_{name}' if label else ''}")
        if not label:
            boxes.append(f"{name},WBC,28,28,92,92")

    for split in ("train", "val", "test"):
        for number in range(2):
            add("typed", split, number, ("neutrophil", "lymphocyte")[number])
    add("small", "train", 0)
    add("small", "val", 0, "blast")
    add("boxed", "train", 0, "")
    add("boxed", "test", 0, "")
    (folder / "boxes.csv").write_text("\n".join(boxes) + "\n")
    manifest = folder / "manifest.csv"
    manifest.write_text("\n".join(rows) + "\n")
    return manifest


def rows_of(out):
    with (out / "away.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return write_manifest(tmp_path_factory.mktemp("images"))


FOLDS = ("--fold", "typed", "--fold", "small,boxed")


@pytest.fixture
def elsewhere(toy_weights, tmp_path):
    """Weights of two folds that were trained elsewhere, the second with an account of what it has seen."""
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        shutil.copytree(toy_weights, folder)
    (folders[1] / "run.json").write_text(json.dumps({"exclude": ["boxed", "small"]}))
    return [part for folder in folders for part in ("--weights", folder)], folders


def test_each_laboratory_has_a_row_with_its_scale_hidden_and_given_and_there_is_a_mean(
    call, manifest, elsewhere, tmp_path
):
    weights, folders = elsewhere
    outcome = call("cross-validate", manifest, "-o", tmp_path / "cv", *FOLDS, *weights)
    assert outcome.code == 0
    found = rows_of(tmp_path / "cv")
    assert [(row["scale"], row["laboratory"], row["fold"], row["split"]) for row in found] == [
        (scale, *rest)
        for scale in ("hidden", "given")
        for rest in (("typed", "1", "test"), ("small", "2", "val"), ("boxed", "2", "test"), ("mean", "", ""))
    ]
    given = {row["laboratory"]: row for row in found if row["scale"] == "given"}
    # The toy network takes each window for a neutrophil: one of two is right, and a blast is none of the five types.
    assert (given["typed"]["accuracy_differential"], given["typed"]["cells"], given["typed"]["typed_cells"]) == (
        "0.5",
        "2",
        "2",
    )
    assert (given["small"]["accuracy_differential"], given["small"]["accuracy"]) == ("", "0")
    assert (given["boxed"]["found"], given["boxed"]["accuracy"]) != ("", "")
    assert (given["mean"]["accuracy_differential"], given["mean"]["accuracy"]) == ("0.5", "0.25")
    assert given["mean"]["prior_recall"] == "1"
    for figure in ("prior_area", "found", "macro_f1_differential", "cell_iou", "calibration_error_differential"):
        assert given["typed"][figure], figure
    page = (tmp_path / "cv" / "away.md").read_text()
    assert "| small (val) | 1 |" in page
    assert "not finished" not in page
    assert "small (val)" in outcome.out
    assert f"{folders[0]}: nothing says what these weights have seen" in outcome.err
    assert str(folders[1]) + ": nothing" not in outcome.err


def test_what_is_measured_is_measured_again_only_where_the_weights_or_the_truth_change(
    call, manifest, elsewhere, tmp_path
):
    (_, weights, *_), (folder, _) = elsewhere
    out = tmp_path / "cv"

    def measured(*more):
        outcome = call("cross-validate", manifest, "-o", out, "--fold", "boxed", "--weights", weights, *more)
        assert outcome.code == 0
        return [s for s in ("hidden", "given") if f"fold 1: measuring 1 images, scale {s}" in outcome.err]

    both = ["hidden", "given"]
    assert measured() == both
    before = rows_of(out)
    assert measured() == []
    assert rows_of(out) == before
    (out / "fold-1" / "scale-given" / "measured.json").unlink()  # as where a run was stopped half way
    assert measured() == ["given"]
    assert measured("--again") == both
    model = load(folder)
    model.network.types.classify.bias.data[3] += 9.0
    save(model.network, model.network.config, folder)
    assert measured() == both
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"min_confidence": 1.0}))
    assert measured() == both
    manifest = write_manifest(tmp_path)
    boxes = manifest.with_name("boxes.csv")
    boxes.write_text(boxes.read_text().replace("28,28", "27,27"))
    assert measured() == both


def test_weights_that_have_seen_what_they_are_measured_on_are_refused(call, manifest, elsewhere, tmp_path):
    weights, folders = elsewhere
    (folders[1] / "run.json").write_text(json.dumps({"exclude": ["boxed"]}))
    outcome = call("cross-validate", manifest, "-o", tmp_path / "cv", *FOLDS, *weights)
    assert outcome.code == 2
    assert f"{folders[1]}: trained with small, which fold 2 holds out" in outcome.err
    assert not (tmp_path / "cv").exists()
    (folders[1] / "run.json").write_text("[]")
    assert "not an account of a training run" in call("cross-validate", manifest, "-o", "x", *FOLDS, *weights).err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--fold", "typed,atlantis"), "the manifest has no set atlantis; it has boxed, small, typed"),
        (("--fold", "typed", "--fold", "small,typed"), "typed is held out twice"),
        (("--fold", ","), "name the data sets"),
        (("--fold", "typed", "--split", "tset"), "--split tset"),
        (("--fold", "typed", "--set", "stepz=3"), "--set stepz=3"),
        (("--fold", "typed", "--fold", "small", "--weights", "w"), "1 folders for 2 folds"),
    ],
)
def test_a_wrong_fold_is_named_before_any_work(call, manifest, tmp_path, arguments, complaint):
    outcome = call("cross-validate", manifest, "-o", tmp_path / "cv", *arguments)
    assert outcome.code == 2
    assert complaint in outcome.err
    assert not (tmp_path / "cv").exists()


def test_damaged_weights_are_an_error_of_the_environment(call, manifest, elsewhere, tmp_path):
    weights, folders = elsewhere
    (folders[0] / "sg_cldff.safetensors").write_bytes(b"no weights")
    assert call("cross-validate", manifest, "-o", tmp_path / "cv", *FOLDS, *weights).code == 5
    write_checksum(folders[0])
    assert call("cross-validate", manifest, "-o", tmp_path / "cv", *FOLDS, *weights).code == 5


def test_each_fold_is_trained_without_its_sets_and_only_once(call, manifest, toy_network, tmp_path, monkeypatch):
    trained = []

    def train(manifest, folder, config, recipe, exclude, device):
        """In place of an hour: the toy network, and the account that a run leaves."""
        trained.append((folder.name, exclude, recipe.steps))
        folder.mkdir(parents=True, exist_ok=True)
        run._same_run(folder, config, recipe, exclude, Start())
        save(toy_network, toy_network.config, folder)

    monkeypatch.setattr(run, "train", train)
    out = tmp_path / "cv"
    arguments = ("cross-validate", manifest, "-o", out, "--fold", "small", "--fold", "boxed", "--set", "steps=7")
    assert call(*arguments).code == 0
    assert trained == [("fold-1", ("small",), 7), ("fold-2", ("boxed",), 7)]
    assert len(rows_of(out)) == 6
    assert call(*arguments).code == 0
    assert len(trained) == 2
    (out / "fold-2" / "config.json").unlink()  # as where it was stopped before its end
    assert call(*arguments).code == 0
    assert trained[2:] == [("fold-2", ("boxed",), 7)]
    other = call("cross-validate", manifest, "-o", out, "--fold", "boxed", "--set", "steps=7")
    assert other.code == 2
    assert "holds a run with other settings" in other.err


def test_the_mean_is_over_the_laboratories_that_have_the_figure(tmp_path):
    def laboratory(name, **figures):
        known = {
            n: {"value": v, "low": 0.0, "high": 1.0, "n": 1, "baselines": {"majority": 0.5}} for n, v in figures.items()
        }
        return Laboratory(name, 1, "test", 1, 0, known)

    sets = [laboratory("a", found=1.0, accuracy_differential=0.8), laboratory("b", found=0.5)]
    write_away({"hidden": sets, "given": sets}, tmp_path, ["one fact"])
    mean = next(row for row in rows_of(tmp_path) if row["laboratory"] == "mean")
    assert (mean["found"], mean["accuracy_differential"], mean["cell_iou"]) == ("0.75", "0.8", "")
