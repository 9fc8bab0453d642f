"""Cells are described by what the network sees in them, and in words that a haematologist would use."""

from __future__ import annotations

import copy
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import spots, write_picture
from lab import Lab, make_cell

from wbc_cli.classes import CLASS_NAMES
from wbc_cli.inference.engine import Engine
from wbc_cli.inference.pipeline import Analyser
from wbc_cli.inference.stream import Stream
from wbc_cli.manifest import Sample
from wbc_cli.model.morphology_head import PARTS, MorphologyHead
from wbc_cli.model.reference_head import MEASURED
from wbc_cli.morphology import ATTRIBUTES, describe
from wbc_cli.slides import open_slide
from wbc_cli.training.centred import CentredView
from wbc_cli.training.data import IGNORE, Target, TrainingImage
from wbc_cli.training.morphology_training import fit_morphology


def unmasked_view():
    """A cell without a mask, as the network sees it."""
    sample = Sample(Path("a.png"), "drawn", "train", ("monocyte",), "a", 0.2, None, ())
    code = np.full((160, 160), IGNORE, np.uint8)
    rgb = np.zeros((160, 160, 3), np.uint8)
    image = TrainingImage(sample, rgb, 0.2, code, (Target(80, 80, 0, 4),), False, np.zeros(3, np.uint8))
    cells = np.zeros((80, 80), np.uint8)
    cells[30:50, 30:50] = 1
    probabilities = np.eye(3, dtype=np.float32)[cells].transpose(2, 0, 1)
    features = [np.zeros(width, np.float32) for width in (4, 9, 6)]
    return CentredView(image, rgb, probabilities, cells, 1, *features, np.zeros(MEASURED, np.float32), code)


EOSINOPHIL = {
    "cell_size": "big",
    "cell_shape": "round",
    "nucleus_shape": "segmented-bilobed",
    "nuclear_cytoplasmic_ratio": "low",
    "chromatin_density": "densely",
    "cytoplasm_vacuole": "no",
    "cytoplasm_texture": "clear",
    "cytoplasm_colour": "light blue",
    "granule_type": "round",
    "granule_colour": "red",
    "granularity": "yes",
}
LYMPHOCYTE = EOSINOPHIL | {
    "nucleus_shape": "unsegmented-round",
    "nuclear_cytoplasmic_ratio": "high",
    "granule_type": "nil",
    "granule_colour": "nil",
    "granularity": "no",
}


def test_a_cell_is_described_as_one_would_say_it():
    assert describe(EOSINOPHIL) == "bilobed nucleus, dense chromatin, round red granules, light blue cytoplasm"
    assert describe(LYMPHOCYTE) == "round nucleus, dense chromatin, no granules, little light blue cytoplasm"
    odd = LYMPHOCYTE | {"cell_shape": "irregular", "cytoplasm_vacuole": "yes", "cytoplasm_texture": "frosted"}
    assert describe(odd).endswith("little frosted light blue cytoplasm, vacuoles, irregular outline")
    assert describe({}) == ""


def test_parts_of_a_cell_are_pooled_by_themselves():
    cells = torch.zeros(1, 2, 8, 8)
    cells[0, 0, :4] = 1
    cells[0, 1, 4:, 4:] = 1
    segments = torch.zeros(1, 3, 8, 8)
    segments[0, 2, :, :4] = 1  # the left half would be nucleus
    segments[0, 1, :, 4:] = 1
    features = torch.arange(4.0).repeat_interleave(16).reshape(1, 1, 8, 8)[:, :, ::2, ::2]
    columns = torch.arange(4.0).expand(1, 1, 4, 4)
    pooled = MorphologyHead.pool(features, columns, segments, cells).reshape(2, PARTS, 2)
    assert pooled[0, :, 1].tolist() == [1.5, 0.5, 2.5]  # whole cell, nucleus, cytoplasm
    assert pooled[1, :, 1].tolist() == [2.5, 0.0, 2.5]  # a cell without a nucleus
    assert pooled[0, 0, 0] == pytest.approx(float(features[0, 0, :2].mean()))
    assert MorphologyHead.pool(features, columns, segments, 0 * cells).abs().sum() == 0


def described(values, features):
    known = unmasked_view()
    sample = replace(known.image.sample, morphology=values)
    return replace(known, image=replace(known.image, sample=sample), parts=features.astype(np.float32))


def test_the_head_learns_attributes_that_the_features_tell():
    random = np.random.default_rng(0)
    centres = {"eosinophil": random.normal(size=PARTS * 2), "lymphocyte": random.normal(size=PARTS * 2)}

    def cells(count):
        return [
            described(values, centres[name] + 0.2 * random.normal(size=PARTS * 2))
            for name, values in (("eosinophil", EOSINOPHIL), ("lymphocyte", LYMPHOCYTE))
            for _ in range(count)
        ]

    head = MorphologyHead(2)
    fit_morphology(head, cells(60), cells(5), seed=0)
    unseen = cells(20)
    with torch.no_grad():
        found = head.predict(torch.tensor(np.stack([cell.parts for cell in unseen])))
    for cell, row in zip(unseen, found.tolist(), strict=True):
        named = {name: values[i] for (name, values), i in zip(ATTRIBUTES.items(), row, strict=True)}
        assert named == cell.image.sample.morphology


def test_without_attributes_the_head_stays_as_it_is():
    head = MorphologyHead(2)
    before = {name: tensor.clone() for name, tensor in head.state_dict().items()}
    fit_morphology(head, [described({}, np.zeros(PARTS * 2))], [], seed=0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in head.state_dict().items())


@pytest.mark.parametrize(
    ("class_name", "is_described"), [("eosinophil", True), ("erythroblast", False), ("platelet", False)]
)
def test_only_cells_of_the_types_that_have_attributes_are_described(tmp_path, toy_network, class_name, is_described):
    network = copy.deepcopy(toy_network)
    with torch.no_grad():
        network.types.classify.bias[CLASS_NAMES.index(class_name)] += 9
        network.morphology.layers[-1].bias[0] -= 9  # not small, so big
    image = write_picture(tmp_path / "a.png", spots((100, 100)))
    with closing(open_slide(image)) as reader:
        engine = Engine(network, torch.device("cpu"), torch.float32, 4)
        cells = Analyser(Stream(engine, 1), 0.0).analyse(reader, "a", 0.4).cells
    assert cells
    for cell in cells:
        assert (cell.morphology.get("cell_size") == "big") == is_described
        assert bool(cell.morphology) == is_described


def test_attributes_are_scored_and_a_cell_without_any_is_wrong(tmp_path):
    lab = Lab(tmp_path)
    for found in (EOSINOPHIL, EOSINOPHIL, LYMPHOCYTE, {}):
        truth = EOSINOPHIL if found != LYMPHOCYTE else LYMPHOCYTE
        cell = replace(make_cell("eosinophil", (40, 40, 60, 60)), morphology=found)
        lab.add("eosinophil", [cell], morphology=truth)
    figures = lab.figures()
    assert figures["morphology_granularity"].n == 4
    assert figures["morphology_granularity"].value == pytest.approx((0.8 + 1) / 2)  # two of three, and one of one
    assert figures["morphology_granularity"].baselines["majority"] == pytest.approx((6 / 7 + 0) / 2)
    assert figures["morphology_cell_size"].value == pytest.approx(6 / 7)
    assert 0.8 < figures["morphology_macro_f1"].value < 0.95
