"""`bench` measures every part of an analysis, and keeps its slide if asked."""

from __future__ import annotations

import json

import pytest


def test_every_part_is_measured_and_set_against_the_others(call, tmp_path):
    options = ("--size", 1024, "--rounds", 2, "--folder", tmp_path, "--device", "cpu", "--exhaustive")
    answer = call("bench", *options, "--json")
    assert answer.code == 0
    found = json.loads(answer.out)
    parts = {"end to end", "decode", "coarse decode", "coarse pass", "window decode", "network"}
    parts |= {"library decode", "OpenSlide decode"}
    assert found["seconds"].keys() == parts | {"exhaustive"}
    assert {part: len(rounds) for part, rounds in found["seconds"].items()} == dict.fromkeys(parts, 2) | {
        "exhaustive": 1
    }
    assert found["exhaustive_cells"] == found["cells"]
    assert found["megapixels"] == pytest.approx(1024**2 / 1e6)
    assert found["ratios"]["exhaustive search to end to end"] > 1
    assert found["peak_memory_mb"] > 100
    slide = tmp_path / "bench-1024.svs"
    written = slide.stat().st_mtime_ns
    table = call("bench", *options[:-1], "--rounds", 1)
    assert table.code == 0
    assert "end to end to its bare parts" in table.out
    assert slide.stat().st_mtime_ns == written


def test_a_slide_of_ones_own_is_measured(call, tmp_path):
    assert call("demo", tmp_path).code == 0
    answer = call("bench", tmp_path / "field-1.png", "--rounds", 1, "--device", "cpu", "--json")
    assert json.loads(answer.out)["cells"] == 7
    assert call("bench", tmp_path / "truth.csv").code != 0


@pytest.mark.parametrize(("name", "why"), [("nosuch.svs", "No such file"), ("", "Is a directory")])
def test_a_slide_that_is_not_there_is_wrong_usage(call, tmp_path, name, why):
    answer = call("bench", tmp_path / name)
    assert (answer.code, answer.out) == (2, "")
    assert f"{tmp_path / name}: {why}" in answer.err
