"""The report shows a run to somebody who has never seen one, and takes corrections."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import shutil
import time
from dataclasses import replace
from pathlib import Path
from zipfile import ZipFile

import cv2
import numpy as np
import pytest
from conftest import spots, write_picture
from fakes import NO_PRODUCTS, ArrayReader, blank, committed, disc, make_cell, make_result, rows, small_result
from markupsafe import escape
from selenium import webdriver
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.select import Select

from wbc_cli.classes import CLASS_NAMES
from wbc_cli.products.folder import RunFolder
from wbc_cli.products.report import page as report_page
from wbc_cli.products.report.cells import collect
from wbc_cli.products.thumbnails import THUMBNAILS, read_thumbnails, write_thumbnails

HOSTILE = '<img src=x onerror=alert(1)>,"quoted" & $x^2$.png'
RUN = {"version": "0.1.0", "weights_sha256": "4df191c2", "options": {"precision": "auto", "batch_size": None}}
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,900",
)


def write_report(folder, run=RUN):
    RunFolder(folder).write_report(run, committed(RunFolder(folder)))
    return folder / "report.html"


def some_cells(number, first=1):
    """Cells of every class, one less certain than the other; every tenth is flagged."""
    kinds = (*CLASS_NAMES, "unidentified")
    return [
        make_cell(
            i + first,
            disc(30),
            5 + 4 * (i % 60),
            5 + i % 150,
            kinds[i % len(kinds)],
            confidence=round(0.99 - 0.4 * ((7 * i) % number) / number, 4),
            flags=("edge",) if i % 10 == 3 else (),
        )
        for i in range(number)
    ]


@pytest.fixture(scope="module")
def small_run(tmp_path_factory):
    """Three slides that are done, one that was refused and one that failed."""
    folder = tmp_path_factory.mktemp("run")
    run = RunFolder(folder)
    write = frozenset({"report"})
    run.commit(make_result(some_cells(120), 300, 200, "monday"), blank(), write)
    run.commit(make_result(some_cells(30), 300, 200, HOSTILE), blank(), write)
    run.commit(make_result(some_cells(9), 300, 200, "=cmd.png", flags=("blurred",)), blank(), write)
    refused = make_result(some_cells(12), 300, 200, "refused")
    run.commit(replace(refused, refusal="out of focus: focus and take it again"), blank(), write)
    run.record_failure("bad", Path("in/<script>alert(1)</script>.png"), "cut off: <b>copy</b> it again")
    write_report(folder)
    return folder


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
    assert "not a diagnosis" in text
    assert "for review by a qualified person" in text
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
    assert [HOSTILE, HOSTILE, False] in data["slides"]


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
    assert all("&lt;img src=x" in chart and "<img" not in chart for chart in charts[1:])
    assert ".c-neutrophil{background:rgb(0,114,178)}" in text


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
    whole = collect(tables, THUMBNAILS)
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


def test_analyze_and_merge_write_the_page_and_a_run_without_it_removes_it(tmp_path, call, toy_weights):
    write_picture(tmp_path / "in" / "a.png", spots((100, 100), (300, 90)))
    write_picture(tmp_path / "in" / "b.png", spots((200, 100)))
    options = ("analyze", tmp_path / "in", "-o", tmp_path / "out", "--weights", toy_weights, "--mpp", "0.2", "--quiet")
    assert call(*options, "--write", "report").code == 0
    page = tmp_path / "out" / "report.html"
    first = page.read_bytes()
    assert b"2 slides counted" in first
    assert call(*options, "--write", "report").code == 0
    assert page.read_bytes() == first
    assert call("merge", tmp_path / "out", "-o", tmp_path / "merged").code == 0
    assert "2 slides counted" in (tmp_path / "merged" / "report.html").read_text(encoding="utf-8")
    assert call(*options, "--write", "none").code == 0
    assert not page.exists()


# --- in a browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A Chromium without a window; its downloads go to `browser.downloads`."""
    if not (CHROMIUM and DRIVER):
        pytest.skip("needs the Debian packages chromium and chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    profile = tmp_path_factory.mktemp("profile")
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.downloads = tmp_path_factory.mktemp("downloads")
    driver.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(driver.downloads)})
    yield driver
    driver.quit()


class Page:
    """The page in the browser, as a reviewer handles it."""

    def __init__(self, browser, path):
        self.browser = browser
        browser.get(path.as_uri())

    def all(self, selector):
        return self.browser.find_elements("css selector", selector)

    def one(self, selector):
        return self.browser.find_element("css selector", selector)

    def script(self, text):
        return self.browser.execute_script(text)

    def choose(self, name, label):
        select = Select(self.one(f"select[name={name}]"))
        (text,) = (option.text for option in select.options if option.text.startswith(label))
        select.select_by_visible_text(text)

    def fill(self, name, value):
        self.script(f"filters.elements['{name}'].value = '{value}'; update()")

    def shown(self):
        """Slide, id and confidence of the cells on the cards, in order."""
        return self.script("return shown.map((c) => [slideName(c), data.id[c], data.confidence[c] / 100])")

    def press(self, key):
        self.browser.switch_to.active_element.send_keys(key)

    def focused(self, attribute):
        return self.browser.switch_to.active_element.get_attribute(attribute)


@pytest.fixture
def page(browser, small_run):
    """The page of the small run, with nothing reviewed yet."""
    opened = Page(browser, small_run / "report.html")
    opened.script("localStorage.clear()")
    browser.refresh()
    return opened


def table_cells(folder):
    """The rows of all cells.csv of a run."""
    return [row for table in sorted(folder.glob("slides/*/cells.csv")) for row in rows(table)]


def least_certain(cells, number):
    return sorted(float(cell["confidence"]) for cell in cells if "refused" not in cell["flags"])[:number]


def test_it_opens_without_a_complaint(page):
    assert page.browser.get_log("browser") == []
    page.one("nav .main").click()
    assert page.all(".card")
    assert page.script("return document.querySelectorAll('img[src=x]').length") == 0
    broken = page.script(
        "const decoded = await Promise.allSettled([...document.querySelectorAll('main img')].map((i) => i.decode()));"
        "return decoded.filter((result) => result.status !== 'fulfilled').length"
    )
    assert broken == 0


def test_the_three_least_certain_cells_are_two_clicks_away(page, small_run):
    expected = least_certain(table_cells(small_run), 3)
    page.one("nav .main").click()  # the first
    cards = page.all(".card")[:3]
    height = page.script("return innerHeight")
    assert all(0 < card.rect["y"] - page.script("return scrollY") < height - 150 for card in cards)
    assert [confidence for _, _, confidence in page.shown()[:3]] == pytest.approx(expected, abs=1e-3)
    cards[0].click()  # the second
    assert page.one("dialog").is_displayed()
    assert page.one("#cell-title").text
    assert len(page.all("#cell-classes button")) == 10


def test_filters_show_what_they_say(page, small_run):
    cells = table_cells(small_run)
    page.one("input[value=all]").click()
    assert len(page.shown()) == len(cells)
    page.choose("class", "Monocyte")
    assert len(page.shown()) == sum(cell["class"] == "monocyte" for cell in cells)
    page.choose("slide", "monday")
    expected = [c for c in cells if c["class"] == "monocyte" and c["slide"] == "monday"]
    assert {(slide, number) for slide, number, _ in page.shown()} == {("monday", int(c["cell"])) for c in expected}
    page.choose("class", "any")
    page.choose("flag", "edge")
    assert len(page.shown()) == sum("edge" in c["flags"] and c["slide"] == "monday" for c in cells)
    page.choose("flag", "any")
    page.fill("to", "80")
    page.fill("from", "70")
    expected = [
        float(c["confidence"]) for c in cells if c["slide"] == "monday" and 0.7 <= float(c["confidence"]) <= 0.8
    ]
    assert [confidence for _, _, confidence in page.shown()] == pytest.approx(sorted(expected), abs=1e-4)
    assert f"{len(expected)} cells shown" in page.one("#shown").text
    page.fill("from", "100")
    assert "No cell fits" in page.one("#shown").text
    assert page.all(".card") == []


def test_the_queue_holds_unidentified_blasts_and_flagged_cells_but_none_of_a_refused_slide(page, small_run):
    queue = {(slide, number) for slide, number, _ in page.shown()}
    for cell in table_cells(small_run):
        slide = cell["slide"].removeprefix("'")
        if cell["class"] in ("unidentified", "blast") or cell["flags"]:
            assert ((slide, int(cell["cell"])) in queue) == ("refused" not in cell["flags"])


def test_by_keyboard_alone_cells_are_typed_and_saved_as_csv(page, small_run):
    page.one("nav .main").send_keys(Keys.ENTER)
    for _ in range(40):  # from there through the filters
        page.press(Keys.TAB)
        if page.focused("data-place") == "0":
            break
    page.press(Keys.ENTER)
    wanted = page.shown()[:3]
    page.press("4")
    page.press(Keys.ARROW_RIGHT)
    page.press("0")
    page.press(Keys.ARROW_RIGHT)
    page.press("7")
    page.press("2")  # thinks better of it
    page.press(Keys.ESCAPE)
    assert not page.one("dialog").is_displayed()
    assert page.focused("data-place") == "2"
    page.press(Keys.ARROW_LEFT)
    assert page.focused("data-place") == "1"
    page.browser.refresh()  # what was said stays
    assert page.one("#n-reviewed").text == "3"
    page.one("#export").click()
    saved = page.browser.downloads / "corrections.csv"
    until = time.monotonic() + 20
    while not saved.exists() and time.monotonic() < until:
        time.sleep(0.1)
    found = list(csv.DictReader(io.StringIO(saved.read_text(encoding="utf-8"))))
    saved.unlink()
    assert list(found[0]) == ["slide", "cell", "class"]
    classes = dict(zip(((s, n) for s, n, _ in wanted), ("lymphocyte", "unidentified", "eosinophil"), strict=True))
    assert {(row["slide"].removeprefix("'"), int(row["cell"])): row["class"] for row in found} == classes


def test_slides_are_named_in_the_corrections_as_in_cells_csv(page, small_run):
    page.script("for (let c = 0; c < count; c++) say(c, 'blast')")
    found = csv.DictReader(io.StringIO(page.script("return correctionsCsv()")))
    expected = {(cell["slide"], cell["cell"]) for cell in table_cells(small_run)}
    assert {(row["slide"], row["cell"]) for row in found} == expected
    assert ("'=cmd.png", "1") in expected


def test_a_phone_shows_it_without_scrolling_sideways_and_dark_where_the_system_is(page):
    page.browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 390, "height": 800, "deviceScaleFactor": 2, "mobile": True}
    )
    page.browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    )
    try:
        assert page.script("return document.documentElement.scrollWidth") <= 390
        red, green, blue = map(
            int, re.findall(r"\d+", page.script("return getComputedStyle(document.body).backgroundColor"))
        )
        assert max(red, green, blue) < 60
        page.one("nav .main").click()
        page.one(".card").click()
        assert page.one("dialog").rect["width"] <= 390
    finally:
        page.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
        page.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_twenty_thousand_cells_open_at_once_on_a_page_of_bounded_size(browser, tmp_path):
    run = RunFolder(tmp_path)
    cells = some_cells(20_000)
    run.commit(make_result(cells, 300, 200, "large"), blank(), NO_PRODUCTS)
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
    reader = ArrayReader(cv2.GaussianBlur(noise, (0, 0), 2.3))  # as many bytes as a picture of a real smear
    write_thumbnails(make_result([make_cell(1, disc(60), 110, 110)], 300, 300), reader, tmp_path / "pictures.zip")
    picture = read_thumbnails(tmp_path / "pictures.zip", [1])[1]
    with ZipFile(tmp_path / "slides" / "large" / THUMBNAILS, "w") as archive:
        for cell in cells:
            archive.writestr(f"{cell.id}.webp", picture)
    began = time.monotonic()
    path = write_report(tmp_path)
    made = time.monotonic() - began
    began = time.monotonic()
    page = Page(browser, path)
    page.one("nav .main").click()
    assert page.all(".card")
    opened = time.monotonic() - began
    began = time.monotonic()
    page.one("input[value=all]").click()
    page.script("scrollTo(0, document.body.scrollHeight / 2)")
    page.script("return new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    scrolled = time.monotonic() - began
    print(
        f"\n{path.stat().st_size / 1e6:.1f} MB, pictures of {len(picture)} bytes: made in {made:.1f} s, "
        f"opened in {opened:.2f} s, all shown and scrolled in {scrolled:.2f} s"
    )
    assert path.stat().st_size < 50e6
    assert opened < 15  # 5 s on a quiet machine
    assert len(page.all(".card")) < 200
    assert page.script("return [...document.querySelectorAll('.card')].some((c) => c.getBoundingClientRect().top > 0)")
    assert browser.get_log("browser") == []
    printed = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", {})["data"])
    assert 1 <= len(re.findall(rb"/Type\s*/Page\b", printed)) < 12
