"""Whoever measures the pipeline on fields and masks gets the figures worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from lab import SIDE, make_cell, rectangle

from wbc_cli.cells import Cell, Explanation
from wbc_cli.errors import UsageError
from wbc_cli.manifest import RED_CELL, WHITE_CELL, Box


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


def test_types_beyond_the_five_count_in_all_types_and_not_in_the_five(lab):
    places = [(0, 0, 20, 20), (30, 30, 50, 50), (60, 60, 80, 80)]
    found = [
        make_cell("neutrophil", places[0], confidence=1.0),
        make_cell("lymphocyte", places[1], confidence=1.0),
        make_cell("unidentified", places[2], likeliest="monocyte", confidence=0.25),
    ]
    truth = ("neutrophil", "blast", "monocyte")
    lab.add("", found, boxes=[Box(name, *place) for name, place in zip(truth, places, strict=True)])
    figures = lab.figures()
    assert (figures["accuracy"].value, figures["accuracy"].n) == (pytest.approx(1 / 3), 3)
    assert (figures["accuracy_differential"].value, figures["accuracy_differential"].n) == (1 / 2, 2)
    assert (figures["accuracy_identified"].value, figures["accuracy_identified_differential"].value) == (1 / 2, 1)
    # One wrong at 1 and one right at 0.25 and at 1; of the five types only the latter two.
    assert figures["calibration_error"].value == pytest.approx((1 + 0.75) / 3)
    assert figures["calibration_error_differential"].value == pytest.approx(0.75 / 2)


def test_what_the_border_cuts_is_no_false_cell_where_it_is_not_boxed(lab):
    box = (40, 40, 60, 60)
    cut = [make_cell("neutrophil", place) for place in ((0, 10, 20, 30), (75, 10, 95, 30), (40, 80, 60, 100))]
    lab.add("", [make_cell("monocyte", box), *cut], boxes=[Box("monocyte", *box)], dataset="not boxed")
    inside = make_cell("neutrophil", (6, 10, 26, 30))  # an outline is exact to 0.5 um, 5 pixels
    lab.add("", [make_cell("monocyte", box), inside], boxes=[Box("monocyte", *box)], dataset="not cut")
    lab.add("", cut[:1], boxes=[Box("neutrophil", 0, 10, 20, 30)], dataset="boxed")
    boxed, not_boxed, not_cut = (summary.figures for summary in lab.evaluate().datasets)
    assert (not_boxed["detection_precision"].value, not_boxed["detection_precision"].n) == (1, 1)
    assert not_boxed["false_cells_per_field"].value == 0
    assert (not_cut["detection_precision"].value, not_cut["false_cells_per_field"].value) == (0.5, 1)
    assert (boxed["detection_recall"].value, boxed["detection_precision"].n) == (1, 1)


def test_a_cell_seen_twice_is_a_false_one_and_a_poorly_outlined_one_is_not(lab):
    box = (10, 10, 40, 40)
    lab.add(
        "", [make_cell("neutrophil", box), make_cell("neutrophil", (11, 11, 41, 41))], boxes=[Box(WHITE_CELL, *box)]
    )
    lab.add("", [make_cell("neutrophil", (18, 18, 32, 32))], boxes=[Box(WHITE_CELL, *box)])
    figures = lab.figures()
    assert (figures["false_cells_per_field"].value, figures["false_cells_per_field"].n) == (0.5, 2)
    assert (figures["found"].value, figures["found"].n) == (0.5, 2)  # without types, too


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
    lab.add("neutrophil", [make_cell("neutrophil", (15, 15, 35, 35), cam=flat)], mask=rectangle((0, 0, 50, 50)))
    figures = lab.figures()
    own, expert = figures["explanation_energy"], figures["expert_explanation_energy"]
    assert own.value == pytest.approx(0.04)
    assert own.baselines["area"] == pytest.approx(0.04)
    assert expert.value == pytest.approx(0.25)
    assert expert.baselines["area"] == pytest.approx(0.25)
    # A quarter of a Gaussian lies in a quadrant; between 0.9 and 2.1 sigma from the centre lies 0.1662,
    # cut at 3 sigma (0.9973 of it), on each axis.
    assert expert.baselines["centre_gaussian"] == pytest.approx(0.25, abs=1e-3)
    assert own.baselines["centre_gaussian"] == pytest.approx((0.1662 / 0.9973) ** 2, abs=1e-3)
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
