"""Cells are separated as the maps say: as many as there are, however they touch, without crumbs and holes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from wbc_cli.inference.instances import separate
from wbc_cli.model.heads import MAP_STRIDE

SIDE = 80
LEAST = 75.0  # map pixels: 12 um2 at 0.4 um a map pixel


def disc(x, y, radius):
    rows, columns = np.mgrid[:SIDE, :SIDE]
    return (columns - x) ** 2 + (rows - y) ** 2 < radius**2


def maps(labels):
    """Foreground and exact offsets for a label map: every pixel points at the mean of its cell's pixels."""
    offsets = np.zeros((2, *labels.shape), np.float32)
    for label in range(1, labels.max() + 1):
        rows, columns = np.nonzero(labels == label)
        offsets[0, rows, columns] = (columns.mean() - columns) * MAP_STRIDE
        offsets[1, rows, columns] = (rows.mean() - rows) * MAP_STRIDE
    return (labels > 0).astype(np.float32), offsets


def labelled(*discs):
    """Numbered discs (x, y, radius); later ones lie below earlier ones."""
    labels = np.zeros((SIDE, SIDE), np.int64)
    for number, (x, y, radius) in enumerate(discs, start=1):
        labels[disc(x, y, radius) & (labels == 0)] = number
    return labels


def same_partition(found, truth):
    """Two label maps that differ in nothing but the numbers."""
    pairs = set(zip(found.ravel().tolist(), truth.ravel().tolist(), strict=True))
    return len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs}) and (0, 0) in pairs


places = st.tuples(st.floats(8, SIDE - 8), st.floats(8, SIDE - 8), st.floats(7.0, 14.0))


@given(st.lists(places, max_size=6))
def test_cells_apart_or_touching_are_found_pixel_by_pixel(discs):
    for i, (x, y, radius) in enumerate(discs):
        assume(all(np.hypot(x - u, y - v) >= radius + r for u, v, r in discs[:i]))
    truth = labelled(*discs)
    found = separate(*maps(truth), LEAST)
    assert found.max() == len(discs)
    assert same_partition(found, truth)


@pytest.mark.parametrize("gap", [0.0, 0.5, -2.0, -5.0])
@pytest.mark.parametrize("turn", np.deg2rad([0, 30, 45, 90]))
def test_touching_and_pressed_together_cells_stay_two(gap, turn):
    half = (24 + gap) / 2
    x, y = half * np.cos(turn), half * np.sin(turn)
    truth = labelled((40 - x, 40 - y, 12), (40 + x, 40 + y, 12))
    assert same_partition(separate(*maps(truth), LEAST), truth)


def test_a_ring_of_cells_around_another_stays_seven():
    ring = [(40 + 20 * np.cos(a), 40 + 20 * np.sin(a), 10) for a in np.deg2rad(np.arange(0, 360, 60))]
    truth = labelled((40, 40, 10), *ring)
    found = separate(*maps(truth), LEAST)
    assert found.max() == 7
    assert same_partition(found, truth)


@given(st.integers(0, 2**32 - 1), st.floats(0, 3.0))
def test_offsets_that_are_a_little_wrong_separate_touching_cells_all_the_same(seed, error_px):
    truth = labelled((28, 40, 12), (52, 40, 12))
    foreground, offsets = maps(truth)
    noisy = offsets + np.random.default_rng(seed).normal(0, error_px, offsets.shape).astype(np.float32)
    found = separate(foreground, noisy, LEAST)
    assert found.max() == 2
    assert (found[disc(28, 40, 10)] == found[40, 28]).all()
    assert (found[disc(52, 40, 10)] == found[40, 52]).all()


@given(places, st.floats(1.0, 4.5))
def test_pieces_smaller_than_a_cell_are_dropped(large, radius):
    x, y, _ = large
    crumb = ((x + 40) % SIDE, (y + 40) % SIDE, radius)
    assume(np.hypot(crumb[0] - x, crumb[1] - y) > large[2] + radius)
    truth = labelled(large, crumb)
    found = separate(*maps(truth), LEAST)
    assert np.array_equal(found > 0, truth == 1)


def test_nothing_but_crumbs_is_no_cell():
    truth = labelled((20, 20, 3), (60, 60, 4))
    assert (truth > 0).sum() < LEAST
    assert not separate(*maps(truth), LEAST).any()
    assert not separate(*maps(labelled((20, 20, 4), (60, 20, 4), (60, 60, 4))), LEAST).any()


@pytest.mark.parametrize(("radius", "astray"), [(5.7, 8), (18, 60)])
def test_a_few_pixels_that_point_astray_stay_with_their_cell(radius, astray):
    """Too few for the least cell, and of a large cell too few beside the many that agree."""
    truth = labelled((30, 30, radius))
    foreground, offsets = maps(truth)
    rows, columns = np.nonzero(truth)
    left = np.lexsort((rows, columns))[:astray]
    rows, columns = rows[left], columns[left]
    offsets[0, rows, columns], offsets[1, rows, columns] = (30 - columns) * MAP_STRIDE, (62 - rows) * MAP_STRIDE
    assert np.array_equal(separate(foreground, offsets, LEAST), truth)


def test_the_least_cell_is_found_though_its_pixels_do_not_agree_on_its_middle():
    truth = labelled((40, 40, 5.2))
    assert LEAST < truth.sum() < 1.2 * LEAST
    foreground, offsets = maps(truth)
    noise = np.random.default_rng(0).normal(0, 2 * MAP_STRIDE, offsets.shape).astype(np.float32)
    assert np.array_equal(separate(foreground, offsets + noise, LEAST), truth)


def test_an_empty_window_has_no_cells():
    assert not separate(*maps(labelled()), LEAST).any()


def test_holes_are_filled():
    truth = labelled((40, 40, 14))
    foreground, offsets = maps(truth)
    foreground[disc(38, 41, 4)] = 0.2
    assert np.array_equal(separate(foreground, offsets, LEAST) > 0, truth > 0)


def test_a_cell_is_one_piece():
    """A stray patch that points at a cell across empty space is not a part of it."""
    foreground, offsets = maps(labelled((30, 40, 12)))
    patch = disc(70, 40, 3)
    rows, columns = np.nonzero(patch)
    foreground[patch] = 1
    offsets[0, rows, columns], offsets[1, rows, columns] = (30 - columns) * MAP_STRIDE, (40 - rows) * MAP_STRIDE
    assert np.array_equal(separate(foreground, offsets, LEAST) > 0, disc(30, 40, 12))


@pytest.mark.parametrize("gap", [0.0, 10.0])
def test_a_small_lymphocyte_beside_a_large_monocyte_is_found(gap):
    """7 and 20 um across, touching and apart."""
    truth = labelled((28, 30, 25), (28 + 25 + 8.75 + gap, 40, 8.75))
    found = separate(*maps(truth), LEAST)
    assert found.max() == 2
    assert same_partition(found, truth)
