"""What `wbc-cli evaluate` says of results whose right answers are known by hand."""

from __future__ import annotations

import io
import json
import weakref
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rich.console import Console

from wbc_cli.cells import Cell, Explanation, Scale, SlideResult
from wbc_cli.classes import CLASS_NAMES
from wbc_cli.errors import SlideError, UsageError
from wbc_cli.evaluation import FIGURES, evaluate, tables
from wbc_cli.evaluation import metrics as m
from wbc_cli.evaluation.matching import MATCH_IOU, box_iou, match_by_centre, match_by_iou
from wbc_cli.manifest import RED_CELL, WHITE_CELL, Box, Sample, read_manifest

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
SIDE = 100  # of every made-up image


def make_cell(name, box=(40, 40, 60, 60), *, confidence=0.9, likeliest=None, nucleus=None, cam=None, window=None):
    """A rectangular cell whose window is the whole image, and whose Grad-CAM is its own outline."""
    x0, y0, x1, y1 = box
    mask = np.ones((y1 - y0, x1 - x0), np.uint8)
    if nucleus:
        mask[nucleus[1] - y0 : nucleus[3] - y0, nucleus[0] - x0 : nucleus[2] - x0] = 2
    likeliest = likeliest or (name if name in CLASS_NAMES else CLASS_NAMES[0])
    probabilities = np.full(len(CLASS_NAMES), (1 - confidence) / (len(CLASS_NAMES) - 1), np.float32)
    probabilities[CLASS_NAMES.index(likeliest)] = confidence
    if cam is None:
        cam = np.zeros((SIDE, SIDE), np.float32)
        cam[y0:y1, x0:x1] = 1
    inside = np.zeros_like(cam, bool)
    inside[y0:y1, x0:x1] = True
    return Cell(
        id=1,
        x=(x0 + x1) / 2,
        y=(y0 + y1) / 2,
        box=box,
        mask=mask,
        class_name=name,
        probabilities=probabilities,
        confidence=confidence,
        area_um2=1.0,
        nucleus_area_um2=0.0,
        saliency=1.0,
        cam_in_cell=float(cam[inside].sum() / cam.sum()),
        explanation=Explanation(*(window or (0, 0, SIDE)), cam, cam),
    )


class Lab:
    """A folder of made-up images, and a pipeline that finds in each what the test says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.samples: list[Sample] = []
        self.found: dict[Path, list[Cell] | SlideError] = {}
        self.scales: list[float | None] = []

    def add(self, labels, found, *, dataset="lab", group=None, boxes=(), mask=None, grey=128):
        """An image, its truth, and what the pipeline finds in it."""
        number = len(self.samples)
        image = self.folder / f"{number}.png"
        cv2.imwrite(str(image), np.full((SIDE, SIDE, 3), grey, np.uint8))
        mask_path = None
        if mask is not None:
            mask_path = self.folder / f"{number}_mask.png"
            cv2.imwrite(str(mask_path), mask)
        labels = tuple(part for part in labels.split(";") if part)
        sample = Sample(image, dataset, "test", labels, group or f"g{number}", 0.1, mask_path, tuple(boxes))
        self.samples.append(sample)
        self.found[image] = found

    def analyse(self, image, um_per_px):
        self.scales.append(um_per_px)
        found = self.found[image]
        if isinstance(found, SlideError):
            raise found
        return SlideResult(image.name, image, SIDE, SIDE, Scale(0.1, "file"), tuple(found), 1)

    def evaluate(self, *, ignore_scale=False):
        return evaluate(self.samples, self.analyse, ignore_scale=ignore_scale, progress=lambda done, total: None)

    def figures(self):
        return self.evaluate().pooled.figures


@pytest.fixture
def lab(tmp_path):
    return Lab(tmp_path)


def rectangle(box, nucleus=None):
    mask = np.zeros((SIDE, SIDE), np.uint8)
    for value, (x0, y0, x1, y1) in ((1, box), *(((2, nucleus),) if nucleus else ())):
        mask[y0:y1, x0:x1] = value
    return mask


# One-cell images


def test_a_perfect_pipeline_scores_one_everywhere(lab):
    box, nucleus = (40, 40, 60, 60), (45, 45, 55, 55)
    for name in ("neutrophil", "eosinophil", "basophil", "lymphocyte", "monocyte"):
        cell = make_cell(name, box, nucleus=nucleus, confidence=1.0)
        lab.add(name, [cell], mask=rectangle(box, nucleus), boxes=[Box(WHITE_CELL, *box)])
    lab.add("", [])
    figures = lab.figures()
    zero = {"calibration_error", "brier", "false_cells_per_field"}
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
    def broken(image, um_per_px):
        raise RuntimeError("bug")

    lab.add("neutrophil", [])
    with pytest.raises(RuntimeError, match="bug"):
        evaluate(lab.samples, broken, ignore_scale=False, progress=lambda done, total: None)


def test_ignore_scale_hides_the_scale_from_the_pipeline(lab):
    lab.add("neutrophil", [])
    lab.evaluate()
    assert lab.scales == [0.1]
    assert lab.evaluate(ignore_scale=True).to_dict()["ignore_scale"] is True
    assert lab.scales == [0.1, None]


def test_nothing_to_evaluate_is_a_usage_error(lab):
    with pytest.raises(UsageError, match="no images"):
        lab.evaluate()


def test_progress_is_told_and_results_are_let_go_of(lab):
    results: list[weakref.ref[SlideResult]] = []
    alive: list[int] = []
    steps: list[tuple[int, int]] = []

    def analyse(image, um_per_px):
        alive.append(sum(result() is not None for result in results))
        result = lab.analyse(image, um_per_px)
        results.append(weakref.ref(result))
        return result

    for _ in range(4):
        lab.add("neutrophil", [make_cell("neutrophil")], mask=rectangle((40, 40, 60, 60)))
    evaluate(lab.samples, analyse, ignore_scale=False, progress=lambda done, total: steps.append((done, total)))
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert alive == [0, 0, 0, 0]


# Fields


@pytest.mark.parametrize(("shift", "by_iou", "by_centre"), [(0, 1, 1), (10, 1, 1), (11, 0, 1), (14, 0, 1), (15, 0, 0)])
def test_a_shifted_cell_matches_at_iou_one_half_or_by_its_centre(lab, shift, by_iou, by_centre):
    # Sides of 30: a shift of 10 leaves 20 of 40, IoU 0.5; a shift of 15 puts the centre on the open edge.
    lab.add("", [make_cell("neutrophil", (40 + shift, 40, 70 + shift, 70))], boxes=[Box("neutrophil", 40, 40, 70, 70)])
    figures = lab.figures()
    for measure in ("precision", "recall", "f1"):
        assert figures[f"detection_{measure}"].value == by_iou
        assert figures[f"detection_{measure}_by_centre"].value == by_centre
    assert figures["accuracy"].value == by_iou  # an unmatched box is wrong in type


def test_detection_counts_by_hand(lab):
    box = (10, 10, 40, 40)
    twice = [make_cell("neutrophil", box), make_cell("neutrophil", (11, 11, 41, 41)), make_cell("platelet", box)]
    lab.add("", twice, boxes=[Box(WHITE_CELL, *box), Box(WHITE_CELL, 60, 60, 90, 90), Box(RED_CELL, 0, 0, 9, 9)])
    lab.add("", [make_cell("unidentified", box)], boxes=[Box(WHITE_CELL, *box), Box("platelet", 0, 0, 9, 9)])
    figures = lab.figures()
    assert (figures["detection_precision"].value, figures["detection_precision"].n) == (pytest.approx(2 / 3), 3)
    assert (figures["detection_recall"].value, figures["detection_recall"].n) == (pytest.approx(2 / 3), 3)
    assert (figures["detection_f1"].value, figures["detection_f1"].n) == (pytest.approx(2 / 3), 2)
    assert "accuracy" not in figures  # no type is known


def test_erythroblasts_are_detected_only_where_the_truth_speaks_of_them(lab):
    box = (10, 10, 40, 40)
    lab.add("", [make_cell("erythroblast", box)], boxes=[Box("erythroblast", *box)], dataset="named")
    lab.add("", [make_cell("erythroblast", box)], boxes=[Box(WHITE_CELL, *box)], dataset="not named")
    named, not_named = lab.evaluate().datasets
    assert named.figures["detection_recall"].value == 1
    assert named.figures["accuracy"].value == 1
    assert not_named.figures["detection_recall"].value == 0


def test_boxes_that_name_types_are_scored_for_them(lab):
    first, second, third = (0, 0, 20, 20), (30, 30, 50, 50), (60, 60, 80, 80)
    found = [make_cell("neutrophil", first), make_cell("neutrophil", second), make_cell("monocyte", third)]
    lab.add("", found, boxes=[Box("neutrophil", *first), Box("monocyte", *second), Box(WHITE_CELL, *third)])
    figures = lab.figures()
    assert (figures["accuracy"].value, figures["accuracy"].n) == (0.5, 2)
    assert figures["detection_recall"].n == 3


def test_one_label_goes_for_every_box_of_a_field(lab):
    first, second = (0, 0, 20, 20), (30, 30, 50, 50)
    found = [make_cell("eosinophil", first), make_cell("neutrophil", second), make_cell("eosinophil", (70, 70, 90, 90))]
    lab.add("eosinophil", found, boxes=[Box(WHITE_CELL, *first), Box(WHITE_CELL, *second)])
    figures = lab.figures()
    assert (figures["accuracy"].value, figures["accuracy"].n) == (0.5, 2)


@pytest.mark.parametrize(
    ("answers", "right", "found"),
    [
        (("basophil", "neutrophil"), 2, 2),  # the order of labels says nothing of places
        (("neutrophil", "neutrophil"), 1, 2),
        (("unidentified", "neutrophil"), 1, 2),
        (("neutrophil",), 1, 1),
        (("monocyte",), 0, 1),
        ((), 0, 0),
    ],
)
def test_several_labels_are_compared_as_counts(lab, answers, right, found):
    places = [(0, 0, 20, 20), (30, 30, 50, 50)]
    cells = [make_cell(name, place) for name, place in zip(answers, places, strict=False)]
    lab.add("neutrophil;basophil", cells, boxes=[Box(WHITE_CELL, *place) for place in places], dataset="boxed")
    lab.add("neutrophil;basophil", cells, dataset="unboxed")
    for summary in lab.evaluate().datasets:
        assert (summary.figures["accuracy"].value, summary.figures["accuracy"].n) == (right / 2, 2)
        assert summary.figures["found"].value == found / 2


def test_the_outlines_of_a_field_are_compared_as_one_region(lab):
    first, second = (0, 0, 20, 20), (50, 50, 70, 70)
    truth = rectangle(first) | rectangle(second)
    platelet = make_cell("platelet", (80, 80, 90, 90))
    lab.add("", [make_cell("neutrophil", first), platelet], mask=truth, boxes=[Box(WHITE_CELL, *first)])
    figures = lab.figures()
    assert figures["cell_iou"].value == 0.5
    assert figures["cell_dice"].value == pytest.approx(2 / 3)
    assert "nucleus_iou" not in figures


# Outlines and explanations


def test_iou_and_dice_of_cell_and_nucleus_by_hand(lab):
    # Cells of 20 x 20 shifted by 10: 200 of 600 common. Nuclei of 10 x 10 shifted by 5: 50 of 150.
    cell = make_cell("neutrophil", (50, 40, 70, 60), nucleus=(50, 45, 60, 55))
    lab.add("neutrophil", [cell], mask=rectangle((40, 40, 60, 60), (45, 45, 55, 55)))
    figures = lab.figures()
    assert figures["cell_iou"].value == pytest.approx(1 / 3)
    assert figures["cell_dice"].value == pytest.approx(1 / 2)
    assert figures["nucleus_iou"].value == pytest.approx(1 / 3)
    assert figures["nucleus_dice"].value == pytest.approx(1 / 2)
    assert figures["cell_iou"].baselines["centred_disc"] == pytest.approx(
        0.83, abs=0.02
    )  # disc in a square, equal area


@pytest.mark.parametrize(
    ("mask", "complaint"),
    [(np.ones((50, 100), np.uint8), "100 x 50 pixels"), (np.full((100, 100), 255, np.uint8), "not a mask")],
)
def test_a_mask_that_does_not_fit_is_a_usage_error(lab, mask, complaint):
    lab.add("neutrophil", [make_cell("neutrophil")], mask=mask)
    with pytest.raises(UsageError, match=complaint):
        lab.evaluate()


def test_a_flat_map_scores_the_share_of_the_area(lab):
    flat = np.ones((SIDE, SIDE), np.float32)
    lab.add("neutrophil", [make_cell("neutrophil", (40, 40, 60, 60), cam=flat)], mask=rectangle((0, 0, 50, 50)))
    figures = lab.figures()
    own, expert = figures["explanation_energy"], figures["expert_explanation_energy"]
    assert own.value == pytest.approx(0.04)
    assert own.baselines["area"] == pytest.approx(0.04)
    assert expert.value == pytest.approx(0.25)
    assert expert.baselines["area"] == pytest.approx(0.25)
    # A quarter of a Gaussian lies in a quadrant; within 0.6 sigma of the centre lies 0.4515, cut at 3 sigma
    # (0.9973 of it), on each axis.
    assert expert.baselines["centre_gaussian"] == pytest.approx(0.25, abs=1e-3)
    assert own.baselines["centre_gaussian"] == pytest.approx((0.4515 / 0.9973) ** 2, abs=1e-3)
    assert figures["explanation_pointing"].value == 0  # the first of equal maxima is the corner
    assert figures["expert_explanation_pointing"].value == 1


def test_maps_are_placed_by_their_window_not_by_the_image(lab):
    # A window of 40 at (30, 30), 8 x 8 map pixels of 5: the cell at 40..60 takes map pixels 2 to 5 of each side.
    cam = np.zeros((8, 8), np.float32)
    cam[2:6, 2:6] = 1
    cam[0, 0] = 4
    cell = make_cell("neutrophil", (40, 40, 60, 60))
    placed = Cell(**{**vars(cell), "explanation": Explanation(30, 30, 40, cam, cam), "cam_in_cell": 0.8})
    lab.add("neutrophil", [placed], mask=rectangle((40, 40, 60, 60)))
    figures = lab.figures()
    assert figures["explanation_energy"].value == pytest.approx(0.8)
    assert figures["expert_explanation_energy"].value == pytest.approx(0.8)
    assert figures["expert_explanation_energy"].baselines["area"] == pytest.approx(0.25)
    assert figures["expert_explanation_pointing"].value == 0
    assert figures["expert_explanation_pointing"].baselines["centre"] == 1


def test_in_a_field_the_experts_mask_of_a_cell_is_that_of_its_box(lab):
    first, second = (0, 0, 20, 20), (50, 50, 70, 70)
    boxes = [Box(WHITE_CELL, -2, -2, 20, 20), Box(WHITE_CELL, *second)]  # boxes may reach over the border
    flat = np.ones((SIDE, SIDE), np.float32)
    lab.add("", [make_cell("monocyte", first, cam=flat)], mask=rectangle(first) | rectangle(second), boxes=boxes)
    assert lab.figures()["expert_explanation_energy"].value == pytest.approx(0.04)


# Metrics


@pytest.mark.parametrize(
    ("right", "n", "low", "high"), [(0, 100, 0, 0.036), (5, 100, 0.016, 0.113), (120, 200, 0.529, 0.668)]
)
def test_intervals_of_proportions_are_those_of_rumke(right, n, low, high):
    assert m.clopper_pearson(right, n) == (pytest.approx(low, abs=5e-4), pytest.approx(high, abs=5e-4))


def test_the_interval_of_nothing_is_unknown():
    assert m.clopper_pearson(0, 0) == (None, None)


def test_calibration_error_by_hand():
    # Bins of 1/15: 0.95 and 0.99 share the last one: |0.97 - 0.5| over 2; 0.70 (bin 10, 0.667-0.733) is right: 0.30;
    # 0.20 (bin 3, 0.2-0.267) is wrong: 0.20. Weighted: (2 * 0.47 + 0.30 + 0.20) / 4 = 0.36.
    terms = m.calibration_terms([0.95, 0.99, 0.70, 0.20], [True, False, True, False])
    assert float(m.calibration_error(terms.sum(axis=0))) == pytest.approx(0.36)


def test_full_and_no_confidence_fall_into_the_outer_bins():
    terms = m.calibration_terms([1.0, 0.0], [True, False])
    assert float(m.calibration_error(terms.sum(axis=0))) == 0
    assert terms.shape == (2, m.CALIBRATION_BINS + 1)


def test_the_bootstrap_is_repeatable_and_draws_whole_groups():
    rng = np.random.default_rng(1)
    values = np.repeat(rng.normal(size=20), 50)
    terms = np.stack([values, np.ones(1000)], axis=-1)
    grouped = m.bootstrap([str(i // 50) for i in range(1000)], terms, m.ratio)
    alone = m.bootstrap([str(i) for i in range(1000)], terms, m.ratio)
    assert grouped == m.bootstrap([str(i // 50) for i in range(1000)], terms, m.ratio)
    assert grouped[1] - grouped[0] > 5 * (alone[1] - alone[0])  # 20 groups, not 1000 images: about sqrt(50) wider
    spread = 2 * 1.96 * values.std() / np.sqrt(20)
    assert grouped[1] - grouped[0] == pytest.approx(spread, rel=0.15)


def test_one_group_has_no_interval(lab):
    lab.add("neutrophil", [make_cell("neutrophil")], group="patient")
    lab.add("neutrophil", [make_cell("neutrophil")], group="patient")
    figure = lab.figures()["macro_f1"]
    assert (figure.value, figure.low, figure.high) == (1, None, None)


masks = arrays(bool, (6, 7))
boxes = st.tuples(*[st.integers(0, 30)] * 2, *[st.integers(1, 20)] * 2).map(
    lambda v: (v[0], v[1], v[0] + v[2], v[1] + v[3])
)


@given(masks, masks)
def test_iou_and_dice_agree_and_are_symmetric(first, second):
    iou, dice = m.iou(first, second), m.dice(first, second)
    assert 0 <= iou <= dice <= 1
    assert (iou, dice) == (m.iou(second, first), m.dice(second, first))
    assert dice == pytest.approx(2 * iou / (1 + iou))
    assert m.iou(first, first) == (1 if first.any() else 0)


@given(boxes, boxes)
def test_box_iou_is_the_iou_of_the_pixels(first, second):
    def pixels(box):
        mask = np.zeros((60, 60), bool)
        mask[box[1] : box[3], box[0] : box[2]] = True
        return mask

    found = box_iou(np.array([first], float), np.array([second], float))[0, 0]
    assert found == pytest.approx(m.iou(pixels(first), pixels(second)))


@settings(max_examples=50, deadline=None)
@given(st.lists(boxes, max_size=6), st.lists(boxes, max_size=6))
def test_a_cell_answers_for_one_box_at_most(truth, reported):
    true_boxes = [Box(WHITE_CELL, *box) for box in truth]
    cells = [make_cell("neutrophil", box) for box in reported]
    by_iou, by_centre = match_by_iou(true_boxes, cells), match_by_centre(true_boxes, cells)
    for pairs in (by_iou, by_centre):
        assert len(set(pairs.values())) == len(pairs)
    overlap = box_iou(np.array(truth, float).reshape(-1, 4), np.array(reported, float).reshape(-1, 4))
    assert all(overlap[row, column] >= MATCH_IOU for row, column in by_iou.items())
    alone = [row for row in range(len(truth)) if row not in by_iou]
    free = [column for column in range(len(reported)) if column not in by_iou.values()]
    assert not (overlap[np.ix_(alone, free)] >= MATCH_IOU).any()
    assert all(
        truth[row][0] <= cells[column].x < truth[row][2] and truth[row][1] <= cells[column].y < truth[row][3]
        for row, column in by_centre.items()
    )


# Baselines and products


def test_baselines_stand_beside_the_accuracy(lab):
    for index in range(20):  # dark borders are neutrophils: colour alone tells the class
        lab.add("neutrophil", [], grey=60 + index)
        lab.add("monocyte", [], grey=160 + index)
    lab.add("monocyte", [], grey=200)
    accuracy = lab.figures()["accuracy"]
    assert accuracy.value == 0
    assert accuracy.baselines["majority"] == pytest.approx(21 / 41)
    assert accuracy.baselines["background_colour"] == 1


def test_colour_that_tells_nothing_scores_like_the_majority(lab):
    for index in range(40):
        lab.add("neutrophil" if index % 4 else "monocyte", [], grey=100)
    assert lab.figures()["accuracy"].baselines == {
        "majority": 0.75,
        "background_colour": pytest.approx(0.75),
    }


def test_the_json_is_plain_and_every_figure_has_its_n_interval_and_baselines(lab):
    lab.add("neutrophil", [make_cell("neutrophil")], mask=rectangle((40, 40, 60, 60)), dataset="a")
    lab.add("", [make_cell("neutrophil")], dataset="b")
    lab.add("blast", SlideError("bad"), dataset="a")
    text = json.dumps(lab.evaluate().to_dict(), allow_nan=False)
    found = json.loads(text)
    assert list(found) == ["ignore_scale", "datasets", "pooled", "failures"]
    assert list(found["datasets"]) == ["a", "b"]
    assert found["failures"] == [{"image": str(lab.samples[2].image), "reason": "bad"}]
    assert found["pooled"]["images"] == 3
    for part in (found["pooled"], *found["datasets"].values()):
        assert set(part) == {"images", "failed", "figures", "classes", "confusion"}
        assert part["figures"]
        for figure in part["figures"].values():
            assert set(figure) == {"value", "low", "high", "n", "unit", "baselines"}
    assert found["pooled"]["confusion"]["neutrophil"]["neutrophil"] == 1


def test_the_tables_show_every_figure_of_every_set(lab):
    box = (40, 40, 60, 60)
    lab.add("not_blast", [make_cell("lymphocyte", box)], boxes=[Box(WHITE_CELL, *box)], dataset="one")
    lab.add("neutrophil", [make_cell("neutrophil", box)], mask=rectangle(box), dataset="two")
    evaluation = lab.evaluate()
    console = Console(file=io.StringIO(), width=200)
    for table in tables(evaluation):
        console.print(table)
    text = console.file.getvalue()
    for summary in (*evaluation.datasets, evaluation.pooled):
        assert summary.name in text
        assert all(FIGURES[name] in text for name in summary.figures)
    assert "Not a blast" in text
    assert "majority 1.000" in text
    assert len(tables(evaluation)) == 6


@pytest.mark.skipif(not (DATA / "manifest.csv").exists(), reason="the shared data folder is absent")
def test_an_oracle_scores_full_marks_on_real_truth():
    samples = [s for s in read_manifest(DATA / "manifest.csv") if s.split == "test"]
    kept = [s for s in samples if s.dataset == "bccd"] + [s for s in samples if s.dataset == "negatives"][:5]
    truth = {s.image: s for s in kept}

    def oracle(image, um_per_px):
        cells = [
            make_cell(truth[image].labels[0], (int(b.x0), int(b.y0), int(b.x1), int(b.y1)), cam=np.ones((480, 640)))
            for b in truth[image].boxes
            if b.label == WHITE_CELL
        ]
        return SlideResult(image.name, image, 640, 480, Scale(0.07, "file"), tuple(cells), 1)

    bccd, negatives = evaluate(kept, oracle, ignore_scale=False, progress=lambda done, total: None).datasets
    assert negatives.figures["negatives_right"].value == 1
    assert (bccd.figures["accuracy"].value, bccd.figures["accuracy"].n) == (1, 71)
    assert bccd.figures["accuracy"].baselines["majority"] == pytest.approx(48 / 71)
    assert bccd.figures["detection_f1"].value == 1
    assert 0.5 < bccd.figures["cell_iou"].value < 0.95  # a box around a cell is no outline
