"""Every cell of a slide is counted once and outlined in its true size, however many windows detect it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wbc_cli.cells import CYTOPLASM, NUCLEUS
from wbc_cli.inference.assembly import deduplicate, detections
from wbc_cli.inference.window_cells import WindowCell, WindowPrediction
from wbc_cli.inference.windows import Window

WINDOW_UM = 32.0
NO_ATTRIBUTES = np.zeros(11, np.int64), np.zeros(0, np.float16), np.zeros(5, np.float32)
MAP = 80
WIDTH, HEIGHT = 900, 700
scales = pytest.mark.parametrize("um_per_px", [0.05, 0.1, 0.2, 0.25, 0.37, 0.5])


def side(um_per_px):
    return round(WINDOW_UM / um_per_px)


def predict_discs(window, *discs):
    """What a flawless network sees of round cells (x, y, radius in level-0 pixels), nuclei of half their radius."""
    unit = window.side / MAP
    middles = (np.arange(MAP) + 0.5) * unit
    columns, rows = np.meshgrid(middles + window.x, middles + window.y)
    cell, nucleus = np.zeros((MAP, MAP)), np.zeros((MAP, MAP))
    labels = np.zeros((MAP, MAP), np.uint8)
    nearest = np.full((MAP, MAP), np.inf)
    number = 0
    for x, y, radius in discs:
        distance = np.hypot(columns - x, rows - y)
        inside = np.clip(0.5 + (radius - distance) / unit, 0, 1)
        own = (inside > 0.5) & (distance - radius < nearest)
        if own.any():
            number += 1
            labels[own] = number
        nearest = np.minimum(nearest, distance - radius)
        cell = np.maximum(cell, inside)
        nucleus = np.maximum(nucleus, np.clip(0.5 + (radius / 2 - distance) / unit, 0, 1))
    present = [label for label in range(1, number + 1) if (labels == label).any()]
    probabilities = np.stack([1 - cell, cell * (1 - nucleus), cell * nucleus]).astype(np.float32)
    logits, cam = np.zeros(9, np.float32), np.zeros((20, 20), np.float32)
    cells = tuple(WindowCell(label, logits, 0.0, cam, 1.0, 1.0, 1.0, None, 0.0, *NO_ATTRIBUTES) for label in present)
    return WindowPrediction(probabilities, labels, cells, np.zeros((20, 20), np.float32))


def detect(windows, discs, width=WIDTH, height=HEIGHT):
    """Every detection of the cells in the windows."""
    return [s for window in windows for s in detections(window, predict_discs(window, *discs), width, height)]


@scales
@pytest.mark.parametrize("radius_um", [3.5, 6.0, 10.0])
@pytest.mark.parametrize("shift", [0.0, 0.3, 0.5])
def test_a_cell_has_its_true_area_place_and_nucleus_at_level_0(um_per_px, radius_um, shift):
    x, y, radius = 450.3 + shift, 350.8, radius_um / um_per_px
    (cell,) = detect([Window.around(x + 11 * shift, y, side(um_per_px))], [(x, y, radius)])
    area = np.count_nonzero(cell.mask) * um_per_px**2
    assert area == pytest.approx(np.pi * radius_um**2, rel=0.03)
    nucleus = np.count_nonzero(cell.mask == NUCLEUS) * um_per_px**2
    assert nucleus == pytest.approx(np.pi * (radius_um / 2) ** 2, rel=0.1)
    assert np.hypot(cell.x - x, cell.y - y) * um_per_px < 0.1
    x0, y0, x1, y1 = cell.box
    assert cell.mask.shape == (y1 - y0, x1 - x0)
    assert cell.mask.any(axis=0).all(), "the box fits the mask"
    assert cell.mask.any(axis=1).all(), "the box fits the mask"
    assert set(np.unique(cell.mask)) <= {0, CYTOPLASM, NUCLEUS}
    assert not cell.truncated


steps = st.floats(-9.0, 9.0)


@given(steps, steps, steps, steps, st.booleans())
def test_a_cell_seen_in_two_windows_is_counted_once_whichever_came_first(ax, ay, bx, by, turned):
    x, y, radius, unit = 450.0, 350.0, 30.0, 0.2
    windows = [Window.around(x + dx / unit, y + dy / unit, side(unit)) for dx, dy in ((ax, ay), (bx, by))]
    found = detect(windows, [(x, y, radius)])
    assert len(found) == 2
    (kept,) = deduplicate(reversed(found) if turned else found)
    distances = [np.hypot(*np.subtract(window.centre, (x, y))) for window in windows]
    nearer = min(distances)
    assert np.hypot(*np.subtract(kept.window.centre, (x, y))) == pytest.approx(nearer, abs=0.5)


def test_a_cell_that_one_window_cuts_is_taken_whole_from_the_other():
    disc = (450.0, 350.0, 30.0)
    cut_off = Window(450 - 25, 350 - 80, 160)
    whole = Window.around(450 + 45, 350 + 45, 160)  # in its corner, farther from the middle
    found = detect([cut_off, whole], [disc])
    assert [s.truncated for s in found] == [True, False]
    for order in (found, found[::-1]):
        (kept,) = deduplicate(order)
        assert kept.window == whole
        assert np.count_nonzero(kept.mask) == pytest.approx(np.pi * 30**2, rel=0.03)


@pytest.mark.parametrize(("apart", "cells"), [(0.5, 1), (0.9, 1), (1.2, 2)])
def test_outlines_of_two_windows_are_one_cell_where_they_share_two_fifths_and_else_two(apart, cells):
    """Discs that lie half, nine tenths and six fifths of their radius apart share 0.69, 0.45 and 0.28 of their area."""
    x, y, radius = 450.0, 350.0, 30.0
    first = detect([Window.around(x, y, 160)], [(x, y, radius)])
    second = detect([Window.around(x + 5, y, 160)], [(x + apart * radius, y, radius)])
    assert len(deduplicate(first + second)) == len(deduplicate(second + first)) == cells


@given(st.floats(0, 2 * np.pi), st.floats(0, 4.0), st.permutations(range(3)))
def test_two_touching_cells_stay_two(turn, gap, order):
    half = 30.0 + gap / 2
    dx, dy = half * np.cos(turn), half * np.sin(turn)
    discs = [(450 - dx, 350 - dy, 30.0), (450 + dx, 350 + dy, 30.0)]
    windows = [Window.around(x, y, 160) for x, y, _ in discs] + [Window.around(450, 350, 160)]
    kept = deduplicate(detect([windows[i] for i in order], discs))
    assert len(kept) == 2
    for x, y, _ in discs:
        nearest = min(kept, key=lambda s: np.hypot(s.x - x, s.y - y))
        assert np.hypot(nearest.x - x, nearest.y - y) < 1.5
        assert np.count_nonzero(nearest.mask) == pytest.approx(np.pi * 30**2, rel=0.05)


@given(st.integers(1, 4), st.integers(1, 5), st.randoms(use_true_random=False))
def test_a_crowd_is_counted_cell_by_cell(rows, columns, random):
    discs = [(60.0 + 75 * i, 55.0 + 75 * j, 30.0) for i in range(columns) for j in range(rows)]
    windows = [Window.around(x + random.uniform(-20, 20), y + random.uniform(-20, 20), 160) for x, y, _ in discs]
    random.shuffle(windows)
    kept = deduplicate(detect(windows, discs))
    assert len(kept) == len(discs)
    assert {(round((s.x - 60) / 75), round((s.y - 55) / 75)) for s in kept} == {
        (i, j) for i in range(columns) for j in range(rows)
    }


@scales
def test_a_cell_on_the_border_of_the_slide_ends_there_and_is_not_taken_for_cut(um_per_px):
    radius = 6.0 / um_per_px
    half = np.pi * radius**2 / 2
    for x, y in ((0, 350), (WIDTH, 350), (450, 0), (450, HEIGHT)):
        (cell,) = detect([Window.around(x, y, side(um_per_px))], [(x, y, radius)])
        x0, y0, x1, y1 = cell.box
        assert x0 >= 0
        assert y0 >= 0
        assert x1 <= WIDTH
        assert y1 <= HEIGHT
        assert x0 == 0 or y0 == 0 or x1 == WIDTH or y1 == HEIGHT
        assert np.count_nonzero(cell.mask) == pytest.approx(half, rel=0.04)
        assert not cell.truncated


def test_what_lies_outside_the_slide_is_no_cell():
    assert detect([Window.around(0, 350, 160)], [(-40, 350, 30)]) == []


def test_a_slide_smaller_than_a_window_is_no_cut():
    (cell,) = detect([Window.around(20, 20, 160)], [(20.0, 20.0, 60.0)], width=40, height=40)
    assert cell.box == (0, 0, 40, 40)
    assert (cell.mask > 0).all()
    assert not cell.truncated


def test_a_window_without_cells_shows_none():
    assert detect([Window.around(450, 350, 160)], []) == []
