"""The figures of a comparison agree with worked examples of the literature, and their intervals hold the truth."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from evidence_runs import USUAL, patients
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import fisher_exact

from wbc_cli.comparison.cell_agreement import kappa_of
from wbc_cli.comparison.differences import bland_altman, correlation, tolerance_factor, within_limits
from wbc_cli.comparison.estimate import proportion
from wbc_cli.comparison.regression import passing_bablok
from wbc_cli.intervals import clopper_pearson

# Serum and plasma creatinine (mg/dl) of the R package mcr, and what its mcreg prints of them: Wicklin,
# "Passing-Bablok regression in SAS", The DO Loop, 14 February 2022, with the program to the article.
CREATININE = """
0.82 0.79  1.83 1.62  1.39 1.36  0.81 1.3   1.72 1.88  3.23 3.35  1.23 1.06  1.37 1.34  1.72 1.56  0.96 0.94
0.76 0.69  1.15 1.16  0.95 0.71  1 0.83     1.52 1.44  1.56 1.26  2.45 2.36  1.85 1.9   0.89 0.95  0.82 0.77
1.01 0.82  0.96 0.88  3.38 3.42  1.31 1.15  1.1 0.96   1.26 1.12  1.15 1.02  1.2 1.29   1.01 0.87  1.33 1.13
0.87 0.82  1.66 1.33  1.41 1.14  1.08 0.93  1.17 1.09  1.77 1.89  1.33 1.57  1.23 1.29  1.21 1.13
1.2 1.11   1.49 1.61  0.89 0.79  1.09 1.19  1.03 0.96  1.07 1.25  0.89 0.87  1.39 1.36  0.96 0.86  1.06 1.03
1.17 0.86  0.9 0.8    1.39 1.22  0.91 0.86  2.28 2.25  0.9 0.87   1.34 1.3   1.32 1.04  1.02 0.92
1.04 1.01  1.27 1.21  1.08 1.11  1.1 1.21   1.39 1.54  1.07 0.99  0.79 0.79  1.02 1.06  0.94 1.02  1.99 2.15
0.7 0.56   0.84 1.01  0.66 0.59  1.1 1.17   0.9 0.82   2.06 2.09  1.31 1.44  1.03 1.22  1.61 1.77  1.52 1.6
1.11 1.13  0.85 1.06  1.2 1.38   1.09 1.24  1.27 1.29  2.06 2.08  1.21 1.31  0.77 0.82  1.06 1.28  1.02 1.15
1 1.04     1.47 1.51  0.97 1.13  1.7 1.84   1.78 1.94  0.93 1.32  0.92 1.36  1.59 1.88  0.68 0.73  0.7 0.78
1.08 1.01  0.83 0.9   1.17 1.3   0.98 0.96  0.77 0.61  0.91 1.27  1.1 1.05   0.8 1.12   0.85 0.72  0.82 0.87
"""
# Peak flow by a Wright and a mini Wright meter (l/min): Bland and Altman, Lancet 1986; i: 307-310.
WRIGHT = (494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427)
MINI = (512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451)


def columns(text):
    return np.array(text.split(), float).reshape(-1, 2).T


def bounds(estimate, digits):
    return tuple(round(number, digits) for number in (estimate.value, estimate.low, estimate.high))


def test_passing_bablok_agrees_with_mcr():
    line = passing_bablok(*columns(CREATININE))
    # mcr prints 1.0880089 (1.0000000 to 1.173005) and -0.1171729 (-0.2001149 to -0.0200000); it interpolates between
    # ranks, and takes means of angles, where the paper takes ranks and means of slopes: that is the fourth decimal
    assert bounds(line.slope, 3) == (1.088, 1.000, 1.173)
    assert bounds(line.intercept_by_ranks, 3) == (-0.117, -0.200, -0.020)
    assert line.intercept.low <= line.intercept_by_ranks.low <= line.intercept_by_ranks.high <= line.intercept.high


def test_exchanging_the_methods_gives_the_same_line():
    x, y = columns(CREATININE)
    line, other = passing_bablok(x, y), passing_bablok(y, x)
    assert 1 / other.slope.value == pytest.approx(line.slope.value, rel=1e-3)


def test_of_thousands_of_samples_some_are_taken_evenly():
    x = np.random.default_rng(0).uniform(0, 100, 7000)
    line = passing_bablok(x, 1 + 2 * x)
    assert line.slope.n == 2334
    assert (line.slope.value, line.intercept.value) == pytest.approx((2, 1))


def test_there_is_no_line_of_too_few_or_equal_samples():
    assert passing_bablok(np.arange(4.0), np.arange(4.0)) is None
    assert passing_bablok(np.zeros(60), np.zeros(60)) is None
    assert passing_bablok(np.zeros(60), np.arange(60.0)) is None


def test_bland_altman_agrees_with_the_paper():
    found = bland_altman(np.array(MINI, float), np.array(WRIGHT, float))
    assert bounds(found.bias, 1) == (-2.1, -22.0, 17.8)
    deviation = (found.upper.value - found.bias.value) / 1.959964
    assert round(deviation, 1) == 38.8


@pytest.mark.parametrize(("count", "factor"), [(10, 2.911), (20, 2.396), (50, 2.065)])
def test_limits_of_agreement_rest_on_the_tabled_tolerance_factors(count, factor):
    # One-sided factors for 95 % of a normal population with 95 % confidence: Lieberman, Ind Qual Control 1958; 14(10).
    assert round(tolerance_factor(count, 0.95, 0.95), 3) == factor


def test_kappa_agrees_with_the_sas_manual():
    # Skin condition by two dermatologists: SAS/STAT User's Guide, PROC FREQ, "Cohen's Kappa Coefficient".
    kappa = kappa_of(np.array([[10, 4, 1, 0], [5, 10, 12, 2], [2, 4, 12, 5], [0, 2, 6, 13]]))
    assert bounds(kappa, 4) == (0.3449, 0.2030, 0.4868)


def test_kappa_agrees_with_a_radiologists_example_and_is_not_defined_where_chance_gives_all():
    # Xeromammograms by two radiologists: Boyd et al., J Natl Cancer Inst 1982; 68: 357-363, as in Stata's manual.
    kappa = kappa_of(np.array([[21, 12, 0, 0], [4, 17, 1, 0], [3, 9, 15, 2], [0, 0, 0, 1]]))
    assert round(kappa.value, 4) == 0.4728
    assert kappa_of(np.array([[7, 0], [0, 0]])) is None


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("table", "value"),
    [
        ([[7, 0], [0, 3]], 1),
        ([[0, 5], [0, 0]], 0),
        ([[5, 5], [0, 0]], 0),
        ([[0, 5], [5, 0]], -1),
        ([[0, 7, 0], [0, 0, 7], [7, 0, 0]], -0.5),
    ],
)
def test_kappa_has_no_interval_where_its_formula_would_give_one_of_no_width(table, value):
    kappa = kappa_of(np.array(table))
    assert (kappa.value, kappa.low, kappa.high) == (value, None, None)


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_score_intervals_are_those_of_newcombe(count, total, low, high):
    # Newcombe, Stat Med 1998; 17: 857-872, table I, method 3.
    found = proportion(count, total)
    assert (round(found.low, 4), round(found.high, 4)) == (low, high)


def test_correlation_has_the_interval_of_fisher():
    x = np.arange(50.0)
    y = x + np.random.default_rng(0).normal(0, 12, 50)
    found = correlation(x, y)
    ends = np.tanh(np.arctanh(found.value) + np.array([-1, 1]) * 1.959964 / np.sqrt(47))
    assert (found.low, found.high) == pytest.approx(tuple(ends), abs=1e-6)


# --- binomial limits


@pytest.mark.parametrize(("count", "total"), [(0, 100), (1, 100), (5, 100), (10, 100), (50, 100), (10, 200), (25, 500)])
def test_against_endless_cells_the_limits_are_those_of_ruemkes_table(count, total):
    many = 10**7
    low, high = clopper_pearson(count, total)
    shares = np.array([low - 1e-4, low + 1e-4, high - 1e-4, high + 1e-4]).clip(0)
    found = within_limits(
        np.full(4, count), np.full(4, total), np.round(shares * many).astype(int), np.full(4, many, dtype=int)
    )
    assert list(found) == [low == 0, True, True, False]


@given(st.integers(1, 300), st.integers(1, 300), st.data())
def test_limits_are_those_of_fishers_exact_test_on_either_side(one, two, data):
    a, b = data.draw(st.integers(0, one)), data.draw(st.integers(0, two))
    table = [[a, one - a], [b, two - b]]
    expected = min(fisher_exact(table, alternative=side).pvalue for side in ("less", "greater")) > 0.025
    assert within_limits(*(np.array([n]) for n in (a, one, b, two)))[0] == expected


def test_of_counts_that_differ_by_chance_alone_at_least_95_of_100_lie_within():
    random = np.random.default_rng(1)
    shares = patients(random, 1500)
    a, b = (np.array([random.multinomial(cells, share) for share in shares]) for cells in (200, 400))
    within = within_limits(a, np.full_like(a, 200), b, np.full_like(b, 400)).mean(axis=0)
    assert (within > 0.94).all()
    tripled = within_limits(np.minimum(3 * a, 200), np.full_like(a, 200), b, np.full_like(b, 400)).mean(axis=0)
    assert tripled[0] < 0.05


# --- intervals


def held(draws, samples=60, seed=60):
    """Share of synthetic comparisons, of known slope, intercept, bias and kappa, whose intervals hold the truth."""
    random, hits = np.random.default_rng(seed), Counter()

    def check(name, estimate, truth):
        hits[name] += estimate.low <= truth <= estimate.high

    joint = np.diag(USUAL) * 0.8 + 0.2 * np.outer(USUAL, USUAL)  # kappa 0.8
    for _ in range(draws):
        true = random.uniform(10, 80, samples)
        line = passing_bablok(true + random.normal(0, 3, samples), 2 + 1.1 * true + random.normal(0, 3.3, samples))
        check("slope", line.slope, 1.1)
        check("intercept", line.intercept, 2)
        spread = 2 * np.sqrt(2)
        both = bland_altman(true + random.normal(0, 2, samples), 1.5 + true + random.normal(0, 2, samples))
        check("bias", both.bias, 1.5)
        check("lower", both.lower, 1.5 - 1.959964 * spread)
        check("upper", both.upper, 1.5 + 1.959964 * spread)
        check("r", correlation(*random.multivariate_normal([0, 0], [[1, 0.9], [0.9, 1]], samples).T), 0.9)
        check("kappa", kappa_of(random.multinomial(300, joint.ravel()).reshape(5, 5)), 0.8)
        check("agreement", proportion(int(random.binomial(300, joint.trace())), 300), joint.trace())
        for name, cases, share in (("sensitivity", 80, 0.9), ("specificity", 120, 0.85), ("efficiency", 200, 0.87)):
            check(name, proportion(int(random.binomial(cases, share)), cases), share)
    return {name: count / draws for name, count in hits.items()}


def test_intervals_hold_the_truth_in_95_of_100_comparisons():
    """Of 200 draws, so within three standard deviations of 95 %; of 1,000 each lay between 93 and 97 %."""
    for name, share in held(200).items():
        assert 0.904 <= share <= 0.996, name
