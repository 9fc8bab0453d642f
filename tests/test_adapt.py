"""A laboratory's profile: learned where reviewed cells teach something, used where it fits, and refused otherwise."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import TOY_UM_PER_PX, spots, write_picture
from fakes import blank, disc, make_cell, make_result

from wbc_cli.classes import CLASS_NAMES
from wbc_cli.errors import UsageError
from wbc_cli.evaluation.predictions import Prediction
from wbc_cli.model.config import ModelConfig
from wbc_cli.model.network import SGCLDFF
from wbc_cli.model.storage import LoadedModel, load, save
from wbc_cli.products.folder import RunFolder
from wbc_cli.profile.adapt import ProfileLearner, adapt
from wbc_cli.profile.apply import apply_profile
from wbc_cli.profile.evidence import Evidence, learn_head
from wbc_cli.profile.few_shot import few_shot
from wbc_cli.profile.file import Profile, read_profile
from wbc_cli.profile.head import FeatureStatistics, LinearHead, TrainingCells, fit_head

POOLED = 128
WIDTH = POOLED + len(CLASS_NAMES)
KINDS = 5


def laboratory(count, seed, noise=3.0):
    """Cells of five types whose features lie elsewhere than the shipped head expects: it takes types 1 and 2 for 3."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(7).normal(0, 1, (KINDS, WIDTH))
    labels = random.choice(KINDS, count, p=(0.4, 0.2, 0.1, 0.2, 0.1))
    features = centres[labels] + random.normal(0, noise, (count, WIDTH))
    slides = np.array([f"s{number // 3:03d}" for number in range(count)])
    weight = np.zeros((len(CLASS_NAMES), WIDTH))
    weight[:KINDS] = 0.06 * centres
    weight[[1, 2]] = 0
    weight[3] += 0.02 * (centres[1] + centres[2])
    bias = np.r_[-0.03 * (centres**2).sum(axis=1), np.full(len(CLASS_NAMES) - KINDS, -30.0)]
    return TrainingCells(features, labels, slides, np.ones(count)), LinearHead(weight, bias)


def learned(cells, head):
    return learn_head(cells, head, FeatureStatistics.of(cells.features), 0.5)


def right(head, cells):
    return float((head.logits(cells).argmax(axis=1) == cells.labels).mean())


def test_what_a_profile_is_said_to_bring_it_brings_on_cells_it_has_not_seen():
    cells, shipped = laboratory(120, 1)
    found, (others, _) = learned(cells, shipped), laboratory(2000, 2)
    evidence = found.evidence
    assert not evidence.objection
    assert evidence.before == pytest.approx(right(shipped, others), abs=0.08)
    assert evidence.after == pytest.approx(right(found.head, others), abs=0.06)
    assert evidence.after > evidence.before + 0.15
    assert evidence.gain_low < evidence.after - evidence.before < evidence.gain_high
    assert evidence.ece_after < evidence.ece_before


def test_labels_at_random_yield_no_profile():
    cells, shipped = laboratory(80, 3)
    for attempt in range(20):
        random = np.random.default_rng(attempt)
        labels = random.permutation(cells.labels) if attempt % 2 else random.integers(0, KINDS, len(cells))
        evidence = learned(replace(cells, labels=labels), shipped).evidence
        assert "does not follow from how the cells look" in evidence.objection


def test_where_the_shipped_head_is_right_no_profile_is_written():
    cells, _ = laboratory(100, 4, noise=0.3)
    centres = np.stack([cells.features[cells.labels == kind].mean(axis=0) for kind in range(KINDS)])
    weight = np.zeros((len(CLASS_NAMES), WIDTH))
    weight[:KINDS] = 0.1 * centres
    bias = np.r_[-0.05 * (centres**2).sum(axis=1), np.full(len(CLASS_NAMES) - KINDS, -30.0)]
    assert "not surely better" in learned(cells, LinearHead(weight, bias)).evidence.objection


def test_a_class_of_few_cells_keeps_the_shipped_head():
    cells, shipped = laboratory(60, 5)
    few = cells[(cells.labels != 4) | (np.cumsum(cells.labels == 4) <= 2)]
    head = fit_head(few, shipped, FeatureStatistics.of(cells.features))
    for kind in range(len(CLASS_NAMES)):
        same = np.array_equal(head.weight[kind], shipped.weight[kind]) and head.bias[kind] == shipped.bias[kind]
        assert same == (kind >= 4)


@pytest.fixture(scope="module")
def model():
    """A small model, as if it had been loaded, with a shipped head for `laboratory`."""
    torch.manual_seed(0)
    network = SGCLDFF(ModelConfig(backbone="efficientnet_lite0", width=POOLED // 2)).eval()
    _, head = laboratory(1, 0)
    network.set_read_out(torch.from_numpy(head.weight), torch.from_numpy(head.bias))
    return LoadedModel(network, None, "made up")


@pytest.fixture
def run(tmp_path):
    """A run of thirty slides with four cells each, and a review of all of them."""
    folder, lines = RunFolder(tmp_path / "run"), ["slide,cell,class\n"]
    made = {"model": {"weights": "made up"}}
    for number in range(30):
        cells, _ = laboratory(4, 100 + number)
        found = [
            replace(make_cell(i + 1, disc(20), 10 + 40 * i, 10), features=cells.features[i].astype(np.float16))
            for i in range(4)
        ]
        name = f"s{number}"
        folder.commit(make_result(found, 300, 200, name), blank(), frozenset({"features"}), made)
        lines += [f"{name},{i + 1},{CLASS_NAMES[cells.labels[i]]}\n" for i in range(4)]
    (tmp_path / "review.csv").write_text("".join(lines))
    return tmp_path


def test_a_profile_survives_the_disk_and_changes_the_head(run, model):
    profile, _, objection = adapt(model, [run / "run"], [run / "review.csv"])
    assert not objection
    assert profile.reviewed["neutrophil"] > 20
    profile.write(run / "lab.json")
    again = read_profile(run / "lab.json")
    assert again == profile
    assert (run / "lab.json").stat().st_size < 50_000
    network = SGCLDFF(model.network.config)
    network.load_state_dict(model.network.state_dict())
    apply_profile(again, LoadedModel(network, None, "made up"), run / "lab.json")
    assert network.config.temperature == profile.temperature
    assert not torch.equal(network.types.classify.weight, model.network.types.classify.weight)
    with pytest.raises(UsageError, match="learned with other weights"):
        apply_profile(again, LoadedModel(network, None, "others"), run / "lab.json")


def test_the_command_writes_a_profile_only_where_it_is_better(call, run, model):
    save(model.network, model.network.config, run / "weights")
    checksum = load(run / "weights").checksum
    for file in run.glob("run/slides/*/slide.json"):
        file.write_text(file.read_text().replace("made up", checksum))
    command = ("adapt", run / "run", "--weights", run / "weights", "-o", run / "lab.json", "--review")
    lines = (run / "review.csv").read_text().splitlines()
    kinds = np.random.default_rng(0).permutation([line.split(",")[2] for line in lines[1:]])
    at_random = [line.rpartition(",")[0] + f",{kind}" for line, kind in zip(lines[1:], kinds, strict=True)]
    (run / "random.csv").write_text("\n".join([lines[0], *at_random]))
    refused = call(*command, run / "random.csv")
    assert refused.code == 4
    assert "no profile is written" in refused.err
    assert not (run / "lab.json").exists()
    answer = call(*command, run / "review.csv")
    assert answer.code == 0
    assert "from 120 cells on 30 slides" in " ".join(answer.err.split())
    assert read_profile(run / "lab.json").weights_sha256 == checksum


def test_reviews_of_several_runs_teach_together_and_unidentified_ones_nothing(run, model):
    lines = (run / "review.csv").read_text().splitlines(keepends=True)
    (run / "one.csv").write_text("".join(lines[:61]))
    (run / "two.csv").write_text("".join([lines[0], *lines[61:]]).replace(",basophil", ",unidentified"))
    profile, reviewed, _ = adapt(model, [run / "run"], [run / "one.csv", run / "two.csv"])
    assert len(reviewed.labels) + reviewed.undecided == 120
    assert reviewed.undecided > 0
    assert sum(profile.reviewed.values()) == len(reviewed.labels)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.replace("s3,2,", "s3,99,"), "no cell '99'"),
        (lambda text: text + "s3,2,platelet\n", "says platelet"),
        (lambda text: "".join(text.splitlines(keepends=True)[:9]), "review 25 or more"),
    ],
)
def test_a_review_that_cannot_teach_is_refused_with_the_reason(run, model, change, said):
    review = run / "review.csv"
    review.write_text(change(review.read_text()))
    with pytest.raises(UsageError, match=said):
        adapt(model, [run / "run"], [review])


def test_features_that_were_not_kept_are_asked_for(run, model):
    (run / "run/slides/s5/features.safetensors").unlink()
    with pytest.raises(UsageError, match="analyse the slide again"):
        adapt(model, [run / "run"], [run / "review.csv"])


def test_a_run_of_other_weights_is_refused(run, model):
    with pytest.raises(UsageError, match="other weights"):
        adapt(replace(model, checksum="others"), [run / "run"], [run / "review.csv"])


@pytest.mark.parametrize("damage", ["cut", "changed", "foreign", "none"])
def test_a_damaged_or_foreign_profile_is_refused(run, model, damage):
    profile, _, _ = adapt(model, [run / "run"], [run / "review.csv"])
    file = run / "lab.json"
    profile.write(file)
    text = file.read_text()
    changed = json.dumps({**json.loads(text), "temperature": 3.0})
    file.write_text({"cut": text[:-20], "changed": changed, "foreign": '{"a": 1}', "none": ""}[damage])
    with pytest.raises(UsageError, match=str(file)):
        read_profile(file)


def test_few_shot_measures_on_cells_that_were_not_reviewed(lab, model):
    """Each image is a group; where the review teaches, the rest is right more often, by whichever cells."""
    cells, _ = laboratory(200, 11)
    lab.samples.clear()
    scores = []
    for i in range(len(cells)):
        lab.add(CLASS_NAMES[cells.labels[i]], [])
    for score, label, features in zip(lab.evaluate().scores, cells.labels, cells.features, strict=True):
        prediction = Prediction(CLASS_NAMES[label], "neutrophil", 0.9, features=features.astype(np.float16))
        scores.append(replace(score, predictions=(prediction,)))
    rows = few_shot(scores, ProfileLearner(model), [50, 100, 190], seeds=2)
    # a quarter of the 200 is measured on, so that there are no 190 to review
    assert [(row.reviewed, row.draw) for row in rows] == [(n, draw) for n in (50, 100) for draw in ("random", "chosen")]
    assert all(row.after > row.before + 0.05 for row in rows)
    after = {(row.draw, row.reviewed): row.after for row in rows}
    assert after["chosen", 50] > after["random", 50]
    assert all(row.written == 1 for row in rows)


def test_analyze_uses_a_profile_and_says_so(call, toy_network, toy_weights, tmp_path):
    """The toy network calls everything a neutrophil; the profile, that everything is a monocyte."""
    write_picture(tmp_path / "in/a.png", spots((100, 100), (350, 100)))
    common = ("--weights", toy_weights, "--mpp", TOY_UM_PER_PX, "--device", "cpu", "-o", tmp_path / "out")
    common = (*common, "--write", "report")
    assert call("analyze", tmp_path / "in", *common).code == 0
    checksum = json.loads((tmp_path / "out/run.json").read_text())["weights_sha256"]
    head = toy_network.read_out()
    profile_of(checksum, head).write(tmp_path / "lab.json")
    assert call("analyze", tmp_path / "in", *common, "--profile", tmp_path / "lab.json").code == 0
    with (tmp_path / "out/cells.csv").open() as file:
        assert [line.split(",")[8] for line in file][1:] == ["monocyte", "monocyte"]
    run = json.loads((tmp_path / "out/run.json").read_text())
    assert run["profile"]["profile_sha256"] == read_profile(tmp_path / "lab.json").checksum
    page = (tmp_path / "out/report.html").read_text(encoding="utf-8")
    assert "learned from 100 reviewed cells on 30 slides" in page
    profile_of("0" * 64, head).write(tmp_path / "lab.json")
    refused = call("analyze", tmp_path / "in", *common, "--profile", tmp_path / "lab.json")
    assert refused.code == 2
    assert "other weights" in refused.err


def profile_of(checksum, head):
    """A profile that calls a monocyte what the head calls a neutrophil."""
    swapped = [4, 1, 2, 3, 0, *range(5, len(CLASS_NAMES))]
    weight, bias = (parameter.detach()[swapped].tolist() for parameter in head)
    evidence = vars(Evidence(100, 30, 0.8, 0.9, 0.05, 0.15, 0.1, 0.1, 0.05, 0.8, 0.95, 0.97))
    return Profile(checksum, CLASS_NAMES, {"monocyte": 100}, ("monocyte",), weight, bias, 1.0, 0.0, evidence)
