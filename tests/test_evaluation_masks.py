"""Whoever measures the pipeline on masks of any kind, and its prior, gets the figures worked out by hand."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest
from conftest import TOY_UM_PER_PX, spots, write_picture
from lab import make_cell, rectangle

from wbc_cli.errors import SlideError
from wbc_cli.inference.prior_candidates import PriorCandidates, prior_candidates
from wbc_cli.manifest import WHITE_CELL, Box
from wbc_cli.run.loading import ComputeOptions, load_analyser
from wbc_cli.slides import open_slide


def test_in_a_field_of_one_cell_the_one_that_overlaps_the_mask_answers(lab):
    place = (10, 10, 30, 30)
    lab.add("monocyte", [make_cell("neutrophil"), make_cell("monocyte", place)], mask=rectangle(place))
    figures = lab.figures()
    assert figures["accuracy"].value == 1
    assert figures["cell_iou"].value == 1  # the other cell is no part of the comparison
    assert figures["false_cells_per_field"].value == 1  # but it is a false one


@pytest.mark.parametrize(
    ("reported", "found"),
    [
        ((10, 10, 30, 25), True),  # IoU 0.75
        ((19, 19, 60, 60), True),  # holds the middle, IoU 0.06
        ((22, 10, 40, 30), False),  # IoU 0.27 beside the middle
        ((60, 60, 80, 80), False),
    ],
)
def test_a_masked_cell_is_found_by_overlap_or_by_its_middle(lab, reported, found):
    lab.add("neutrophil", [make_cell("neutrophil", reported)], mask=rectangle((10, 10, 30, 30)), dataset="typed")
    lab.add("", [make_cell("neutrophil", reported)], mask=rectangle((10, 10, 30, 30)), dataset="untyped")
    typed, untyped = lab.evaluate().datasets
    assert typed.figures["found"].value == typed.figures["accuracy"].value == found
    assert untyped.figures["found"].value == found
    assert "accuracy" not in untyped.figures


def test_masks_without_a_nucleus_count_against_no_nucleus(lab):
    place = (10, 10, 30, 30)
    cell = make_cell("basophil", place, nucleus=(15, 15, 25, 25))
    lab.add("basophil", [cell], mask=rectangle(place))
    lab.add("", [cell], mask=rectangle(place))
    figures = lab.figures()
    assert (figures["cell_iou"].value, figures["cell_iou"].n) == (1, 2)
    assert "nucleus_iou" not in figures


def test_cells_of_an_untyped_mask_are_found_one_by_one(lab):
    first, second = (5, 5, 25, 25), (50, 50, 70, 70)
    truth = rectangle(first) | rectangle(second)
    found = [make_cell("neutrophil", first), make_cell("unidentified", (72, 72, 90, 90)), make_cell("platelet", second)]
    lab.add("", found, mask=truth)
    figures = lab.figures()
    assert (figures["found"].value, figures["found"].n) == (0.5, 2)  # a platelet is no white cell
    assert figures["false_cells_per_field"].value == 1
    assert figures["cell_iou"].value == pytest.approx(400 / (800 + 18 * 18))
    assert set(figures) & {"accuracy", "macro_f1", "calibration_error"} == set()


def test_touching_cells_of_a_mask_are_no_false_ones(lab):
    cells = [make_cell("lymphocyte", (40, 20, 60, 40)), make_cell("lymphocyte", (40, 40, 60, 60))]
    lab.add("", cells, mask=rectangle((40, 20, 60, 60)))
    figures = lab.figures()
    assert (figures["found"].value, figures["found"].n) == (1, 1)
    assert figures["false_cells_per_field"].value == 0


def test_the_neighbours_of_a_crops_middle_cell_are_not_known_and_not_false(lab):
    neighbour = make_cell("neutrophil", (5, 5, 25, 25))
    lab.add("monocyte", [make_cell("monocyte"), neighbour], mask=rectangle((40, 40, 60, 60)))
    figures = lab.figures()
    assert figures["accuracy"].value == 1
    assert "false_cells_per_field" not in figures


def test_specks_of_a_mask_are_no_cells(lab):
    mask = rectangle((10, 10, 40, 40))
    mask[80:82, 80:82] = 1
    lab.add("", [make_cell("monocyte", (10, 10, 40, 40))], mask=mask)
    assert (lab.figures()["found"].value, lab.figures()["found"].n) == (1, 1)


def test_a_failed_image_with_a_mask_has_its_cells_missed(lab):
    lab.add("", SlideError("x: cut short"), mask=rectangle((10, 10, 40, 40)))
    lab.add("monocyte", SlideError("x: cut short"), mask=rectangle((10, 10, 40, 40)))
    figures = lab.figures(find_candidates=lambda reader, um_per_px: PriorCandidates(np.empty((0, 2)), 0.0))
    assert (figures["found"].value, figures["found"].n) == (0, 2)
    assert "false_cells_per_field" not in figures
    assert "prior_recall" not in figures


# The prior


def test_prior_recall_counts_cells_in_the_window_around_a_candidate(lab):
    # At 0.1 um a pixel 12 um are 120 pixels: all of a picture of 100, so the candidates lie outside of it.
    lab.add("neutrophil", [], dataset="crop")  # its middle is the picture's, (50, 50)
    lab.add("", [], boxes=[Box(WHITE_CELL, 0, 0, 20, 20), Box("monocyte", 80, 80, 100, 100)], dataset="boxes")
    lab.add("", [], mask=rectangle((0, 0, 20, 20)) | rectangle((60, 60, 100, 100)), dataset="masks")
    lab.add("platelet", [], dataset="none")
    lab.add("", [], dataset="none")
    found = {
        summary.name: summary.figures
        for summary in lab.evaluate(
            find_candidates=lambda reader, um_per_px: PriorCandidates(np.array([[170.0, 50.0], [-200.0, 60.0]]), 0.25)
        ).datasets
    }
    assert (found["crop"]["prior_recall"].value, found["crop"]["prior_recall"].n) == (1, 1)
    assert (found["boxes"]["prior_recall"].value, found["boxes"]["prior_recall"].n) == (0.5, 2)
    assert (found["masks"]["prior_recall"].value, found["masks"]["prior_recall"].n) == (0.5, 2)
    assert "prior_recall" not in found["none"]
    assert found["none"]["prior_area"].value == 0.25


def test_no_candidate_at_all_is_a_recall_of_zero(lab):
    lab.add("neutrophil", [])
    figures = lab.figures(find_candidates=lambda reader, um_per_px: PriorCandidates(np.empty((0, 2)), 0.0))
    assert figures["prior_recall"].value == 0


def test_the_prior_is_measured_at_the_scale_that_the_analysis_took(lab):
    scales = []

    def watch(reader, um_per_px):
        scales.append(um_per_px)
        return PriorCandidates(np.empty((0, 2)), 0.0)

    lab.add("neutrophil", [])
    lab.evaluate(find_candidates=watch, ignore_scale=True)
    assert scales == [0.1]  # the made-up analysis says so, whatever the sample does


def test_prior_candidates_are_those_of_an_analysis_and_the_share_of_the_area(toy_weights, tmp_path):
    places = [(100, 100), (350, 90)]
    picture = write_picture(tmp_path / "field.png", spots(*places))
    empty = write_picture(tmp_path / "empty.png", spots())
    analyser, _ = load_analyser(ComputeOptions(weights=toy_weights, precision="fp32"))
    with analyser.stream, closing(open_slide(picture)) as field, closing(open_slide(empty)) as blank:
        found = prior_candidates(analyser.stream, field, TOY_UM_PER_PX)
        nothing = prior_candidates(analyser.stream, blank, TOY_UM_PER_PX)
    near = np.abs(found.positions[:, None] - np.array(places)).max(axis=2).argmin(axis=1)
    assert sorted(near) == [0, 1]
    # Two discs of radius 25 take 0.04 of 480 x 200; the toy prior sees a little around them, too.
    assert 0.02 < found.area_share < 0.15
    assert nothing.area_share == 0
    assert nothing.positions.shape == (0, 2)
