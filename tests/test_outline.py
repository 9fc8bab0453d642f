"""Pale cytoplasm that a half-trained network misses is found by its colour, and neighbours are not swallowed."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from wbc_cli.training.outline import whole_cell

UM_PER_PX = 0.4
GLASS, PALE, DARK, RED = (236, 224, 216), (190, 180, 214), (90, 60, 140), (214, 160, 150)


def smear(*discs, noise=2):
    rgb = np.full((80, 80, 3), GLASS, np.uint8)
    for x, y, radius, colour in discs:
        cv2.circle(rgb, (x, y), radius, colour, -1)
    noisy = rgb + np.random.default_rng(0).normal(0, noise, rgb.shape)
    return noisy.clip(0, 255).astype(np.uint8)


def disc(x, y, radius):
    mask = np.zeros((80, 80), np.uint8)
    cv2.circle(mask, (x, y), radius, 1, -1)
    return mask > 0


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


def test_a_nucleus_gets_its_cytoplasm_and_not_the_red_cell_beside_it():
    rgb = smear((40, 40, 17, PALE), (40, 40, 10, DARK), (66, 40, 9, RED), (10, 12, 9, RED))
    nucleus = disc(40, 40, 10)
    found = whole_cell(rgb, nucleus, nucleus, UM_PER_PX)
    assert iou(found, disc(40, 40, 17)) > 0.95


def test_lobes_that_lie_close_are_of_one_cell():
    rgb = smear((40, 40, 17, PALE), (34, 40, 5, DARK), (46, 40, 5, DARK))
    found = whole_cell(rgb, disc(34, 40, 5), disc(34, 40, 5) | disc(46, 40, 5), UM_PER_PX)
    assert iou(found, disc(40, 40, 17)) > 0.95


@pytest.mark.parametrize("radius", [0, 1])
def test_without_a_nucleus_what_is_known_stays(radius):
    known = disc(40, 40, 12)
    found = whole_cell(smear((40, 40, 17, PALE)), known, disc(40, 40, radius) if radius else ~known & False, UM_PER_PX)
    assert np.array_equal(found, known)


def test_a_window_full_of_nucleus_is_left_as_it_is():
    everywhere = np.ones((80, 80), bool)
    found = whole_cell(np.full((80, 80, 3), 60, np.uint8), everywhere, everywhere, UM_PER_PX)
    assert np.array_equal(found, everywhere)


def test_the_same_picture_gives_the_same_cell():
    rgb = smear((40, 40, 17, PALE), (40, 40, 10, DARK), noise=12)
    nucleus = disc(40, 40, 10)
    first = whole_cell(rgb, nucleus, nucleus, UM_PER_PX)
    cv2.setRNGSeed(5)
    assert np.array_equal(first, whole_cell(rgb, nucleus, nucleus, UM_PER_PX))
