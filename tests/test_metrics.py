"""The metrics equal what can be worked out by hand or by counting."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from lab import make_cell

from wbc_cli.evaluation import FIGURES
from wbc_cli.evaluation import metrics as m
from wbc_cli.evaluation.matching import MATCH_IOU, box_iou, match_by_centre, match_by_iou
from wbc_cli.manifest import WHITE_CELL, Box


def test_calibration_error_by_hand():
    # Bins of 1/15: 0.95 and 0.99 share the last one: |0.97 - 0.5| over 2; 0.70 (bin 10, 0.667-0.733) is right: 0.30;
    # 0.20 (bin 3, 0.2-0.267) is wrong: 0.20. Weighted: (2 * 0.47 + 0.30 + 0.20) / 4 = 0.36.
    terms = m.calibration_terms([0.95, 0.99, 0.70, 0.20], [True, False, True, False])
    assert float(m.calibration_error(terms.sum(axis=0))) == pytest.approx(0.36)


def test_the_calibration_error_has_fifteen_bins_as_the_tables_say():
    # Bins of 1/15 part 0.81 (0.8-0.867) from 0.89 (0.867-0.933); in tenths their gaps of -0.19 and 0.89 would cancel.
    terms = m.calibration_terms([0.81, 0.89], [True, False])
    assert float(m.calibration_error(terms.sum(axis=0))) == pytest.approx((0.19 + 0.89) / 2)
    assert f"({terms.shape[1] - 1} bins)" in FIGURES["calibration_error"]


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
