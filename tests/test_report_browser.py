"""The report in a real browser: it opens, filters, and takes corrections, by mouse, touch and keyboard."""

from __future__ import annotations

import base64
import csv
import io
import re
import shutil
import time
from dataclasses import replace
from datetime import UTC, datetime
from zipfile import ZipFile

import cv2
import numpy as np
import pytest
from browsing import Page
from fakes import NO_PRODUCTS, ArrayReader, blank, committed, disc, make_cell, make_result, rows
from report_runs import HOSTILE, RUN, make_small_run, some_cells, write_report
from selenium.webdriver.common.keys import Keys

from wbc_cli.classes import CLASS_NAMES
from wbc_cli.products.folder import RunFolder
from wbc_cli.products.registry import THUMBNAILS
from wbc_cli.products.thumbnails import read_thumbnails, write_thumbnails
from wbc_cli.run.merge import merge
from wbc_cli.run.reviews import NewReview


@pytest.fixture(scope="module")
def small_run(tmp_path_factory):
    return make_small_run(tmp_path_factory.mktemp("run"))


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
    assert page.focused("name") == "reviewer"  # it asks who says so
    page.press("Dr. Ann, MD")
    page.press(Keys.TAB)
    page.browser.refresh()  # and asks once
    page.one("#export").click()
    saved = page.browser.downloads / "corrections.csv"
    until = time.monotonic() + 20
    while not saved.exists() and time.monotonic() < until:
        time.sleep(0.1)
    found = list(csv.DictReader(io.StringIO(saved.read_text(encoding="utf-8"))))
    saved.unlink()
    assert list(found[0]) == ["slide", "cell", "class", "reviewer", "time"]
    assert {row["reviewer"] for row in found} == {"Dr. Ann, MD"}
    ages = [(datetime.now(UTC) - datetime.fromisoformat(row["time"])).total_seconds() for row in found]
    assert all(0 <= age < 120 for age in ages)
    classes = dict(zip(((s, n) for s, n, _ in wanted), ("lymphocyte", "unidentified", "eosinophil"), strict=True))
    assert {(row["slide"].removeprefix("'"), int(row["cell"])): row["class"] for row in found} == classes


def test_cells_to_teach_are_confirmed_by_enter_and_corrected_by_a_number_each_by_one_key(browser, tmp_path):
    rng = np.random.default_rng(0)
    cells = [replace(cell, features=rng.normal(size=8).astype(np.float16)) for cell in some_cells(120)]
    run = RunFolder(tmp_path)
    run.commit(make_result(cells, 300, 200, "monday"), blank(), frozenset({"report", "features"}))
    page = Page(browser, write_report(tmp_path))
    page.one("input[value=teaching]").click()
    order = [number for _, number, _ in page.shown()]
    assert len(order) == 100
    assert all("edge" not in cell.flags for cell in cells if cell.id in order)
    assert not page.one("select[name=order]").is_enabled()
    page.choose("taught", "50")
    assert [number for _, number, _ in page.shown()] == order[:50]
    page.all(".card")[0].click()
    for key in (Keys.ENTER, "3", Keys.ENTER):
        page.press(key)
    assert page.script("return place") == 3
    page.press(Keys.ESCAPE)
    said = page.script("return [...said].map(([cell, word]) => [data.id[cell], word.className])")
    found = {cell.id: cell.class_name for cell in cells}
    likeliest = {cell.id: CLASS_NAMES[int(cell.probabilities.argmax())] for cell in cells}
    confirmed = {n: likeliest[n] if found[n] == "unidentified" else found[n] for n in (order[0], order[2])}
    assert dict(said) == confirmed | {order[1]: "basophil"}
    assert page.one("#progress").text.startswith("Reviewed 3 of 50: ")
    basophils = sum(word == "basophil" for _, word in said)
    assert f"Basophil {basophils}" in page.one("#progress").text
    page.one("input[value=all]").click()
    assert not page.one("#progress").is_displayed()


def test_slides_are_named_in_the_corrections_as_in_cells_csv(page, small_run):
    page.script("for (let c = 0; c < count; c++) say(c, 'blast')")
    found = csv.DictReader(io.StringIO(page.script("return correctionsCsv('Ann')")))
    expected = {(cell["slide"], cell["cell"]) for cell in table_cells(small_run)}
    assert {(row["slide"], row["cell"]) for row in found} == expected
    assert ("'=cmd.png", "1") in expected


def test_corrections_of_the_page_come_back_with_reviewer_and_time_and_the_page_shows_who_signed(
    page, small_run, tmp_path
):
    run = RunFolder(tmp_path / "run")
    shutil.copytree(small_run / "slides", run.slides, dirs_exist_ok=True)
    run.write_run(RUN, committed(run))
    page.script("said.clear(); for (const c of [0, 1, 150]) say(c, 'monocyte')")
    file = tmp_path / "corrections.csv"
    file.write_text(page.script("return correctionsCsv('Ann')"), encoding="utf-8")
    merge([run.out], run.out, NewReview([file], ["monday", "'=cmd.png"], "Ann"))
    again = Page(page.browser, run.out / "report.html")
    assert [text.startswith("✓ Ann") for text in (e.text for e in again.all("#reviews td:nth-child(3)"))] == [0, 1, 1]
    again.script("said.clear(); for (const c of [0, 1, 150]) say(c, 'blast')")
    file.write_text(page.script("return correctionsCsv('Bob')"), encoding="utf-8")
    merge([run.out], run.out, NewReview([file]))
    again = Page(page.browser, run.out / "report.html")
    assert page.browser.get_log("browser") == []
    reviewed = {row.find_element("css selector", "th").text: row.text for row in again.all("#reviews tbody tr")}
    assert set(reviewed) == {HOSTILE, "=cmd.png", "monday"}
    assert "Ann" in reviewed["monday"] and "Bob" in reviewed["monday"]
    assert "they differ on 1 cell:" in reviewed["monday"]
    assert "changed since Ann signed" in reviewed["monday"]
    assert "✓ Ann" in reviewed["=cmd.png"]
    assert "monday" in again.one("header .bad a[href='#reviews']").find_element("xpath", "..").text


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
