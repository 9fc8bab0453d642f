"""Training cells before other backgrounds show nothing of their own, and piled red cells absorb what both absorb."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import spots
from hypothesis import given
from hypothesis import strategies as st

from wbc_cli.training.surroundings import compressed, one_colour, other_background, overlay


def noise(seed, low=0, high=256):
    return np.random.default_rng(seed).integers(low, high, (64, 64, 3)).astype(np.uint8)


CELL = np.zeros((32, 32), bool)
CELL[10:20, 12:22] = True


@given(st.integers(0, 1000))
def test_what_lay_around_the_cell_leaves_no_trace(seed):
    cell, backdrop = noise(1), noise(2)
    other_surroundings = cell.copy()
    # Three pixels of the window around the mask belong to the soft edge, and the blur's tail to another four.
    outside = np.ones((64, 64), bool)
    outside[10:50, 14:54] = False
    other_surroundings[outside] = noise(seed)[outside]
    first, second = (other_background(rgb, CELL, backdrop) for rgb in (cell, other_surroundings))
    assert np.array_equal(first, second)
    assert np.array_equal(first[outside], backdrop[outside])


def test_the_cell_itself_stays_as_it_is():
    window = other_background(noise(1), CELL, noise(2))
    assert np.array_equal(window[22:38, 26:42], noise(1)[22:38, 26:42])


@given(st.integers(0, 1000))
def test_a_pile_is_nowhere_lighter_than_either_field(seed):
    first, second = noise(seed, 60, 250), noise(seed + 1, 60, 250)
    window = overlay(first, second)
    assert (window <= first).all()
    light = np.percentile(second.reshape(-1, 3), 95, axis=0)
    assert (window <= np.ceil(255 * np.minimum(second / light, 1))).all()


def test_an_empty_field_adds_nothing_to_a_pile():
    field = spots((30, 30), width=64, height=64, radius=10)
    assert np.array_equal(overlay(field, np.full_like(field, 210)), field)


def test_one_colour_is_one_colour_as_light_as_the_background():
    field = spots((30, 30), width=64, height=64, radius=10)
    plain = one_colour(field, np.random.default_rng(0))
    assert len(np.unique(plain.reshape(-1, 3), axis=0)) == 1
    assert plain[0, 0] == pytest.approx(np.percentile(field.reshape(-1, 3), 90, axis=0), abs=60)


def test_compression_changes_the_picture_but_not_what_it_shows():
    field = spots((30, 30), width=64, height=64, radius=10)
    small = compressed(field, np.random.default_rng(0))
    assert small.shape == field.shape
    assert not np.array_equal(small, field)
    assert np.abs(small.astype(int) - field).mean() < 8
