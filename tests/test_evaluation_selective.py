"""Whoever sets a least confidence is told what it costs and what it buys."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lab import make_cell

from wbc_cli.evaluation import selective

predictions = st.lists(
    st.tuples(st.sampled_from([0.2, 0.5, 0.7, 0.9, 0.99, np.nan]), st.booleans()), min_size=1
).filter(lambda rows: not all(np.isnan(confidence) for confidence, _ in rows))


def curve(rows):
    confidence = np.array([c for c, _ in rows])
    right = np.array([r for _, r in rows]) & ~np.isnan(confidence)
    return confidence, right, *selective.risk_coverage(confidence, right, np.ones(len(rows)))


def test_area_and_coverages_by_hand():
    # Of the most confident 1, 2, 3, 4 cells 0, 0, 1, 2 are wrong.
    rows = [(0.9, True), (0.5, False), (0.8, True), (0.6, False)]
    _, _, coverage, risk = curve(rows)
    assert coverage.tolist() == [0.25, 0.5, 0.75, 1]
    assert risk.tolist() == pytest.approx([0, 0, 1 / 3, 1 / 2])
    assert float(selective.area(coverage, risk)) == pytest.approx((0 + 0 + 1 / 3 + 1 / 2) / 4)
    assert float(selective.coverage_at(coverage, risk, 0.01)) == 0.5
    assert float(selective.coverage_at(coverage, risk, 0.4)) == 0.75


def test_cells_of_equal_confidence_are_answered_for_together_or_not_at_all():
    _, _, coverage, risk = curve([(0.9, True), (0.9, False), (0.5, True)])
    assert coverage.tolist() == pytest.approx([2 / 3, 1])
    assert risk.tolist() == pytest.approx([1 / 2, 1 / 3])


@given(predictions)
def test_the_curve_is_what_counting_above_every_threshold_gives(rows):
    confidence, right, coverage, risk = curve(rows)
    thresholds = sorted(set(confidence[~np.isnan(confidence)]), reverse=True)
    given = [confidence >= threshold for threshold in thresholds]
    assert coverage == pytest.approx([np.mean(g) for g in given])
    assert risk == pytest.approx([np.mean(~right[g]) for g in given])


@given(predictions)
def test_coverage_only_grows_and_ends_at_the_share_of_cells_found(rows):
    confidence, right, coverage, risk = curve(rows)
    assert (np.diff(coverage) > 0).all()
    assert coverage[-1] == pytest.approx(np.mean(~np.isnan(confidence)))
    assert risk[-1] == pytest.approx(1 - right[~np.isnan(confidence)].mean())
    assert risk.min() - 1e-12 <= selective.area(coverage, risk) <= risk.max() + 1e-12


@given(predictions, st.floats(0, 1), st.floats(0, 1))
def test_who_accepts_more_risk_covers_no_less(rows, one, other):
    _, _, coverage, risk = curve(rows)
    low, high = (selective.coverage_at(coverage, risk, most) for most in sorted((one, other)))
    assert low <= high


@given(predictions, st.randoms(use_true_random=False))
def test_the_order_of_the_cells_does_not_matter(rows, random):
    shuffled = random.sample(rows, len(rows))
    for one, other in zip(curve(rows)[2:], curve(shuffled)[2:], strict=True):
        assert one == pytest.approx(other)


@given(predictions, st.integers(1, 3))
def test_a_cell_that_counts_twice_is_as_good_as_two(rows, times):
    confidence, right, _, _ = curve(rows)
    weighted = selective.risk_coverage(confidence, right, np.full(len(rows), float(times)))
    repeated = curve(rows * times)[2:]
    for one, other in zip(weighted, repeated, strict=True):
        assert one == pytest.approx(other)


def test_a_missed_cell_is_never_covered_and_an_unidentified_one_may_be(lab):
    lab.add("neutrophil", [make_cell("neutrophil", confidence=0.9)])
    lab.add("neutrophil", [make_cell("unidentified", likeliest="neutrophil", confidence=0.4)])
    lab.add("neutrophil", [make_cell("unidentified", likeliest="monocyte", confidence=0.3)])
    lab.add("neutrophil", [])
    figures = lab.figures()
    assert figures["coverage_at_risk_1"].value == 0.5
    assert figures["coverage_at_risk_1"].n == 4
    assert figures["risk_coverage_area"].value == pytest.approx((0 + 0 + 1 / 3) / 3)
    assert figures["risk_coverage_area"].baselines == {"random_order": 0.5}


def test_an_atypical_cell_is_held_back_by_its_confidence_as_any_other(lab):
    lab.add("neutrophil", [make_cell("neutrophil", confidence=0.6)])
    lab.add("neutrophil", [replace(make_cell("monocyte", confidence=0.99), flags=("atypical",))])
    assert lab.figures()["coverage_at_risk_1"].value == 0


def test_blasts_are_held_back_by_the_confidence_that_the_pipeline_holds_them_back_by(lab):
    lab.add("not_blast", [make_cell("lymphocyte", confidence=0.9)])
    lab.add("not_blast", [make_cell("unidentified", likeliest="monocyte", confidence=0.4)])  # surely no blast
    lab.add("blast", [make_cell("lymphocyte", confidence=0.6)])
    figures = lab.figures()
    assert figures["coverage_at_risk_1"].value == pytest.approx(1 / 3)


def test_an_image_rightly_reported_empty_has_nothing_to_hold_back(lab):
    lab.add("platelet", [])
    assert "risk_coverage_area" not in lab.figures()
    lab.add("platelet", [make_cell("platelet")])
    assert lab.figures()["risk_coverage_area"].n == 1


def test_the_interval_holds_the_figure(lab):
    for index in range(40):
        lab.add("neutrophil", [make_cell("neutrophil" if index % 5 else "monocyte", confidence=0.5 + index / 100)])
    figure = lab.figures()["risk_coverage_area"]
    assert 0 < figure.low < figure.value < figure.high < 0.6
