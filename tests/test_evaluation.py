"""Whoever measures the pipeline on images of one cell gets the figures worked out by hand."""

from __future__ import annotations

import weakref
from dataclasses import replace

import numpy as np
import pytest
from lab import make_cell, rectangle

from wbc_cli.acquisition.scale import ScaleEstimates, zooms_of
from wbc_cli.cells import SlideResult
from wbc_cli.errors import SlideError, UsageError
from wbc_cli.evaluation import FIGURES, runner
from wbc_cli.evaluation.faithfulness import FaithfulnessScore, OrderScore
from wbc_cli.inference.prior_candidates import PriorCandidates
from wbc_cli.manifest import RED_CELL, WHITE_CELL, Box
from wbc_cli.morphology import ATTRIBUTES


def test_a_perfect_pipeline_scores_one_everywhere(lab):
    box, nucleus = (40, 40, 60, 60), (45, 45, 55, 55)
    looks = {name: values[0] for name, values in ATTRIBUTES.items()}
    for name in ("neutrophil", "eosinophil", "basophil", "lymphocyte", "monocyte"):
        cell = replace(make_cell(name, box, nucleus=nucleus, confidence=1.0), morphology=looks)
        lab.add(name, [cell], mask=rectangle(box, nucleus), boxes=[Box(WHITE_CELL, *box)], morphology=looks)
    lab.add("", [])
    faithful = FaithfulnessScore(OrderScore(0, 1), OrderScore(0.5, 0.5), OrderScore(0.5, 0.5), (0.0,), (0.0,), 0.6)
    figures = lab.figures(
        faithfulness=5,
        check=lambda reader, result, cell: faithful,
        find_candidates=lambda reader, um_per_px: PriorCandidates(np.array([[50.0, 50.0]]), 0.0),
    )
    zero = {
        "calibration_error",
        "calibration_error_differential",
        "prior_area",
        "brier",
        "false_cells_per_field",
        "risk_coverage_area",
        "deletion",
    }
    zero |= {f"{new}_{figure}" for new in ("new_head", "new_network") for figure in ("correlation", "likeness")}
    assert set(figures) == set(FIGURES)
    for name, figure in figures.items():
        assert figure.value == (0 if name in zero else 1), name
    assert figures["accuracy"].n == 5
    assert figures["accuracy"].low == pytest.approx(0.025 ** (1 / 5))  # Clopper-Pearson, all of 5 right


def test_a_pipeline_that_is_always_wrong_scores_zero(lab):
    lab.add("neutrophil", [make_cell("monocyte")])
    lab.add("monocyte", [make_cell("neutrophil")])
    summary = lab.evaluate().pooled
    for name in ("accuracy", "accuracy_identified", "macro_f1", "macro_f1_differential"):
        assert summary.figures[name].value == 0
    assert summary.figures["coverage"].value == 1
    assert summary.classes["neutrophil"]["sensitivity"].value == 0
    assert summary.classes["neutrophil"]["specificity"].value == 0
    assert summary.confusion["neutrophil"]["monocyte"] == 1


def test_a_missed_cell_counts_as_wrong_and_its_outline_as_zero(lab):
    lab.add("neutrophil", [], mask=rectangle((40, 40, 60, 60), (45, 45, 55, 55)))
    lab.add("neutrophil", [make_cell("neutrophil")], mask=rectangle((40, 40, 60, 60)))
    summary = lab.evaluate().pooled
    assert summary.figures["accuracy"].value == 0.5
    assert summary.figures["found"].value == 0.5
    assert summary.figures["cell_iou"].value == 0.5
    assert (summary.figures["nucleus_iou"].value, summary.figures["nucleus_iou"].n) == (0, 1)
    assert summary.confusion["neutrophil"] | {"neutrophil": 1, "missed": 1} == summary.confusion["neutrophil"]


def test_the_cell_nearest_the_centre_answers(lab):
    far, near = make_cell("neutrophil", (0, 0, 20, 20)), make_cell("monocyte", (45, 30, 65, 50))
    lab.add("monocyte", [far, near], mask=rectangle((45, 30, 65, 50)))
    figures = lab.figures()
    assert figures["accuracy"].value == 1
    assert figures["cell_iou"].value == 1  # the other cell is no part of the comparison


def test_unidentified_is_wrong_but_coverage_and_accuracy_among_the_identified_tell_it_apart(lab):
    lab.add("neutrophil", [make_cell("unidentified", likeliest="neutrophil", confidence=0.4)])
    lab.add("neutrophil", [make_cell("neutrophil")])
    lab.add("neutrophil", [make_cell("neutrophil")])
    lab.add("neutrophil", [make_cell("eosinophil")])
    figures = lab.figures()
    assert figures["accuracy"].value == 0.5
    assert figures["coverage"].value == 0.75
    assert figures["accuracy_identified"].value == pytest.approx(2 / 3)
    assert figures["accuracy_identified"].n == 3
    # Calibration asks for the likeliest class, identified or not: 0.4 and 0.9 twice right, 0.9 once wrong.
    assert figures["brier"].value == pytest.approx((0.6**2 + 0.1**2 + 0.1**2 + 0.9**2) / 4)


def test_an_erythroblast_must_be_typed_as_one(lab):
    lab.add("erythroblast", [make_cell("erythroblast")])
    lab.add("erythroblast", [make_cell("lymphocyte")])
    assert lab.figures()["accuracy"].value == 0.5


def test_an_image_of_a_platelet_is_right_where_no_white_cell_is_reported(lab):
    lab.add("platelet", [])
    lab.add("platelet", [make_cell("platelet")])
    lab.add("platelet", [make_cell("platelet"), make_cell("lymphocyte", (0, 0, 20, 20))])
    lab.add("platelet", [make_cell("unidentified")])
    lab.add("platelet", SlideError("x: unreadable"))
    lab.add("platelet", [], boxes=[Box("platelet", 0, 0, 9, 9), Box(RED_CELL, 0, 0, 9, 9)])
    summary = lab.evaluate().pooled
    counts = {answer: count for answer, count in summary.confusion["platelet"].items() if count}
    assert counts == {"platelet": 3, "lymphocyte": 1, "unidentified": 1, "missed": 1}
    assert summary.figures["accuracy"].value == 0.5


def test_not_blast_is_right_with_any_other_type_and_blast_only_with_blast(lab):
    lab.add("blast", [make_cell("blast", confidence=0.8)])
    lab.add("blast", [make_cell("lymphocyte")])
    lab.add("not_blast", [make_cell("lymphocyte", confidence=0.84)])  # 0.02 is left for blast
    lab.add("not_blast", [make_cell("neutrophil", confidence=0.84)])
    lab.add("not_blast", [make_cell("blast", confidence=0.8)])
    lab.add("not_blast", [])
    lab.add("not_blast", [make_cell("unidentified")])
    summary = lab.evaluate().pooled
    assert summary.figures["accuracy"].value == pytest.approx(3 / 7)
    # blast: 1 hit, 1 false, 1 missed; not_blast: 2 hits, 1 false (the blast called lymphocyte), 3 not so answered.
    assert summary.classes["blast"]["f1"].value == pytest.approx(2 / 4)
    assert summary.classes["not_blast"]["f1"].value == pytest.approx(4 / 8)
    assert summary.figures["macro_f1"].value == pytest.approx(0.5)
    assert "macro_f1_differential" not in summary.figures


def test_confidence_in_not_blast_is_what_is_left_beside_blast(lab):
    lab.add("not_blast", [make_cell("lymphocyte", confidence=0.84)])
    assert lab.figures()["brier"].value == pytest.approx(0.02**2)


def test_a_blast_in_a_set_of_all_types_keeps_the_answer_it_got(lab):
    lab.add("blast", [make_cell("lymphocyte")], dataset="typed")
    lab.add("not_blast", [make_cell("lymphocyte")], dataset="binary")
    first, second = lab.evaluate().datasets
    assert (first.name, second.name) == ("binary", "typed")
    assert second.confusion["blast"]["lymphocyte"] == 1
    assert first.confusion["not_blast"]["not_blast"] == 1


def test_macro_f1_is_over_the_classes_of_the_truth(lab):
    for answer in ("neutrophil", "neutrophil", "monocyte", "basophil"):
        lab.add("neutrophil", [make_cell(answer)])
    lab.add("monocyte", [make_cell("monocyte")])
    lab.add("erythroblast", [make_cell("neutrophil")])
    figures = lab.figures()
    # All: N 2 hits, 1 false, 2 missed = 4/7; M 1 hit, 1 false = 2/3; erythroblast 0; basophil is in no truth.
    assert figures["macro_f1"].value == pytest.approx((4 / 7 + 2 / 3) / 3)
    # The five types: without the erythroblast, N is 4/6.
    assert (figures["accuracy"].value, figures["accuracy_differential"].value) == (pytest.approx(3 / 6), 3 / 5)
    assert figures["macro_f1_differential"].value == pytest.approx((4 / 6 + 2 / 3) / 2)
    assert (figures["macro_f1"].n, figures["macro_f1_differential"].n) == (6, 5)


# Negatives, failures, scale


def test_in_a_field_without_white_cells_none_must_be_reported(lab):
    lab.add("", [])
    lab.add("", [make_cell("platelet")], boxes=[Box(RED_CELL, 0, 0, 9, 9)])
    lab.add("", [make_cell("unidentified"), make_cell("neutrophil")], mask=rectangle((0, 0, 0, 0)))
    lab.add("", SlideError("x: unreadable"))
    figures = lab.figures()
    assert (figures["negatives_right"].value, figures["negatives_right"].n) == (0.5, 4)
    assert (figures["false_cells_per_field"].value, figures["false_cells_per_field"].n) == (pytest.approx(2 / 3), 3)
    assert set(figures) == {"negatives_right", "false_cells_per_field"}


def test_a_bad_image_counts_as_wrong_and_is_reported(lab):
    lab.add("neutrophil", SlideError("0.png: cut short; copy it again"), mask=rectangle((40, 40, 60, 60)))
    lab.add("", SlideError("1.png: cut short"), boxes=[Box("monocyte", 0, 0, 9, 9)])
    lab.add("neutrophil", [make_cell("neutrophil")])
    evaluation = lab.evaluate()
    figures = evaluation.pooled.figures
    assert [(f.image, f.reason) for f in evaluation.failures] == [
        (str(lab.samples[0].image), "0.png: cut short; copy it again"),
        (str(lab.samples[1].image), "1.png: cut short"),
    ]
    assert (evaluation.pooled.images, evaluation.pooled.failed) == (3, 2)
    assert figures["accuracy"].value == pytest.approx(1 / 3)
    assert figures["cell_iou"].value == 0
    assert figures["detection_recall"].value == 0
    assert "detection_precision" not in figures  # of nothing reported


def test_errors_of_the_tool_itself_are_not_taken_for_bad_images(lab):
    def broken(reader, um_per_px, shared):
        raise RuntimeError("bug")

    lab.add("neutrophil", [])
    with pytest.raises(RuntimeError, match="bug"):
        lab.evaluate(analyse=broken)


def test_ignore_scale_hides_the_scale_from_the_pipeline(lab):
    lab.add("neutrophil", [])
    lab.evaluate()
    assert set(lab.scales) == {0.1}
    lab.scales.clear()
    assert lab.evaluate(ignore_scale=True).to_dict()["conditions"]["ignore_scale"] is True
    assert set(lab.scales) == {None}


def test_nothing_to_evaluate_is_a_usage_error(lab):
    with pytest.raises(UsageError, match="no images"):
        lab.evaluate()


def test_progress_is_told_and_results_are_let_go_of(lab, monkeypatch):
    results: list[weakref.ref[SlideResult]] = []
    alive: list[int] = []
    steps: list[tuple[int, int]] = []

    def analyse(reader, um_per_px, shared):
        alive.append(sum(result() is not None for result in results))
        result = lab.analyse(reader, um_per_px)
        results.append(weakref.ref(result))
        return result

    for _ in range(20):
        lab.add("neutrophil", [make_cell("neutrophil")], mask=rectangle((40, 40, 60, 60)))
    monkeypatch.setattr(runner, "CONCURRENT_IMAGES", 3)
    lab.evaluate(analyse=analyse, progress=lambda done, total: steps.append((done, total)))
    assert steps == [(done, 20) for done in range(1, 21)]
    assert max(alive) <= 3 + 2  # one is begun and one is let go of while they change places


def test_images_of_a_set_share_the_scale_that_is_hidden_as_pictures_of_an_acquisition_do(lab):
    for _ in range(6):
        lab.add("neutrophil", [])
    found = []

    def analyse(reader, um_per_px, shared):
        found.append((um_per_px, [scale.um_per_px for scale in shared.scales]))
        return lab.analyse(reader, um_per_px)

    def measure_scale(reader):
        zooms = zooms_of(reader.width, reader.height)
        return ScaleEstimates(zooms, np.log(0.2) + np.zeros(len(zooms)))

    lab.evaluate(analyse=analyse, ignore_scale=True, measure_scale=measure_scale)
    assert {um_per_px for um_per_px, _ in found} == {None}
    assert {tuple(np.round(scales, 3)) for _, scales in found} == {(0.2,)}
    found.clear()
    lab.evaluate(analyse=analyse, measure_scale=measure_scale)
    assert {tuple(scales) for _, scales in found} == {()}
