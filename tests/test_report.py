"""The report shows a run to somebody who has never seen one, and takes corrections."""

from __future__ import annotations

import base64
import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import spots, write_picture
from fakes import NO_PRODUCTS, blank, disc, make_cell, make_result, small_result
from markupsafe import escape
from report_runs import HOSTILE, RUN, make_small_run, some_cells, write_report

from wbc_cli.classes import CLASS_NAMES
from wbc_cli.products.folder import RunFolder
from wbc_cli.products.registry import THUMBNAILS
from wbc_cli.products.report import page as report_page
from wbc_cli.products.report import slide_list
from wbc_cli.products.report.cells import collect
from wbc_cli.products.report.charts import class_chart
from wbc_cli.products.thumbnails import read_thumbnails, write_thumbnails


@pytest.fixture(scope="module")
def small_run(tmp_path_factory):
    return make_small_run(tmp_path_factory.mktemp("run"))


# --- thumbnails


def test_each_cell_has_a_picture_with_it_in_the_middle_at_one_scale(tmp_path):
    reader = blank(400, 400)
    cells = [make_cell(1, disc(60), 100, 100), make_cell(2, disc(60), 370, 370, flags=("edge",))]
    reader.pixels[100:160, 100:160] = 60
    write_thumbnails(make_result(cells, 400, 400), reader, tmp_path / "a.zip")
    found = read_thumbnails(tmp_path / "a.zip", [1, 2, 3])
    assert set(found) == {1, 2}
    picture = cv2.imdecode(np.frombuffer(found[1], np.uint8), cv2.IMREAD_GRAYSCALE)
    assert picture.shape == (128, 128)
    rows_dark, columns_dark = np.nonzero(picture < 150)
    side = 128 * 60 * 0.1 / 25  # 60 pixels of 0.1 um in a field of 25 um
    for dark in (rows_dark, columns_dark):
        assert dark.mean() == pytest.approx(63.5, abs=1)
        assert np.ptp(dark) == pytest.approx(side, abs=3)


def test_a_missing_archive_means_no_pictures(tmp_path):
    assert read_thumbnails(tmp_path / "none.zip", [1]) == {}


# --- what the page says


def test_the_page_has_every_slide_with_its_numbers_warnings_and_reasons(small_run):
    text = (small_run / "report.html").read_text(encoding="utf-8")
    assert "Not a diagnosis: for review by a qualified person" in text
    assert "3 slides counted" in text
    assert "1 refused" in text
    assert "cut off: &lt;b&gt;copy&lt;/b&gt; it again" in text
    assert "out of focus: focus and take it again" in text
    assert "4df191c2" in text
    assert "fewer than 100 cells in the differential" in text
    for slide in ("monday", "=cmd.png", "refused", "bad", HOSTILE):
        assert str(escape(slide)) in text


def test_names_cannot_become_part_of_the_page(small_run):
    text = (small_run / "report.html").read_text(encoding="utf-8")
    assert "<script>alert" not in text
    assert "<img src=x" not in text
    assert "&lt;img src=x onerror=alert(1)&gt;" in text
    data = json.loads(re.search(r'id="data">(.*?)</script>', text)[1])
    assert [HOSTILE, HOSTILE, False, -1] in data["slides"]  # of no sample


def test_the_page_fetches_nothing_and_its_policy_forbids_it(small_run):
    text = (small_run / "report.html").read_text(encoding="utf-8")
    targets = re.findall(r'\s(?:src|href)="([^"]*)"', text)
    assert targets
    assert all(target.startswith(("data:", "#", "slides/")) for target in targets)
    assert "default-src &#39;none&#39;" in text
    assert "unsafe" not in re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]


def test_charts_have_the_colours_of_the_other_products(small_run):
    text = (small_run / "report.html").read_text(encoding="utf-8")
    charts = [base64.b64decode(c).decode() for c in re.findall(r"data:image/svg\+xml;base64,([^\"]*)", text)]
    assert len(charts) == 1 + 5  # all slides, and a class each
    assert all("#0072b2" in chart for chart in charts[:2])
    assert all("&lt;img src=" in chart and "<img" not in chart for chart in charts[1:])
    assert ".c-neutrophil{background:rgb(0,114,178)}" in text


@pytest.mark.filterwarnings("error")
def test_a_name_in_letters_that_the_charts_font_lacks_is_left_to_the_browsers():
    share = {"percent": 50.0, "count": 5, "low": 30.0, "high": 70.0}
    chart = class_chart("neutrophil", [("日本.png", share)], share)
    assert ">日本.png</text>" in chart


def test_the_same_slides_give_the_same_page_however_long_the_run_took(small_run, tmp_path):
    first = (small_run / "report.html").read_bytes()
    shutil.copytree(small_run, tmp_path / "copy")
    run = {**RUN, "seconds": 77.0}
    assert write_report(tmp_path / "copy", run).read_bytes() == first


def test_pages_of_nothing_are_pages(tmp_path):
    run = RunFolder(tmp_path)
    run.write_report(RUN, [])
    run.commit(small_result(cells=[]), blank(), NO_PRODUCTS)
    run.record_failure("bad\udcff", Path("in/bad\udcff.png"), "no image")
    assert "1 slide counted" in write_report(tmp_path).read_text(encoding="utf-8")


def test_a_stopped_or_incomplete_run_says_so(tmp_path):
    merged = {"version": "0.1.0", "merged_from": [{**RUN, "left": ["a"]}, RUN], "missing": ["x: shard 1/2 has not run"]}
    text = write_report(tmp_path, merged).read_text(encoding="utf-8")
    assert "shard 1/2 has not run" in text
    assert "Run 1 of 1" in text  # both shards had the same settings
    text = write_report(tmp_path, {**RUN, "left": ["a", "b"]}).read_text(encoding="utf-8")
    assert "2 slides are left" in text


def test_beyond_its_budget_the_page_keeps_cells_to_review_and_some_of_each_class(tmp_path, monkeypatch):
    run = RunFolder(tmp_path)
    run.commit(make_result(some_cells(400), 300, 200, "a"), blank(), frozenset({"report"}))
    tables = [("a", tmp_path / "slides" / "a" / "cells.csv")]
    whole = collect(tables, THUMBNAILS, budget=10_000_000)
    assert (len(whole.cells), whole.total) == (400, 400)
    size = sum(map(len, whole.pictures))
    part = collect(tables, THUMBNAILS, budget=size // 4)
    assert sum(map(len, part.pictures)) <= size // 4
    assert len(part.cells) > 60
    assert {cell.class_name for cell in part.cells} == {*CLASS_NAMES, "unidentified"}
    least = min(whole.cells, key=lambda cell: (not cell.flags, cell.confidence))
    assert least in part.cells
    monkeypatch.setattr(report_page, "LARGEST", 1_000_000)
    monkeypatch.setattr(report_page, "collect", lambda tables, name, room: collect(tables, name, size // 4))
    assert f"room for {len(part.cells)} of 400 cells" in write_report(tmp_path).read_text(encoding="utf-8")


def test_of_very_many_slides_the_page_lists_the_first_and_says_which_table_has_all(tmp_path, monkeypatch):
    run = RunFolder(tmp_path)
    for number in range(5):
        run.commit(make_result(some_cells(2), 300, 200, f"s{number}"), blank(), frozenset({"report"}))
        run.record_failure(f"bad{number}", Path("bad.png"), "cut off")
    monkeypatch.setattr(slide_list, "MAX_LISTED", 4)
    text = write_report(tmp_path).read_text(encoding="utf-8")
    assert "The page lists the first 4 of 10 slides." in text
    assert "The page lists the first 4 of 5 slides." in text
    assert "5 slides counted" in text
    assert "5 failed" in text
    assert text.count("cut off") == 8


def test_analyze_and_merge_write_the_page_and_a_run_without_it_removes_it(tmp_path, call, toy_weights):
    write_picture(tmp_path / "in" / "a.png", spots((100, 100), (300, 90)))
    write_picture(tmp_path / "in" / "b.png", spots((200, 100)))
    options = ("analyze", tmp_path / "in", "-o", tmp_path / "out", "--weights", toy_weights, "--mpp", "0.2", "--quiet")
    assert call(*options, "--write", "report").code == 0
    page = tmp_path / "out" / "report.html"
    first = page.read_bytes()
    assert b"2 slides counted" in first
    written = page.stat().st_mtime_ns
    assert call(*options, "--write", "report").code == 0
    assert page.stat().st_mtime_ns == written  # nothing has changed, so there is nothing to write
    page.unlink()
    assert call(*options, "--write", "report").code == 0
    assert page.read_bytes() == first
    assert call("merge", tmp_path / "out", "-o", tmp_path / "merged").code == 0
    assert "2 slides counted" in (tmp_path / "merged" / "report.html").read_text(encoding="utf-8")
    assert call(*options, "--write", "none").code == 0
    assert not page.exists()
