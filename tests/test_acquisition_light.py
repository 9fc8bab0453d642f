"""An uneven light that pictures of one camera share is found and divided out."""

from __future__ import annotations

import cv2
import numpy as np
from fakes import unevenly_lit, vignette

from wbc_cli.acquisition.light import even, field_of, measure_light, pool_light
from wbc_cli.slides.reader import UNEVEN


def test_a_light_field_is_found_and_divided_out():
    light = vignette(0.5)
    pooled = pool_light([measure_light(reader) for reader in unevenly_lit(light)])
    known = field_of(pooled, *light.shape[:2])
    off = np.abs(known / known[120, 160] / (light / light[120, 160]) - 1)
    assert off.mean() < 0.02
    assert off.max() < 0.1  # in the corners
    evened = even(next(unevenly_lit(light, seed=7)), pooled)
    plain = next(unevenly_lit(np.ones_like(light), seed=7)).pixels
    seen = evened.read(0, 0, 320, 240).astype(float)
    off = np.abs(seen / plain / np.median(seen / plain, axis=(0, 1)) - 1)
    assert off.mean() < 0.02
    assert off.max() < 0.1
    assert evened.flags == (UNEVEN,)


def test_regions_of_an_evened_picture_fit_the_whole():
    reader = next(unevenly_lit(vignette(0.5)))
    evened = even(reader, pool_light([measure_light(reader) for reader in unevenly_lit(vignette(0.5))]))
    whole = evened.read(0, 0, 320, 240)
    assert np.array_equal(evened.read(40, 60, 100, 80), whole[60:140, 40:140])
    small = cv2.resize(whole[60:140, 40:140], (50, 40), interpolation=cv2.INTER_AREA).astype(int)
    assert np.abs(evened.read(40, 60, 100, 80, 2.0) - small).max() <= 2


def test_even_light_a_cell_in_every_middle_and_few_pictures_are_left_as_they_are():
    assert pool_light([measure_light(reader) for reader in unevenly_lit(vignette(0.02))]) is None
    assert pool_light([measure_light(reader) for reader in unevenly_lit(vignette(0.0), centred=True)]) is None
    assert pool_light([measure_light(reader) for reader in unevenly_lit(vignette(0.5), count=7)]) is None
    mixed = [*unevenly_lit(vignette(0.5), count=5), *unevenly_lit(vignette(0.0), count=5)]
    assert pool_light([measure_light(reader) for reader in mixed]) is None
    reader = next(unevenly_lit(vignette(0.0)))
    assert even(reader, None) is reader


def test_under_an_eyepiece_only_the_field_counts():
    disc = np.zeros((240, 320, 1))
    cv2.circle(disc, (160, 120), 118, 1, -1)
    lights = [measure_light(reader) for reader in unevenly_lit(vignette(0.0) * disc)]
    assert np.isnan(lights[0].background[0, 0]).all()
    assert np.isfinite(lights[0].background[7, 10]).all()
