"""Whoever tries the demo gets the cells that it holds, and the same numbers however the work is cut up."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections import defaultdict

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from wbc_cli.classes import BY_NAME
from wbc_cli.model.files import WEIGHTS_NAME, default_folder

pytestmark = pytest.mark.skipif(
    not (default_folder() / WEIGHTS_NAME).is_file(), reason=f"no weights in {default_folder()}"
)

MAX_CANDIDATE_DISTANCE_UM = 4.0
BASE = {"--batch-size": "16", "--workers": "4", "--precision": "fp32", "--device": "cpu", "--write": "none"}


def wbc_cli(*arguments):
    command = [sys.executable, "-m", "wbc_cli.cli", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def analyse(demo, out, changed):
    wbc_cli("analyze", demo, "-o", out, *(part for option in (BASE | changed).items() for part in option))
    return out


def table(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    wbc_cli("demo", folder)
    return folder


@pytest.fixture(scope="module")
def results(demo, tmp_path_factory):
    return analyse(demo, tmp_path_factory.mktemp("results"), {})


def white_cells(rows):
    """Places of the white cells by slide: float [n, 2], level-0 pixels."""
    places = defaultdict(list)
    for row in rows:
        if BY_NAME[row["class"]].white_cell:
            places[row["slide"]].append((float(row["x"]), float(row["y"])))
    return {slide: np.array(xy) for slide, xy in places.items()}


def pairs_within(truth, reported, distance):
    """How many true cells have a reported one of their own within the distance."""
    between = np.linalg.norm(truth[:, None] - reported[None], axis=2)
    near = between <= distance
    rows, columns = linear_sum_assignment(np.where(near, between, 1e6))
    return int(near[rows, columns].sum())


def test_the_white_cells_of_the_demo_are_found_and_hardly_anything_else_is(demo, results):
    truth, reported = white_cells(table(demo / "truth.csv")), white_cells(table(results / "cells.csv"))
    scale = {row["slide"]: float(row["um_per_px"]) for row in table(results / "differential.csv")}
    assert truth.keys() <= scale.keys()
    none = np.empty((0, 2))
    found = sum(
        pairs_within(truth.get(slide, none), reported.get(slide, none), MAX_CANDIDATE_DISTANCE_UM / um_per_px)
        for slide, um_per_px in scale.items()
    )
    true, said = (sum(map(len, cells.values())) for cells in (truth, reported))
    assert true >= 50
    assert found >= 0.95 * true, f"{found} of {true} found"
    assert said - found <= 0.05 * said, f"{said - found} of {said} are none"


def counts(out):
    """Every count of every slide."""
    return [
        {column: text if column == "slide" else int(text) for column, text in row.items() if is_count(column)}
        for row in table(out / "differential.csv")
    ]


def is_count(column):
    return column in ("slide", "cells") or column.endswith("_count")


@pytest.mark.parametrize("changed", [{"--batch-size": "3"}, {"--workers": "1"}], ids=str)
def test_no_count_depends_on_how_the_work_is_cut_up(demo, results, tmp_path, changed):
    expected = counts(results)
    assert len(expected) == 7
    assert max(slide["cells"] for slide in expected) > 20
    assert counts(analyse(demo, tmp_path, changed)) == expected


def test_half_precision_finds_the_same_cells_and_types_few_otherwise_and_none_that_is_sure(demo, tmp_path):
    full, half = (
        table(analyse(demo, tmp_path / precision, {"--precision": precision}) / "cells.csv")
        for precision in ("fp32", "bf16")
    )
    assert [(row["slide"], row["cell"]) for row in full] == [(row["slide"], row["cell"]) for row in half]
    pairs = [(a, b) for a, b in zip(full, half, strict=True) if a["class"] != b["class"]]
    assert len(pairs) <= 0.05 * len(full)
    for pair in pairs:  # near a limit: of the confidence, or of what is atypical
        assert min(float(row["confidence"]) for row in pair) < 0.6 or "atypical" in pair[0]["flags"] + pair[1]["flags"]
