"""`analyze` keeps its promises: products, exit codes, streams, and one sentence for what is wrong."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import TOY_UM_PER_PX, spots, write_picture

import wbc_cli
from wbc_cli.run import analyze as analysis

COLOUR = re.compile(r"\x1b\[[\d;]*m")


@pytest.fixture
def slides(tmp_path):
    """A folder of two pictures; the toy network finds two cells on the first and one on the second."""
    folder = tmp_path / "slides"
    write_picture(folder / "a.png", spots((100, 100), (350, 100)))
    write_picture(folder / "more" / "b.png", spots((240, 100)))
    return folder


@pytest.fixture
def analyze(call, toy_weights, slides, tmp_path):
    """Analyse the folder with the toy weights at their scale; further arguments as given."""

    def run(*arguments, weights=toy_weights, out="out"):
        common = ("--weights", weights, "--mpp", TOY_UM_PER_PX, "--device", "cpu", "-o", tmp_path / out)
        return call("analyze", slides, *common, *arguments)

    return run


def table(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def one_sentence(text):
    """Text is a single line that starts with the program's name."""
    (line,) = text.splitlines()
    return line.startswith("wbc-cli: ")


def test_the_tables_and_the_products_of_every_slide_are_written(analyze, tmp_path):
    answer = analyze()
    assert answer.code == 0
    out = tmp_path / "out"
    rows = table(out / "differential.csv")
    assert [(row["slide"], row["status"], row["cells"]) for row in rows] == [
        ("a.png", "done", "2"),
        ("more__b.png", "done", "1"),
    ]
    cells = [row["slide"] for row in table(out / "cells.csv")]
    assert cells == ["a.png", "a.png", "more__b.png"]
    pictures = {"mask.ome.tif", "classes.ome.tif", "overlay.png", "explain.png", "cells.geojson"}
    products = {"cells.csv", "slide.json", "result.npz", "thumbnails.zip", "features.safetensors", *pictures}
    for row in rows:
        assert {path.name for path in (out / "slides" / row["slide"]).iterdir()} == products
    assert [(s["name"], s["status"]) for s in json.loads((out / "run.json").read_text())["slides"]] == [
        ("a.png", "done"),
        ("more__b.png", "done"),
    ]


def test_write_chooses_the_products(analyze, tmp_path):
    assert analyze("--write", "none").code == 0
    names = {path.name for path in (tmp_path / "out/slides/a.png").iterdir()}
    assert names == {"cells.csv", "slide.json", "result.npz"}
    assert analyze("--write", "mask", out="masks").code == 0
    names = {path.name for path in (tmp_path / "masks/slides/a.png").iterdir()}
    assert names == {"mask.ome.tif", "cells.csv", "slide.json", "result.npz"}


def test_a_second_run_gives_the_same_tables(analyze, tmp_path):
    for out in ("once", "twice"):
        assert analyze("--write", "none", out=out).code == 0
    for name in ("cells.csv", "differential.csv"):
        assert (tmp_path / "once" / name).read_bytes() == (tmp_path / "twice" / name).read_bytes()


def test_an_empty_folder_is_nothing_to_analyse(call, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    answer = call("analyze", empty, "-o", tmp_path / "out")
    assert (answer.code, answer.out) == (4, "")
    assert one_sentence(answer.err)
    assert str(empty) in answer.err
    assert not (tmp_path / "out").exists()


def test_a_missing_path_is_wrong_usage(call, tmp_path):
    answer = call("analyze", tmp_path / "nowhere", "-o", tmp_path / "out")
    assert (answer.code, answer.out) == (2, "")
    assert one_sentence(answer.err)
    assert "nowhere" in answer.err


@pytest.mark.parametrize(
    "wrong",
    [
        "--no-such-option",
        "--device gpu",
        "--device cpu:1",
        "--device cuda:one",
        "--batch-size 0",
        "--batch-size many",
        "--batch-size -4",
        "--batch-size ²",
        "--write mask,everything",
        "--precision fp8",
        "--workers 0",
        "--processes 0",
        "--processes many",
        "--mpp 0",
        "--mpp wide",
        "--min-confidence 1.5",
    ],
)
def test_a_wrong_option_is_named_and_stops_the_run_before_it_begins(analyze, wrong, tmp_path):
    answer = analyze(*wrong.split())
    assert (answer.code, answer.out) == (2, "")
    assert wrong.split()[0] in COLOUR.sub("", answer.err)
    assert "Traceback" not in answer.err
    assert not (tmp_path / "out").exists()


def test_no_path_at_all_is_wrong_usage(call):
    assert call("analyze").code == 2


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_device_that_is_not_there_is_the_environments_fault(analyze):
    answer = analyze("--device", "cuda")
    assert answer.code == 5
    assert one_sentence(answer.err)
    assert "--device cpu" in answer.err


def test_bad_files_are_reported_with_reasons_and_do_not_stop_the_others(slides, toy_weights, tmp_path):
    write_picture(slides / "cut.jpg", np.random.default_rng(0).integers(0, 255, (200, 300, 3), np.uint8))
    content = (slides / "cut.jpg").read_bytes()
    (slides / "cut.jpg").write_bytes(content[: len(content) // 2])
    (slides / "letter.png").write_text("Dear colleague, please find the smear attached.")
    (slides / "zero.tif").write_bytes(b"")
    command = [sys.executable, "-m", "wbc_cli.cli", "analyze", slides, "-o", tmp_path / "out", "--mpp", "0.2"]
    command += ["--weights", toy_weights, "--device", "cpu", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "Traceback" not in done.stdout + done.stderr
    summary = json.loads(done.stdout)
    assert summary["exit_code"] == 3
    assert summary["done"] == ["a.png", "more__b.png"]
    bad = {"cut.jpg": "cut short", "letter.png": "not a PNG", "zero.tif": "empty"}
    recorded = json.loads((tmp_path / "out/run.json").read_text())["slides"]
    rows = table(tmp_path / "out/differential.csv")
    for name, why in bad.items():
        (reason,) = [slide["reason"] for slide in recorded if slide["name"] == name]
        assert why in reason
        assert str(slides / name) in reason
        assert [row["reason"] for row in rows if row["slide"] == name] == [reason]
        assert [failed["reason"] for failed in summary["failed"] if failed["slide"] == name] == [reason]
        assert reason in done.stderr
    assert [row["slide"] for row in rows if row["status"] == "done"] == ["a.png", "more__b.png"]
    assert len(table(tmp_path / "out/cells.csv")) == 3


def test_missing_weights_are_said_in_a_sentence(analyze, tmp_path):
    answer = analyze(weights=tmp_path)
    assert (answer.code, answer.out) == (5, "")
    assert one_sentence(answer.err)
    assert str(tmp_path) in answer.err
    assert not (tmp_path / "out").exists()


def test_damaged_weights_are_said_in_a_sentence(analyze, toy_weights, tmp_path):
    folder = tmp_path / "damaged"
    folder.mkdir()
    for file in toy_weights.iterdir():
        (folder / file.name).write_bytes(file.read_bytes()[:5000])
    answer = analyze(weights=folder)
    assert (answer.code, answer.out) == (5, "")
    assert one_sentence(answer.err)
    assert str(folder) in answer.err


def test_results_that_cannot_be_written_are_the_environments_fault(analyze, tmp_path):
    (tmp_path / "out").write_text("a file where the folder should be")
    for out in ("out", "out/deeper"):
        answer = analyze(out=out)
        assert answer.code == 5
        assert one_sentence(answer.err)
        assert f"{tmp_path / 'out'} is a file; give a folder" in answer.err


def test_ctrl_c_ends_with_130(analyze, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(analysis, "analyze", interrupted)
    answer = analyze()
    assert answer.code == 130
    assert "Traceback" not in answer.err


def test_standard_output_holds_the_data_and_standard_error_the_rest(analyze):
    answer = analyze("--write", "none")
    assert "White cells: 3, slides: 2" in answer.out
    assert "slides: 2 of 2" in answer.err
    assert "slides done: 2, failed: 0" in answer.err
    assert not COLOUR.search(answer.out + answer.err)
    as_json = analyze("--write", "none", "--json", out="again")
    summary = json.loads(as_json.out)
    assert summary["differential"]["cells"] == 3
    assert "slides: 2 of 2" in as_json.err


def test_quiet_says_nothing_that_is_not_data(analyze):
    answer = analyze("--write", "none", "--quiet")
    assert answer.err == ""
    assert "White cells: 3, slides: 2" in answer.out


def test_dry_run_lists_the_slides_and_writes_nothing(analyze, slides, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    answer = analyze("--dry-run")
    assert answer.code == 0
    assert answer.out.split() == [str(slides / "a.png"), str(slides / "more" / "b.png")]
    assert sorted(tmp_path.rglob("*")) == before


def test_the_users_scale_goes_before_the_files_and_is_recorded_as_such(analyze, tmp_path):
    assert analyze("--write", "none").code == 0
    for row in table(tmp_path / "out/differential.csv"):
        assert (float(row["um_per_px"]), row["um_per_px_source"]) == (TOY_UM_PER_PX, "option")


def test_below_the_least_confidence_every_cell_is_unidentified(analyze, tmp_path):
    assert analyze("--write", "none", "--min-confidence", "1.0").code == 0
    assert {row["class"] for row in table(tmp_path / "out/cells.csv")} == {"unidentified"}
    assert analyze("--write", "none", "--min-confidence", "0.0", out="all").code == 0
    assert "unidentified" not in {row["class"] for row in table(tmp_path / "all/cells.csv")}


def test_the_record_says_how_the_numbers_were_made(analyze, toy_weights, tmp_path):
    assert analyze("--write", "none", "--batch-size", "2", "--workers", "1", "--precision", "fp32").code == 0
    run = json.loads((tmp_path / "out/run.json").read_text())
    assert run["version"] == wbc_cli.__version__
    assert len(run["weights_sha256"]) == 64
    assert run["options"]["weights"] == str(toy_weights)
    expected = {"device": "cpu", "precision": "float32", "batch_size": 2, "workers": 1}
    assert expected.items() <= run["used"].items()
