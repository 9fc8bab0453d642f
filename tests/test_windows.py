"""Windows show what is on the slide, and where they are cut does not depend on how it is read."""

from __future__ import annotations

import numpy as np
import pytest
from fakes import ArrayReader
from hypothesis import given
from hypothesis import strategies as st

from wbc_cli.inference.windows import Window, read_window, sliding_windows

BACKGROUND = np.array([233, 221, 214], np.uint8)
NOISE = np.random.default_rng(0).integers(0, 255, (97, 131, 3), np.uint8)
coordinates = st.floats(-1e5, 1e5)


@given(coordinates, coordinates, st.integers(8, 2000))
def test_a_window_has_the_point_in_its_middle(x, y, side):
    where = Window.around(x, y, side)
    assert where.side == side
    assert np.abs(np.subtract(where.centre, (x, y))).max() <= 0.5 + 1e-6


@given(st.integers(-80, 150), st.integers(-80, 120), st.integers(8, 70))
def test_at_the_networks_own_scale_a_window_is_the_slides_pixels_and_outside_its_background(x, y, side):
    window = read_window(ArrayReader(NOISE), Window(x, y, side), side, BACKGROUND)
    height, width = NOISE.shape[:2]
    around = np.empty((height + 200, width + 200, 3), np.uint8)
    around[:] = BACKGROUND
    around[100 : 100 + height, 100 : 100 + width] = NOISE
    assert np.array_equal(window, around[100 + y : 100 + y + side, 100 + x : 100 + x + side])


@pytest.mark.parametrize("side", [40, 55, 80, 200, 640])
def test_a_window_has_the_networks_size_at_any_scale_and_shows_the_same_part(side):
    ramp = np.zeros((700, 700, 3), np.uint8)
    ramp[..., 0] = np.linspace(0, 255, 700)
    ramp[..., 1] = np.linspace(0, 255, 700)[:, None]
    where = Window(30, 50, side)
    window = read_window(ArrayReader(ramp), where, 80, BACKGROUND)
    assert window.shape == (80, 80, 3)
    expected = ramp[50 : 50 + side, 30 : 30 + side].mean(axis=(0, 1))
    assert np.abs(window.mean(axis=(0, 1)) - expected).max() < 1


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(16, 400), st.floats(0.3, 1.0))
def test_a_search_everywhere_leaves_no_gap_and_no_window_outside(width, height, side, share):
    step = max(1, round(side * share))
    windows = sliding_windows(width, height, side, step)
    for length, starts in ((width, {p.x for p in windows}), (height, {p.y for p in windows})):
        ordered = sorted(starts)
        assert ordered[0] <= 0
        assert ordered[-1] + side >= length
        assert np.diff(ordered).max(initial=0) <= step
        assert len(ordered) == 1 or (ordered[0] == 0 and ordered[-1] + side == length)
