"""Windows show what is on the slide, and where they are cut does not depend on how it is read."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import spots
from fakes import ArrayReader
from hypothesis import given
from hypothesis import strategies as st

from wbc_cli.inference import windows
from wbc_cli.inference.windows import Place, candidates, cut, slide_tone
from wbc_cli.model.saliency import STRIDE, SaliencyPrior

BACKGROUND = np.array([233, 221, 214], np.uint8)
NOISE = np.random.default_rng(0).integers(0, 255, (97, 131, 3), np.uint8)
coordinates = st.floats(-1e5, 1e5)


@given(coordinates, coordinates, st.integers(8, 2000))
def test_a_window_has_the_point_in_its_middle(x, y, side):
    place = Place.around(x, y, side)
    assert place.side == side
    assert np.abs(np.subtract(place.middle, (x, y))).max() <= 0.5 + 1e-6


@given(st.integers(-80, 150), st.integers(-80, 120), st.integers(8, 70))
def test_at_the_networks_own_scale_a_window_is_the_slides_pixels_and_outside_its_background(x, y, side):
    window = cut(ArrayReader(NOISE), Place(x, y, side), side, BACKGROUND)
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
    place = Place(30, 50, side)
    window = cut(ArrayReader(ramp), place, 80, BACKGROUND)
    assert window.shape == (80, 80, 3)
    expected = ramp[50 : 50 + side, 30 : 30 + side].mean(axis=(0, 1))
    assert np.abs(window.mean(axis=(0, 1)) - expected).max() < 1


def test_the_background_is_the_colour_of_the_glass():
    tone = slide_tone(ArrayReader(spots((100, 100), (350, 100))), 0.2)
    assert np.abs(tone.background.astype(int) - (236, 224, 216)).max() <= 1


def find(rgb, prior, um_per_px, threshold=0.5):
    reader = ArrayReader(rgb)
    return candidates(reader, prior, um_per_px, slide_tone(reader, um_per_px), threshold)


def test_every_dark_spot_is_a_candidate_and_nothing_else(dark_prior):
    places = [(30, 40), (100, 100), (350, 110), (460, 20), (250, 190)]
    points = find(spots(*places, radius=18), dark_prior, 0.2)
    assert len(points) == len(places)
    distance = np.linalg.norm(points[:, None] - np.array(places), axis=2)
    assert sorted(distance.argmin(axis=1)) == list(range(len(places)))
    assert distance.min(axis=1).max() < 18  # on the spot


def test_a_slide_without_dark_spots_has_no_candidates(dark_prior):
    assert find(spots(), dark_prior, 0.2).shape == (0, 2)


def test_spots_nearer_than_a_cell_is_wide_are_one_candidate(dark_prior):
    assert len(find(spots((200, 100), (212, 100), radius=8), dark_prior, 0.2)) == 1
    assert len(find(spots((200, 100), (260, 100), radius=8), dark_prior, 0.2)) == 2


# Few coordinates, so that equal saliencies and equal distances come up.
points_with_saliency = st.lists(
    st.tuples(st.integers(0, 40), st.integers(0, 40), st.sampled_from([0.3, 0.5, 0.500001, 0.9])), max_size=30
)


@given(points_with_saliency, st.sampled_from([0.7, 3.0, 5.0, 12.5]))
def test_of_near_candidates_the_most_salient_stays_and_none_is_lost(points, distance):
    array = np.array(points, np.float64).reshape(-1, 3)
    kept = windows._apart(array, distance)
    between = np.linalg.norm(kept[:, None] - kept, axis=2) + np.eye(len(kept)) * 1e9
    assert len(kept) < 2 or between.min() >= distance
    for x, y, saliency in array:
        near = kept[np.linalg.norm(kept - (x, y), axis=1) < distance]
        assert any(array[(array[:, :2] == point).all(axis=1), 2].max() >= saliency - 1e-4 for point in near), (
            "dropped for the sake of a less salient one"
        )


@given(points_with_saliency, st.randoms(use_true_random=False))
def test_which_candidates_stay_does_not_depend_on_their_order(points, random):
    array = np.array(points, np.float64).reshape(-1, 3)
    shuffled = np.array(random.sample(points, len(points)), np.float64).reshape(-1, 3)
    assert {tuple(p) for p in windows._apart(array, 5.0)} == {tuple(p) for p in windows._apart(shuffled, 5.0)}


def with_noise(rgb):
    return np.clip(rgb + np.random.default_rng(0).normal(0, 6, rgb.shape), 0, 255).astype(np.uint8)


def candidates_by_block(rgb, prior, um_per_px, monkeypatch):
    """The candidates of a slide read in one block, and in many."""
    reader = ArrayReader(rgb)
    tone = slide_tone(reader, um_per_px)
    monkeypatch.setattr(windows, "_BLOCK", 4096)
    whole = candidates(reader, prior, um_per_px, tone, 0.3)
    monkeypatch.setattr(windows, "_BLOCK", 96)
    assert len(list(windows._blocks(reader, um_per_px))) > 8
    return whole, candidates(reader, prior, um_per_px, tone, 0.3)


@pytest.mark.parametrize("um_per_px", [0.25, 0.5, 1.0])
def test_the_blocks_a_slide_is_read_in_do_not_change_the_candidates(dark_prior, monkeypatch, um_per_px):
    width, height = (1504, 1408) if um_per_px < 0.4 else (752, 704)
    places = np.random.default_rng(7).integers(0, width, (60, 2)).tolist()
    rgb = with_noise(spots(*places, width=width, height=height, radius=round(3.5 / um_per_px)))
    whole, blocks = candidates_by_block(rgb, dark_prior, um_per_px, monkeypatch)
    assert len(whole) > 20
    assert np.allclose(np.array(sorted(whole.tolist())), np.array(sorted(blocks.tolist())), atol=1e-3)


@pytest.mark.parametrize("um_per_px", [0.23, 0.6, 1.3])
def test_blocks_that_begin_amid_a_coarse_pixel_give_the_same_candidates_but_for_their_last_micrometres(
    dark_prior, monkeypatch, um_per_px
):
    step = 18 / um_per_px
    places = [(round((i + 0.7) * step), round((j + 0.6) * step)) for i in range(16) for j in range(14)]
    rgb = with_noise(
        spots(*places, width=round(290 / um_per_px), height=round(255 / um_per_px), radius=round(3.5 / um_per_px))
    )
    whole, blocks = candidates_by_block(rgb, dark_prior, um_per_px, monkeypatch)
    assert len(whole) == len(blocks) == len(places)
    # A peak may fall on the next place of the prior's map.
    assert np.linalg.norm(whole[:, None] - blocks, axis=2).min(axis=1).max() <= 1.5 * STRIDE / um_per_px


def test_the_margin_of_a_block_covers_all_that_the_prior_and_its_peaks_look_at():
    prior = SaliencyPrior().eval()
    with torch.no_grad():
        for parameter in prior.parameters():  # nothing cancels, nothing is cut off
            parameter.abs_().add_(0.01)
    pixels = torch.ones(1, 3, 256, 256, requires_grad=True)
    prior(pixels)[0, 0, 64, 64].backward()
    _, rows = torch.nonzero(pixels.grad[0].abs().sum(dim=0)).T
    reach = max(128 - int(rows.min()), int(rows.max()) - 128)
    blur_and_peak = (4 + 1) * STRIDE  # four deviations of the smoothing, and the neighbours of a peak
    assert reach > 15
    assert reach + blur_and_peak <= windows._MARGIN
