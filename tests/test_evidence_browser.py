"""The pages of comparison and monitoring in a real browser: without a complaint, by keyboard, on a phone, on paper."""

from __future__ import annotations

import base64
import re

import numpy as np
import pytest
from browsing import Page
from evidence_runs import USUAL, record, write_comparison, write_reference, write_run
from selenium.webdriver.common.keys import Keys
from test_monitoring import laboratory, watched

from wbc_cli.comparison.abnormal import USUAL_LIMITS as LIMITS
from wbc_cli.comparison.compare import compare
from wbc_cli.comparison.page import write_page as write_comparison_page
from wbc_cli.comparison.reading import read_reference, read_results
from wbc_cli.monitoring.page import write_page as write_monitoring_page

HOSTILE = "<img src=x onerror=alert(1)> & $x^2$"
ABOUT = {"version": "0.1.0", "results": HOSTILE}


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A comparison of counts and one of cells with a reader who means harm, and a laboratory whose stain fades."""
    folder = tmp_path_factory.mktemp("pages")
    counted, readers = write_comparison(folder, samples=12)
    random = np.random.default_rng(0)
    kinds = random.choice(["neutrophil", "eosinophil", "basophil", "lymphocyte", "monocyte"], (2, 400), p=USUAL)
    cells = [("a.png", i, kind) for i, kind in enumerate(kinds[0])]
    typed = write_run(folder / "typed", [record("a.png", {"neutrophil": 400})], cells)
    said = [("a.png", i, kind, HOSTILE) for i, kind in enumerate(np.where(random.random(400) < 0.8, *kinds))]
    reference = write_reference(folder / "cells.csv", said, "slide,cell,class,reader")
    for name, run, table in (("counts", counted, readers), ("cells", typed, reference)):
        comparison = compare(read_reference(table, read_results(run)), LIMITS)
        write_comparison_page(comparison, ABOUT, folder / f"{name}.html")
    drifted = watched(list(laboratory(0, 30, lambda day: 0.7 if day > 25 else 1.0)))
    write_monitoring_page(drifted, ABOUT, folder / "monitor.html")
    return folder


@pytest.mark.parametrize(("name", "charts"), [("counts", 10), ("cells", 0), ("monitor", 14)])
def test_a_page_opens_without_a_complaint_and_shows_its_charts(browser, pages, name, charts):
    page = Page(browser, pages / f"{name}.html")
    assert browser.get_log("browser") == []
    assert page.script("return document.querySelectorAll('img[src=x]').length") == 0
    assert len(page.all("img.chart")) == charts  # of a single sample there is nothing to draw
    broken = page.script(
        "const decoded = await Promise.allSettled([...document.querySelectorAll('img')].map((i) => i.decode()));"
        "return decoded.filter((result) => result.status !== 'fulfilled').length"
    )
    assert broken == 0
    assert all(image.get_attribute("alt") for image in page.all("img"))


@pytest.mark.parametrize("name", ["cells", "monitor"])
def test_its_parts_are_reached_by_keyboard(browser, pages, name):
    page = Page(browser, pages / f"{name}.html")
    parts = [link.get_attribute("href").partition("#")[2] for link in page.all("nav a")]
    for part in parts:
        for _ in range(2 * len(parts) + 5):
            page.press(Keys.TAB)
            if page.focused("href") and page.focused("href").endswith(f"#{part}"):
                break
        page.press(Keys.ENTER)
        assert page.script(f"return document.querySelector('#{part}').getBoundingClientRect().top < innerHeight")


@pytest.mark.parametrize("name", ["counts", "cells", "monitor"])
def test_a_phone_shows_it_without_scrolling_sideways(browser, pages, name):
    size = {"width": 390, "height": 800, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        page = Page(browser, pages / f"{name}.html")
        assert page.script("return document.documentElement.scrollWidth") <= 390
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_it_prints_on_a_few_sheets(browser, pages):
    Page(browser, pages / "counts.html")
    printed = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", {})["data"])
    assert 1 <= len(re.findall(rb"/Type\s*/Page\b", printed)) <= 8


def test_what_is_wrong_comes_first(browser, pages):
    page = Page(browser, pages / "monitor.html")
    assert "Stain of the nuclei" in page.one(".alerts .bad").text
    assert "Stain of the nuclei" in page.one("img.chart").get_attribute("alt")
    assert "some are broken" in page.one("img.chart").get_attribute("alt")
