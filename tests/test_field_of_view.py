"""What lies outside a round field of view is no part of the specimen."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from conftest import spots
from fakes import ArrayReader

from wbc_cli.inference.field_of_view import FieldReader, find_field, within_field

SIDE = 400
PALE = (236, 224, 216)


def through_an_eyepiece(surround, blur=0.0):
    """A pale field with cells in a round opening."""
    places = [(x, y) for x in range(100, 320, 50) for y in range(120, 320, 60)]
    rgb = spots(*places, width=SIDE, height=SIDE, radius=14)
    opening = np.zeros((SIDE, SIDE), np.float32)
    cv2.circle(opening, (200, 200), 190, 1.0, -1)
    if blur:
        opening = cv2.GaussianBlur(opening, (0, 0), blur)
    return (rgb * opening[..., None] + np.array(surround) * (1 - opening[..., None])).astype(np.uint8)


def test_islands_on_black_are_no_field_of_view():
    islands = [(x, y) for x in range(20, SIDE, 40) for y in range(20, SIDE, 40)]
    picture = np.zeros((SIDE, SIDE, 3), np.uint8)
    for x, y in islands:
        cv2.circle(picture, (x, y), 9, PALE, -1)
    assert find_field(ArrayReader(picture)) is None


@pytest.mark.parametrize(
    ("surround", "blur"), [((0, 0, 0), 0.0), ((22, 18, 25), 0.0), ((0, 0, 0), 5.0), ((255, 255, 255), 0.0)]
)
def test_a_black_white_or_blurred_surround_is_shown_as_background(surround, blur):
    picture = through_an_eyepiece(surround, blur)
    reader = within_field(ArrayReader(picture))
    shown = reader.read(0, 0, SIDE, SIDE)
    y, x = np.ogrid[:SIDE, :SIDE]
    away = np.hypot(y - 200, x - 200)
    assert np.abs(shown[away > 195].astype(int) - PALE).max() <= 12
    inside = away < 170
    assert np.array_equal(shown[inside], picture[inside])


def test_regions_and_downsamples_show_the_same_field():
    reader = within_field(ArrayReader(through_an_eyepiece((0, 0, 0))))
    assert isinstance(reader, FieldReader)
    whole = reader.read(0, 0, SIDE, SIDE)
    part = reader.read(8, 16, 120, 96)
    assert (part != whole[16:112, 8:128]).any(axis=2).mean() < 0.01
    assert reader.read(0, 0, SIDE, SIDE, 4.0).shape == (100, 100, 3)
    assert reader.read(0, 0, SIDE, SIDE, 4.0).min() > 40


def test_pictures_without_a_surround_are_left_as_they_are():
    reader = ArrayReader(spots((100, 100), (300, 250), width=SIDE, height=SIDE))
    assert find_field(reader) is None
    assert within_field(reader) is reader


@pytest.mark.parametrize("place", [(0, 0), (0, 200), (399, 399), (200, 399)])
def test_a_dark_cell_in_a_corner_or_at_a_border_is_no_surround(place):
    assert find_field(ArrayReader(spots(place, width=SIDE, height=SIDE, radius=150))) is None


def test_one_cell_on_an_overexposed_background_is_no_field():
    rgb = np.full((SIDE, SIDE, 3), 255, np.uint8)
    cv2.circle(rgb, (200, 200), 150, (190, 160, 210), -1)
    cv2.circle(rgb, (190, 210), 80, (96, 60, 140), -1)
    assert find_field(ArrayReader(rgb)) is None
