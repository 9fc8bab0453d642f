"""Pictures of one camera share one scale, or one for each zoom."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import spots
from fakes import ArrayReader
from hypothesis import given
from hypothesis import strategies as st

from wbc_cli.acquisition.scale import ScaleEstimates, pool_scales, zooms_of
from wbc_cli.cells import Scale
from wbc_cli.inference.scale_estimation import slide_scale

ZOOMS = zooms_of(640, 480)


def measured(um_per_px, count, spread=0.08, seed=0, zooms=ZOOMS):
    """What an estimator says that is right at a readable size, and draws what is smaller or larger to the middle."""
    rng = np.random.default_rng(seed)
    true = np.log(um_per_px)
    off = np.clip(true - np.log(zooms) - np.log(0.2), None, 0) + np.clip(true - np.log(zooms) - np.log(0.4), 0, None)
    values = true - 0.4 * off + rng.normal(0, spread, (count, 1)) + rng.normal(0, 0.03, (count, len(zooms)))
    return [ScaleEstimates(zooms, row) for row in values]


@given(st.floats(0.05, 0.3), st.integers(10, 24), st.integers(0, 99))
def test_ten_pictures_have_one_scale_that_is_right(um_per_px, count, seed):
    (pooled,) = pool_scales(measured(um_per_px, count, 0.04, seed))
    assert pooled.um_per_px == pytest.approx(um_per_px, rel=0.08)
    assert pooled.pictures == count
    assert 0.06 <= pooled.relative_error < 0.08


def test_crops_of_unlike_sizes_have_one_scale_as_well():
    sizes = [(120, 96), (200, 210), (64, 80), (300, 240)]
    crops = [measured(0.15, 1, 0.05, i, zooms_of(*sizes[i % len(sizes)]))[0] for i in range(16)]
    (pooled,) = pool_scales(crops)
    assert pooled.um_per_px == pytest.approx(0.15, rel=0.08)
    assert pooled.pictures == 16


@pytest.mark.parametrize("factor", [1.6, 2.5])
def test_a_change_of_zoom_is_found(factor):
    both = measured(0.08, 14, 0.05) + measured(0.08 * factor, 6, 0.05, seed=1)
    np.random.default_rng(2).shuffle(both)
    first, second = pool_scales(both)
    assert (first.pictures, second.pictures) == (14, 6)
    assert second.um_per_px / first.um_per_px == pytest.approx(factor, rel=0.08)


def test_a_few_pictures_that_mislead_the_estimator_are_no_change_of_zoom():
    misled = measured(0.1, 22) + measured(0.25, 2)
    (pooled,) = pool_scales(misled)
    assert pooled.um_per_px == pytest.approx(0.1, rel=0.08)


@pytest.mark.parametrize(
    ("pooled", "own", "taken", "source"),
    [
        ([0.1], 0.12, 0.1, "pooled"),
        ([0.1], 0.3, 0.3, "estimate"),
        ([0.1, 0.25], 0.22, 0.25, "pooled"),
        ([0.1, 0.25], 0.11, 0.1, "pooled"),
        ([0.1, 0.25], 0.8, 0.8, "estimate"),
        ([], 0.3, 0.3, "estimate"),
    ],
)
def test_a_picture_takes_the_zoom_that_its_cells_fit_and_else_its_own(monkeypatch, pooled, own, taken, source):
    monkeypatch.setattr(
        "wbc_cli.inference.scale_estimation.estimate_scale", lambda *_, **__: Scale(own, "estimate", 0.1)
    )
    shared = [Scale(um_per_px, "pooled", 0.06) for um_per_px in pooled]
    found = slide_scale(None, ArrayReader(spots()), None, shared)
    assert (found.um_per_px, found.source) == (taken, source)
    assert slide_scale(None, ArrayReader(spots()), 0.2, shared) == Scale(0.2, "option")
    assert slide_scale(None, ArrayReader(spots(), um_per_px=0.4), None, shared) == Scale(0.4, "file")
