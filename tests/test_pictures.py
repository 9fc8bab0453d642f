"""The pictures show what a haematologist looks for."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
from fakes import (
    ArrayReader,
    blank,
    cells_from_mask,
    committed,
    disc,
    make_cell,
    make_result,
    read_png,
    rows,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from tifffile import imread

from wbc_cli.classes import BY_NAME
from wbc_cli.products.explain import write_explain
from wbc_cli.products.folder import RunFolder
from wbc_cli.products.labels import draw_labels
from wbc_cli.products.lettering import INK, PAPER, typeface
from wbc_cli.products.overlay import write_overlay
from wbc_cli.products.png import write_png
from wbc_cli.products.selection import review_order, sample

DATA = Path(__file__).parents[2] / "shared" / "data"


def test_a_small_picture_is_enlarged_and_outlines_its_cell_in_the_colour_of_its_class(tmp_path):
    cell = make_cell(1, disc(60), 30, 30, "eosinophil", confidence=0.9)
    write_overlay(make_result([cell], 128, 128), blank(128, 128), tmp_path / "overlay.png")
    picture = read_png(tmp_path / "overlay.png")
    assert picture.shape[1] == 640
    ring = (picture[:640] == BY_NAME["eosinophil"].colour).all(axis=2)
    rows_found, columns_found = np.nonzero(ring[148:])  # below the name
    assert columns_found.min() == pytest.approx(30 * 5, abs=6)
    assert columns_found.max() == pytest.approx(90 * 5, abs=6)
    assert rows_found.max() + 148 == pytest.approx(90 * 5, abs=6)


@settings(max_examples=25, deadline=None)
@given(height=st.integers(1, 40), width=st.integers(1, 40), seed=st.integers(0, 1000))
def test_a_picture_is_read_again_as_it_was_written(tmp_path_factory, height, width, seed):
    picture = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    path = tmp_path_factory.mktemp("png") / "picture.png"
    write_png(picture, path)
    with Image.open(path) as read:
        read.verify()  # the checksums, which reading alone may pass over
    assert (read_png(path) == picture).all()


@pytest.mark.parametrize("anchor", ["la", "lm", "ls", "mm", "rm", "rs"])
def test_text_stands_where_pillow_would_put_it(anchor):
    letters = typeface(15)
    ours, theirs = (Image.new("RGB", (420, 60), PAPER) for _ in range(2))
    letters.write(ours, (200, 30), "area 93 µm², nucleus 41", INK, anchor)
    ImageDraw.Draw(theirs).text((200, 30), "area 93 µm², nucleus 41", INK, letters.font, anchor)
    drawn = [np.argwhere(np.asarray(picture).min(axis=2) < 128) for picture in (ours, theirs)]
    assert np.abs(drawn[0].min(axis=0) - drawn[1].min(axis=0)).max() <= 1
    assert np.abs(drawn[0].max(axis=0) - drawn[1].max(axis=0)).max() <= 2  # words begin on whole pixels


@settings(max_examples=25, deadline=None)
@given(x=st.integers(0, 540), y=st.integers(0, 420), side=st.integers(20, 60))
def test_the_name_of_a_lone_cell_lies_in_the_picture_and_beside_the_cell(x, y, side):
    picture = np.full((480, 600, 3), 255, np.uint8)
    cell = make_cell(1, disc(side), x, y, "immature_granulocyte", confidence=0.5)
    draw_labels(picture, (cell,), 1, 16)
    drawn = (picture != 255).any(axis=2)
    assert drawn.sum() > 3000  # the whole tag: nothing was cut off
    assert not drawn[y : y + side, x : x + side][cell.mask > 0].any()


def test_names_of_neighbours_do_not_cover_each_other():
    cells = tuple(make_cell(i + 1, disc(50), 20 + 55 * i, 200, "lymphocyte") for i in range(5))
    alone = []
    for cell in cells:
        picture = np.full((450, 600, 3), 255, np.uint8)
        draw_labels(picture, (cell,), 1, 16)
        alone.append((picture != 255).any(axis=2).sum())
    together = np.full((450, 600, 3), 255, np.uint8)
    draw_labels(together, cells, 1, 16)
    drawn = (together != 255).any(axis=2)
    assert cv2.connectedComponents(drawn.astype(np.uint8))[0] - 1 >= 3
    assert drawn.sum() > 0.6 * sum(alone)
    for cell in cells:
        x0, y0, x1, y1 = cell.box
        assert not drawn[y0:y1, x0:x1][cell.mask > 0].any()


def test_a_large_slide_becomes_one_page_that_never_reads_it_whole_in_full(tmp_path):
    reader = blank(6000, 5000)
    reader.pixels[2000:2060, 3000:3060] = (90, 40, 140)
    most = 0
    read = reader.read

    def watched(x, y, width, height, downsample=1.0):
        nonlocal most
        most = max(most, round(width / downsample) * round(height / downsample))
        return read(x, y, width, height, downsample)

    reader.read = watched
    cells = [
        make_cell(i + 1, disc(60), 70 * i, 2000, list(BY_NAME)[i % 10], confidence=0.5 + i / 200) for i in range(80)
    ]
    write_overlay(make_result(cells, 6000, 5000, um_per_px=0.2), reader, tmp_path / "overlay.png")
    page = read_png(tmp_path / "overlay.png")
    assert page.shape[1] == 1600
    assert page.shape[0] < 3500
    assert 0 < most <= 1600 * 900


def test_the_mosaic_shows_those_to_review_and_some_of_every_class():
    cells = [make_cell(i + 1, disc(9), 0, 0, "neutrophil", confidence=0.5 + i / 1000) for i in range(300)]
    cells += [
        make_cell(301, disc(9), 0, 0, "basophil", confidence=0.99),
        make_cell(302, disc(9), 0, 0, "monocyte", confidence=0.98, flags=("edge",)),
    ]
    chosen = sample(cells, 56)
    assert len({cell.id for cell in chosen}) == 56
    assert {302, 301, *range(1, 28)} <= {cell.id for cell in chosen}


def test_cells_to_review_come_first_and_the_least_confident_before_others():
    cells = [
        make_cell(1, disc(9), 0, 0, "neutrophil", confidence=0.60),
        make_cell(2, disc(9), 0, 0, "neutrophil", confidence=0.99, flags=("explanation",)),
        make_cell(3, disc(9), 0, 0, "unidentified", confidence=0.30),
        make_cell(4, disc(9), 0, 0, "neutrophil", confidence=0.55),
    ]
    assert [cell.id for cell in review_order(cells)] == [3, 2, 4, 1]


def test_the_explanation_sheet_has_a_row_a_cell_up_to_24(tmp_path):
    heights = []
    for count in (0, 1, 2, 24, 60):
        cells = [make_cell(i + 1, disc(20), 5 * i % 250, 50, um_per_px=0.5) for i in range(count)]
        write_explain(make_result(cells, 300, 200, um_per_px=0.5), blank(), tmp_path / "explain.png")
        heights.append(read_png(tmp_path / "explain.png").shape[0])
    row = heights[2] - heights[1]
    assert row > 0
    assert heights == [heights[1], heights[1], heights[1] + row, heights[1] + 23 * row, heights[1] + 23 * row]


@pytest.mark.parametrize("size", [(1, 1), (30, 1500), (1500, 30), (4096, 3)])
def test_pictures_of_any_shape_are_drawn(tmp_path, size):
    cell = make_cell(1, np.ones((1, 1), np.uint8), 0, 0)
    result = make_result([cell], *size)
    RunFolder(tmp_path).commit(result, blank(*size))
    for name in ("overlay.png", "explain.png"):
        assert read_png(tmp_path / "slides" / "slide" / name).shape[1] >= 640


@pytest.mark.skipif(not DATA.is_dir(), reason="needs the data folder beside the repository (shared/data)")
def test_a_real_field_passes_through_all_products(tmp_path):
    with (DATA / "manifest.csv").open(encoding="utf-8", newline="") as file:
        field = next(row for row in csv.DictReader(file) if row["dataset"] == "bccd" and row["mask"])
    pixels = cv2.imread(str(DATA / field["image"]))[..., ::-1].copy()
    mask = cv2.imread(str(DATA / field["mask"]), cv2.IMREAD_GRAYSCALE)
    um_per_px = float(field["um_per_px"])
    cells = cells_from_mask(mask, ["neutrophil"], um_per_px)
    assert cells
    run = RunFolder(tmp_path)
    run.commit(make_result(cells, 640, 480, "field", um_per_px), ArrayReader(pixels))
    run.write_tables(committed(run))
    written = imread(tmp_path / "slides" / "field" / "mask.ome.tif", level=0)
    assert written.shape == (480, 640)
    assert (written > 0).sum() == sum((cell.mask > 0).sum() for cell in cells)
    assert len(rows(tmp_path / "cells.csv")) == len(cells)
