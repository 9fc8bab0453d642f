"""Which cells the report offers to teach a profile with: spread, uncertain, no copies, and in a fixed order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fakes import blank, committed, disc, make_cell, make_result
from report_runs import RUN

from wbc_cli.classes import CLASS_NAMES
from wbc_cli.products.folder import RunFolder
from wbc_cli.products.registry import THUMBNAILS
from wbc_cli.products.report.cells import collect
from wbc_cli.products.teaching import teaching_order


def clusters(sizes, seed=0, width=16):
    """Features of groups of cells far apart, the group of each, and rather certain probabilities for its number."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(len(sizes)), sizes)
    middles = 10 * rng.normal(size=(len(sizes), width))
    features = middles[groups] + rng.normal(size=(len(groups), width))
    probabilities = np.full((len(groups), len(CLASS_NAMES)), 0.02)
    probabilities[np.arange(len(groups)), groups % len(CLASS_NAMES)] = 1 - 0.02 * (len(CLASS_NAMES) - 1)
    return features, probabilities, groups


def test_rare_kinds_of_cells_are_among_the_first():
    features, probabilities, groups = clusters([2000, 1000, 10, 5])
    first = groups[teaching_order(features, probabilities, 16)]
    assert set(first) == {0, 1, 2, 3}


def test_every_other_cell_is_an_uncertain_one_and_the_rest_are_as_cells_are():
    rng = np.random.default_rng(1)
    features = rng.normal(size=(1000, 16))
    probabilities = np.zeros((1000, len(CLASS_NAMES)))
    unsure = rng.permutation(1000) < 100
    probabilities[:, 0], probabilities[:, 1] = np.where(unsure, 0.55, 0.99), np.where(unsure, 0.45, 0.01)
    chosen = unsure[teaching_order(features, probabilities, 100)]
    assert chosen[1::2].mean() > 0.8  # by BADGE
    assert chosen[2::2].mean() < 0.3  # at random, where one of ten is uncertain


def test_a_near_copy_is_not_asked_for_again():
    features, probabilities, _ = clusters([20, 20])
    copies = np.concatenate([features, features + 1e-6]), np.concatenate([probabilities, probabilities])
    chosen = teaching_order(*copies, 30)
    assert len(set(chosen % 40)) == 30


def test_the_order_is_a_prefix_of_a_longer_one_and_the_same_each_time():
    features, probabilities, _ = clusters([300, 200, 100])
    long = teaching_order(features, probabilities, 100)
    assert len(set(long.tolist())) == 100
    assert teaching_order(features, probabilities, 40).tolist() == long[:40].tolist()


@pytest.mark.parametrize("count", [0, 1, 3])
def test_few_cells_are_all_offered(count):
    features, probabilities, _ = clusters([3])
    assert sorted(teaching_order(features[:count], probabilities[:count], 50)) == list(range(count))


def cells_with_features(number):
    rng = np.random.default_rng(number)
    return [
        replace(
            make_cell(
                i + 1, disc(30), 5 + 4 * (i % 60), 5 + i % 150, CLASS_NAMES[i % 5], confidence=0.6 + 0.3 * (i % 2)
            ),
            features=rng.normal(size=8).astype(np.float16),
            flags=("edge",) if i == 7 else (),
        )
        for i in range(number)
    ]


def gallery(tmp_path, write):
    run = RunFolder(tmp_path)
    run.commit(make_result(cells_with_features(30), 300, 200, "monday"), blank(), write)
    refused = make_result(cells_with_features(12), 300, 200, "refused")
    run.commit(replace(refused, refusal="out of focus"), blank(), write)
    tables = [(name, tmp_path / "slides" / name / "cells.csv") for name in ("monday", "refused")]
    return collect(tables, THUMBNAILS, budget=1_000_000)


def test_the_report_teaches_with_whole_cells_of_slides_that_count_only(tmp_path):
    found = gallery(tmp_path, frozenset({"report", "features"}))
    assert {found.cells[i].folder for i in found.teaching} == {"monday"}
    assert sorted(found.cells[i].id for i in found.teaching) == [number for number in range(1, 31) if number != 8]


def test_without_kept_features_the_report_does_not_offer_to_teach(tmp_path):
    assert gallery(tmp_path, frozenset({"report"})).teaching == ()
    RunFolder(tmp_path).write_report(RUN, committed(RunFolder(tmp_path)))
    assert 'value="teaching"' not in (tmp_path / "report.html").read_text(encoding="utf-8")
