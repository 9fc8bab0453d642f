"""How common the classes are in a sample has a say in the types of its cells."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wbc_cli.acquisition.file import ACQUISITIONS, Acquisition, provenance_of, still_holds
from wbc_cli.acquisition.grouping import AcquisitionKey
from wbc_cli.cells import UNKNOWN, Population
from wbc_cli.classes import CLASS_NAMES, DIFFERENTIAL_NAMES, OTHER_INDEX
from wbc_cli.inference.class_prior import MIN_CELLS, estimate_class_prior
from wbc_cli.inference.population import row_of
from wbc_cli.model.evidence import NUCLEATED, PRIOR_POWER, told_apart
from wbc_cli.model.files import default_folder
from wbc_cli.model.reference_head import KEPT, MEASURED
from wbc_cli.model.storage import load
from wbc_cli.synthetic.fields import write_field
from wbc_cli.synthetic.smear import Smear

BLOOD = {"neutrophil": 0.62, "eosinophil": 0.03, "basophil": 0.01, "lymphocyte": 0.28, "monocyte": 0.06}
SPREAD = 0.6  # of one logit; with it two thirds of evenly common cells are right


def sample(shares, cells, seed=0):
    """Labels of a sample, and probabilities that know nothing of how common the classes are."""
    random = np.random.default_rng(seed)
    labels = random.choice([CLASS_NAMES.index(name) for name in shares], cells, p=list(shares.values()))
    seen = np.eye(len(CLASS_NAMES))[labels] + random.normal(0, SPREAD, (cells, len(CLASS_NAMES)))
    scores = np.exp(seen / SPREAD**2)  # the likelihood of what is seen, for each class
    return labels, (scores / scores.sum(axis=1, keepdims=True)).astype(np.float32)


def typed(probabilities, prior):
    logits = torch.from_numpy(probabilities).log()
    shares = torch.tensor(prior).log().expand(len(logits), -1)
    return (logits + told_apart(logits, shares, NUCLEATED, 1.0)).softmax(dim=1).numpy()


def test_the_shares_of_a_blood_sample_are_found_and_put_its_types_right():
    labels, probabilities = sample(BLOOD, 300)
    prior = estimate_class_prior(probabilities)
    assert prior is not None
    assert sum(prior) == pytest.approx(1, abs=1e-3)
    for index, share in zip(NUCLEATED, prior, strict=True):
        assert share == pytest.approx(BLOOD.get(CLASS_NAMES[index], 0), abs=0.12), CLASS_NAMES[index]
    before, after = ((found.argmax(axis=1) == labels).mean() for found in (probabilities, typed(probabilities, prior)))
    assert after > before + 0.05


@given(seed=st.integers(0, 100), cells=st.integers(MIN_CELLS, 400), platelets=st.integers(0, 400))
def test_platelets_and_dirt_change_no_share_and_keep_their_probability(seed, cells, platelets):
    _, probabilities = sample(BLOOD, cells, seed)
    dirt = np.tile(np.eye(len(CLASS_NAMES), dtype=np.float32)[OTHER_INDEX], (platelets, 1))
    prior = estimate_class_prior(probabilities)
    assert estimate_class_prior(np.concatenate([probabilities, dirt])) == prior
    if prior:
        kept = typed(probabilities, prior)[:, OTHER_INDEX]
        np.testing.assert_allclose(kept, probabilities[:, OTHER_INDEX], atol=1e-5)


@given(st.sampled_from(DIFFERENTIAL_NAMES), st.integers(20, 400))
def test_no_class_is_taken_for_absent_because_none_was_seen(name, cells):
    prior = estimate_class_prior(np.eye(len(CLASS_NAMES), dtype=np.float32)[[CLASS_NAMES.index(name)] * cells])
    assert prior is not None
    assert min(prior) > 0.015


@pytest.fixture
def network():
    return load(default_folder()).network


def typed_by(network, pooled, neutrophils=UNKNOWN.neutrophils, class_prior=UNKNOWN.class_prior):
    """Final logits of cells of one shape, which belong to a population."""
    shape = torch.linspace(-3, -1, len(CLASS_NAMES)).log_softmax(dim=0).expand(len(pooled), -1)
    measures = torch.linspace(-1, 1, MEASURED).expand(len(pooled), -1)
    known = torch.from_numpy(row_of(Population(neutrophils, class_prior))).expand(len(pooled), -1)
    cells = network.type_cells(pooled, shape)
    return network.among(cells, measures, known), cells


FEATURES = torch.rand(8, 256, generator=torch.Generator().manual_seed(0)) * torch.linspace(0, 2, 8)[:, None]
COMMON = (0.6, 0.05, 0.03, 0.2, 0.06, 0.02, 0.02, 0.02)


def test_probabilities_are_multiplied_by_how_common_the_classes_are(network):
    near_and_far = torch.cat([network.typicality.centres, FEATURES])
    told, alone = typed_by(network, near_and_far, class_prior=COMMON)
    temperature = network.config.temperature * told.distance.clamp_min(1)[:, None]
    assert (told.distance > 1).any()
    assert (told.distance < 1).any()
    before = (PRIOR_POWER * alone.logits / temperature).softmax(dim=1)
    joint = before[:, NUCLEATED] * torch.tensor(COMMON)
    expected = before.clone()
    expected[:, NUCLEATED] = joint * (before[:, NUCLEATED].sum(dim=1) / joint.sum(dim=1))[:, None]
    torch.testing.assert_close((told.logits / temperature).softmax(dim=1), expected, atol=1e-4, rtol=1e-3)


def test_without_its_switch_how_common_the_classes_are_changes_nothing(network):
    network.config = replace(network.config, class_prior=False)
    told, alone = typed_by(network, FEATURES, class_prior=COMMON)
    torch.testing.assert_close(told.logits, alone.logits)


@pytest.mark.parametrize("class_prior", [None, COMMON])
@pytest.mark.parametrize("neutrophils", [None, (-1.0, 5.0, 6.0, 1.0, 0.5, -0.5, 0.2, 0.1)])
def test_what_a_profile_has_learned_arrives_whatever_is_known_of_the_population(network, neutrophils, class_prior):
    before, _ = typed_by(network, FEATURES, neutrophils, class_prior)
    weight, bias = (part.clone() for part in network.read_out())
    learned = torch.zeros(len(CLASS_NAMES))
    learned[CLASS_NAMES.index("eosinophil")] = 2
    # Profiles are learned from logits that are calibrated already.
    network.put_to_use(weight / 0.9, bias / 0.9 + learned, 1.7, 0.4)
    after, _ = typed_by(network, FEATURES, neutrophils, class_prior)
    torch.testing.assert_close(after.logits, before.logits / 0.9 + learned, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(after.evidence, before.evidence)


def test_a_sample_that_is_a_part_of_a_folder_has_no_say_of_the_others_in_it():
    key = AcquisitionKey("/blood", 640, 480, "", None)
    known = Acquisition(key, 6, (), None, (240.0, 240.0, 240.0), (0.5, 0.6, 0.3), (0.0,) * KEPT, COMMON, "")
    whole, part, none = (known.as_part_of(sample) for sample in (IN_FOLDER, BY_TABLE, None))
    assert whole.population == (known.neutrophils, COMMON)
    assert part.population == none.population == (known.neutrophils, None)
    made = provenance_of(key, part)
    assert still_holds(made, {key.id: known}, BY_TABLE)
    assert not still_holds(made, {key.id: known}, IN_FOLDER)


IN_FOLDER, BY_TABLE = {"name": "blood", "folder": "/blood"}, {"name": "patient", "folder": ""}


def test_too_few_cells_and_many_abnormal_ones_tell_nothing():
    _, few = sample(BLOOD, MIN_CELLS - 1)
    assert estimate_class_prior(few) is None
    enough = np.eye(len(CLASS_NAMES), dtype=np.float32)[[CLASS_NAMES.index("neutrophil")] * MIN_CELLS]
    assert estimate_class_prior(0.99 * enough + 0.01 / len(CLASS_NAMES)) is not None
    blasts = {name: 0.85 * share for name, share in BLOOD.items()} | {"blast": 0.15}
    assert estimate_class_prior(sample(blasts, 300)[1]) is None


def test_pictures_of_a_folder_share_how_common_the_classes_are(call, tmp_path):
    (tmp_path / "in").mkdir()
    for number in range(6):
        smear = Smear(640, 480, 0.2, 12, seed=number)
        write_field(tmp_path / f"in/{number}.png", smear.render(0, 0, 640, 480), 0.2)
    assert call("analyze", tmp_path / "in", "-o", tmp_path / "out", "--write", "none").code == 0
    (acquisition,) = json.loads((tmp_path / "out" / ACQUISITIONS).read_text())["acquisitions"]
    assert sum(acquisition["class_prior"]) == pytest.approx(1, abs=1e-3)
