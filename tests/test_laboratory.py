"""Cells are typed by the neutrophils of their own laboratory, whatever its stain, its camera and its scale."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from fakes import ArrayReader
from hypothesis import given
from hypothesis import strategies as st
from test_shape_head import SIDE, maps_of, scene

from wbc_cli.acquisition.file import ACQUISITIONS
from wbc_cli.cells import NEUTROPHILS_UNKNOWN, NUCLEUS, UNKNOWN
from wbc_cli.classes import CLASS_NAMES, CLASSES
from wbc_cli.inference.engine import Engine
from wbc_cli.inference.neutrophils import MIN_GRANULOCYTES, measure_neutrophils
from wbc_cli.inference.pipeline import Analyser
from wbc_cli.inference.population import measure_population, row_of
from wbc_cli.inference.stream import Stream
from wbc_cli.model.evidence import told_apart
from wbc_cli.model.files import default_folder
from wbc_cli.model.morphometric_head import (
    COMPARED,
    MEASURES,
    TOLD_APART,
    MorphometricHead,
    measure,
)
from wbc_cli.model.reference_head import KEPT, MEASURED, SCORED, ReferenceHead
from wbc_cli.model.storage import load
from wbc_cli.synthetic.fields import write_field
from wbc_cli.synthetic.smear import Smear
from wbc_cli.training.laboratory_training import fit_morphometry, fit_reference

CPU = torch.device("cpu")
UM_PER_PX = 0.2


def measured(nucleus=12, radius=22, cytoplasm=0.6, zoom=1.0):
    kinds = np.zeros((SIDE, SIDE), np.uint8)
    cv2.circle(kinds, (40, 40), round(zoom * radius), 1, -1)
    cv2.circle(kinds, (40, 40), round(zoom * nucleus), NUCLEUS, -1)
    logits = torch.from_numpy(10.0 * np.stack([kinds == kind for kind in range(3)])).float()
    light = np.choose(kinds, (0.9, cytoplasm, 0.2)).astype(np.float32)
    pixels = torch.from_numpy(np.repeat(np.repeat(light, 2, 0), 2, 1)).expand(3, -1, -1)
    return measure(maps_of((pixels, logits, torch.from_numpy((kinds > 0).astype(np.float32)))))[0]


@given(exposure=st.floats(0.5, 1.1), strength=st.floats(0.7, 1.5))
def test_neither_exposure_nor_the_strength_of_the_stain_changes_the_measures(exposure, strength):
    pixels, segments, cell = scene(40, 40)
    other = (exposure * (pixels / 0.9) ** strength * 0.9).clamp(0, 1)
    first, second = measure(maps_of((pixels, segments, cell), (other, segments, cell)))
    torch.testing.assert_close(first, second, atol=0.1, rtol=0)


@given(zoom=st.floats(0.7, 1.2))
def test_a_scale_that_is_wrong_changes_the_areas_of_all_cells_alike(zoom):
    small, large = (measured(nucleus, radius, zoom=zoom) for nucleus, radius in ((9, 18), (14, 22)))
    as_it_is = measured(14, 22) - measured(9, 18)
    torch.testing.assert_close((large - small)[1:COMPARED], as_it_is[1:COMPARED], atol=0.25, rtol=0)  # whole pixels


def test_a_denser_cytoplasm_measures_denser_and_nothing_else_changes():
    pale, dense = measured(cytoplasm=0.7), measured(cytoplasm=0.4)
    assert dense[0] > pale[0] + 0.5
    torch.testing.assert_close(pale[1:], dense[1:])


@given(seed=st.integers(0, 999), weight=st.floats(0, 4), classes=st.sampled_from([TOLD_APART, SCORED]))
def test_types_that_are_told_apart_keep_the_probability_that_they_have_together(seed, weight, classes):
    random = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(5, len(CLASS_NAMES), generator=random)
    apart = torch.randn(5, len(classes), generator=random).log_softmax(dim=1)
    before = logits.softmax(dim=1)
    after = (logits + told_apart(logits, apart, classes, torch.full((5,), weight))).softmax(dim=1)
    others = [index for index in range(len(CLASS_NAMES)) if index not in classes]
    torch.testing.assert_close(after[:, others], before[:, others])


WIDTH = 12


def laboratory(random, shift, count=60):
    """Cells of four types, whose measures and features are all shifted as another stain, camera or scale would."""
    kinds = torch.arange(len(TOLD_APART)).repeat_interleave(count)
    middles = torch.tensor([[-1.2, 5.0, 6.2], [-0.6, 5.1, 6.2], [-0.9, 5.0, 5.5], [-0.9, 5.6, 6.5]])
    measures = torch.zeros(len(kinds), MEASURED)
    measures[:, :COMPARED] = middles[kinds] + 0.1 * torch.randn(len(kinds), COMPARED, generator=random) + shift
    features = torch.eye(WIDTH)[kinds] + 0.2 * torch.randn(len(kinds), WIDTH, generator=random) + 5 * shift
    return measures, features, kinds


def views_of(name, laboratory):
    return [
        SimpleNamespace(
            cell=1,
            image=SimpleNamespace(
                targets=[SimpleNamespace(label=TOLD_APART[kind])], sample=SimpleNamespace(dataset=name)
            ),
            measures=measures.numpy(),
            pooled=features.numpy(),
        )
        for measures, features, kind in zip(*laboratory, strict=True)
    ]


@pytest.fixture
def seen():
    random = torch.Generator().manual_seed(0)
    labs = {str(shift): laboratory(random, shift) for shift in (0.0, 0.1, -0.1)}
    return [view for name, lab in labs.items() for view in views_of(name, lab)]


@pytest.fixture
def unseen():
    """A laboratory that is shifted far more than those that are learned from, with the mean of its neutrophils."""
    measures, features, kinds = laboratory(torch.Generator().manual_seed(1), -0.7)
    return measures, features, kinds, kinds == TOLD_APART.index(CLASS_NAMES.index("neutrophil"))


def test_measures_learned_in_some_laboratories_type_the_cells_of_one_that_is_shifted(seen, unseen):
    head = MorphometricHead()
    fit_morphometry(head, seen)
    measures, _, kinds, neutrophil = unseen
    known = measures[neutrophil, :COMPARED].median(dim=0).values.expand(len(kinds), -1)
    assert (head(measures[:, :MEASURES], known).argmax(dim=1) == kinds).float().mean() > 0.95
    assert (head(measures[:, :MEASURES], torch.zeros_like(known)).argmax(dim=1) == kinds).float().mean() < 0.6


def test_features_learned_in_some_laboratories_type_the_cells_of_one_that_is_shifted(seen, unseen):
    head = ReferenceHead(WIDTH)
    fit_reference(head, seen)
    _, features, kinds, neutrophil = unseen
    scores, truth = head.scores(features), torch.tensor(TOLD_APART)[kinds]
    known = scores[neutrophil].mean(dim=0).expand(len(kinds), -1)
    assert (torch.tensor(SCORED)[head(scores, known).argmax(dim=1)] == truth).float().mean() > 0.95
    # What moves all cells of a laboratory alike changes nothing.
    moved = head.scores(features + 3)
    torch.testing.assert_close(head(moved, moved[neutrophil].mean(dim=0).expand(len(kinds), -1)), head(scores, known))


def test_a_set_with_few_granulocytes_teaches_no_comparison(seen):
    head, few = ReferenceHead(WIDTH), seen[: MIN_GRANULOCYTES - 1]
    fit_reference(head, few)
    assert not head.weight.any()


def test_a_cell_of_an_unknown_population_is_typed_by_itself():
    network = load(default_folder()).network
    random = torch.Generator().manual_seed(0)
    shape = torch.rand(3, len(CLASS_NAMES), generator=random).log_softmax(dim=1)
    alone = network.type_cells(torch.rand(3, 2 * network.config.width, generator=random), shape)
    unknown = torch.from_numpy(row_of(UNKNOWN)).expand(3, -1)
    told = network.among(alone, torch.rand(3, MEASURED, generator=random), unknown)
    for before, after in zip(alone, told, strict=True):
        torch.testing.assert_close(before, after)


class Cell:
    def __init__(self, kind, density, *, by_shape=None):
        self.measures = np.array([density, 5, 6, 0, 0, *range(len(SCORED))], np.float32)
        self.features = np.zeros(len(CLASS_NAMES), np.float16)
        self.features[CLASS_NAMES.index(by_shape or kind)] = 1
        self.score = np.eye(len(CLASS_NAMES), dtype=np.float32)[CLASS_NAMES.index(kind)]


def neutrophils_of(*cells):
    return measure_neutrophils(cells, [cell.score for cell in cells])


def test_neutrophils_are_the_paler_granulocytes_and_other_cells_are_none():
    pale = [Cell("neutrophil", -1 - 0.01 * number) for number in range(10)]
    dense = [Cell("eosinophil", -0.3)] * 5
    found = neutrophils_of(*pale, *dense, *[Cell("lymphocyte", -3)] * 40)
    assert found is not None
    assert found[0] == pytest.approx(-1.055, abs=0.02)
    assert found[COMPARED:] == tuple(range(len(SCORED)))


def test_among_lymphocytes_a_few_granulocytes_are_blood_whatever_their_stain_makes_of_them():
    lymphocytes = [Cell("lymphocyte", -1)] * 3
    # All of them look like eosinophils, which no blood has alone.
    assert neutrophils_of(*[Cell("eosinophil", -0.3)] * 5, *lymphocytes) is not None
    assert neutrophils_of(*[Cell("eosinophil", -0.3)] * 12) is None
    assert neutrophils_of(*[Cell("neutrophil", -1)] * 3, *lymphocytes) is None
    assert neutrophils_of(*[Cell("neutrophil", -1)] * 5) is None
    # Platelets and dirt are none of the cells that these are a share of.
    assert neutrophils_of(*[Cell("neutrophil", -1)] * 5, *lymphocytes, *[Cell("platelet", -1)] * 100) is not None


def test_nothing_is_known_of_neutrophils_among_few_granulocytes_or_eosinophils():
    assert neutrophils_of() is None
    assert neutrophils_of(*[Cell("neutrophil", -1)] * (MIN_GRANULOCYTES - 1)) is None
    assert neutrophils_of(*[Cell("eosinophil", -0.3)] * 20, *[Cell("neutrophil", -1)] * 15) is None
    assert neutrophils_of(*[Cell("neutrophil", -1)] * 10, *[Cell("monocyte", -1)] * 40) is None  # they may be of these
    assert neutrophils_of(*[Cell("neutrophil", -1, by_shape="monocyte")] * 20) is None
    # A network that has not seen the laboratory may take half of its eosinophils for neutrophils; their outlines tell.
    doubtful = [Cell("neutrophil", -0.5, by_shape="eosinophil")] * 12
    assert neutrophils_of(*doubtful, *[Cell("eosinophil", -0.5)] * 12) is None


@pytest.fixture(scope="module")
def stream():
    """The shipped network, which takes most cells of the drawn smear for atypical ones, and asks their measures."""
    network = load(default_folder()).network
    network.typicality.whitening.mul_(3)
    network.morphometry.bias.copy_(torch.tensor([0.0, 3.0, 0.0, 0.0]))
    with torch.no_grad():  # with many drawn cells that look abnormal nothing would be known of how common classes are
        network.types.classify.bias[[i for i, kind in enumerate(CLASSES) if not kind.differential]] -= 12
    with Stream(Engine(network, CPU, torch.float32), 2) as stream:
        yield stream


@pytest.fixture(scope="module")
def smear():
    smear = Smear(2400, 1800, UM_PER_PX, 40, seed=3)
    return ArrayReader(smear.render(0, 0, 2400, 1800), UM_PER_PX)


def test_a_slides_own_population_types_and_explains_its_cells_as_that_of_an_acquisition_would(stream, smear):
    analyser = Analyser(stream, 0.0)
    by_itself, without = (analyser.analyse(smear, "a", population=known) for known in (None, UNKNOWN))
    own, alone, known = by_itself.cells, without.cells, by_itself.population
    assert known == measure_population(alone, stream.engine.network)
    assert known.neutrophils is not None
    assert known.class_prior is not None
    assert NEUTROPHILS_UNKNOWN in without.flags
    assert NEUTROPHILS_UNKNOWN not in by_itself.flags
    told = analyser.analyse(smear, "a", population=known).cells
    for one, other in zip(own, told, strict=True):
        assert (one.class_name, one.flags) == (other.class_name, other.flags)
        np.testing.assert_allclose(one.probabilities, other.probabilities, atol=2e-3)
        np.testing.assert_allclose(one.explanation.cam, other.explanation.cam, atol=2e-3)
    changed = [place for place, cell in enumerate(alone) if cell.class_name != own[place].class_name]
    assert changed
    for place in changed:
        mine, other = (cells[place].explanation.cam for cells in (own, alone))
        if max(mine.max(), other.max()) > 1e-3:
            assert not np.allclose(mine, other, atol=1e-3)
        else:  # nothing in the window speaks for either class, and both explanations say so
            assert "explanation" in own[place].flags
            assert "explanation" in alone[place].flags


def test_pictures_of_a_camera_share_their_neutrophils(call, tmp_path):
    for number in range(6):
        smear = Smear(640, 480, UM_PER_PX, 12, seed=number)
        (tmp_path / "in").mkdir(exist_ok=True)
        write_field(tmp_path / f"in/{number}.png", smear.render(0, 0, 640, 480), UM_PER_PX)
    for out, more in (("whole", ()), ("parts", ("--shard", "0/2")), ("parts", ("--shard", "1/2"))):
        assert call("analyze", tmp_path / "in", "-o", tmp_path / out, "--write", "none", *more).code == 0
    whole, parts = ((tmp_path / out / ACQUISITIONS).read_text() for out in ("whole", "parts"))
    assert whole == parts
    (acquisition,) = json.loads(whole)["acquisitions"]
    assert len(acquisition["neutrophils"]) == KEPT


def test_at_another_scale_the_neutrophils_of_a_camera_are_measured_anew(call, tmp_path):
    table = ["path,sample,mpp"]
    for number in range(6):
        smear = Smear(480, 360, UM_PER_PX, 8, seed=number)
        (tmp_path / "in").mkdir(exist_ok=True)
        write_field(tmp_path / f"in/{number}.png", smear.render(0, 0, 480, 360), UM_PER_PX)
        table.append(f"in/{number}.png,ann,0.17")
    (tmp_path / "table.csv").write_text("\n".join(table))
    scale, stated = ("--mpp", "0.17"), ("--samples", tmp_path / "table.csv")

    def neutrophils(out, *more):
        assert call("analyze", tmp_path / "in", "-o", tmp_path / out, "--write", "none", *more).code == 0
        (acquisition,) = json.loads((tmp_path / out / ACQUISITIONS).read_text())["acquisitions"]
        return acquisition["neutrophils"]

    first = neutrophils("out")
    assert first != neutrophils("out", *scale) == neutrophils("fresh", *scale) == neutrophils("table", *stated)


def test_a_folder_with_too_few_cells_takes_the_neutrophils_of_the_folders_beside_it(call, tmp_path):
    for name, cells in (("many", 12), ("few", 1)):
        (tmp_path / "in" / name).mkdir(parents=True)
        for number in range(6):
            smear = Smear(640, 480, UM_PER_PX, cells, seed=number)
            write_field(tmp_path / f"in/{name}/{number}.png", smear.render(0, 0, 640, 480), UM_PER_PX)

    def neutrophils(folder):
        out = tmp_path / f"out{len(folder.parts)}"
        assert call("analyze", folder, "-o", out, "--write", "none").code == 0
        found = json.loads((out / ACQUISITIONS).read_text())["acquisitions"]
        return {Path(one["key"]["folder"]).name: one["neutrophils"] for one in found}

    assert neutrophils(tmp_path / "in/few") == {"few": None}
    both = neutrophils(tmp_path / "in")
    assert both["many"]
    assert both["few"]
    assert both["few"] != both["many"]  # they are of the pictures of both
