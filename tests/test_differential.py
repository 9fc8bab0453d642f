from __future__ import annotations

from collections import Counter

import pytest
from fakes import disc, make_cell
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from wbc_cli.classes import BY_NAME, DIFFERENTIAL_NAMES
from wbc_cli.differential import FEWER_THAN_100, FEWER_THAN_200, Share, count_cells
from wbc_cli.intervals import clopper_pearson

MASK = disc(8)


def cells_of(**counts):
    names = [name for name, count in counts.items() for _ in range(count)]
    return [make_cell(i + 1, MASK, 10 * i, 0, name) for i, name in enumerate(names)]


@pytest.mark.parametrize(
    ("count", "total", "low", "high"), [(0, 100, 0.0, 3.6), (5, 100, 1.6, 11.3), (120, 200, 52.9, 66.8)]
)
def test_intervals_are_those_of_the_ruemke_table(count, total, low, high):
    share = Share.of(count, total)
    assert share.percent == pytest.approx(100 * count / total)
    assert (round(share.low, 1), round(share.high, 1)) == (low, high)


COUNTS = st.integers(1, 3000).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total)))


@given(COUNTS)
def test_intervals_are_those_of_scipys_binomial_test(case):
    expected = binomtest(*case).proportion_ci(0.95, method="exact")
    assert clopper_pearson(*case) == pytest.approx((expected.low, expected.high), abs=1e-9)


@given(COUNTS)
def test_an_interval_contains_its_estimate_and_stays_within_0_and_100(case):
    share = Share.of(*case)
    assert 0 <= share.low <= share.percent <= share.high <= 100
    assert share.low < share.high


@given(st.lists(st.sampled_from(list(BY_NAME)), max_size=60))
def test_every_cell_is_counted_once_and_percentages_sum_to_100(names):
    differential = count_cells(make_cell(i + 1, MASK, 0, 0, name) for i, name in enumerate(names))
    counts = {name: share.count for name, share in differential.classes.items()} | differential.others
    assert counts == {name: Counter(names)[name] for name in BY_NAME}
    percents = [share.percent for share in differential.classes.values()]
    if differential.differential_cells:
        assert sum(percents) == pytest.approx(100)
    else:
        assert percents == [None] * 5


def test_cells_outside_the_differential_are_reported_and_kept_out_of_the_percentages():
    differential = count_cells(
        cells_of(
            neutrophil=3, lymphocyte=1, immature_granulocyte=2, blast=1, unidentified=1, erythroblast=2, platelet=4
        )
    )
    assert differential.differential_cells == 4
    assert differential.cells == 8
    assert tuple(differential.classes) == DIFFERENTIAL_NAMES
    assert differential.classes["neutrophil"].percent == 75
    assert differential.others == {
        "immature_granulocyte": 2,
        "blast": 1,
        "erythroblast": 2,
        "platelet": 4,
        "unidentified": 1,
    }
    assert differential.unidentified.percent == 12.5
    assert differential.per_100_wbc == {"erythroblast": 25.0, "platelet": 50.0}


def test_a_slide_with_platelets_only_has_no_rate_for_100_white_cells():
    differential = count_cells(cells_of(platelet=3))
    assert differential.cells == 0
    assert differential.per_100_wbc == {"erythroblast": None, "platelet": None}


def test_a_cell_cut_by_the_border_counts_like_others():
    cut = make_cell(1, MASK, 0, 0, "monocyte", flags=("edge",))
    assert count_cells([cut]).classes["monocyte"].count == 1


@pytest.mark.parametrize(
    ("counted", "flags"),
    [(0, (FEWER_THAN_100,)), (99, (FEWER_THAN_100,)), (100, (FEWER_THAN_200,)), (199, (FEWER_THAN_200,)), (200, ())],
)
def test_small_counts_are_flagged(counted, flags):
    assert count_cells(cells_of(neutrophil=counted, platelet=150)).flags == flags
