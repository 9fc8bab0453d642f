"""The coarse pass finds what is dark, wherever it lies and however the slide is read."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from conftest import spots
from fakes import ArrayReader
from hypothesis import given
from hypothesis import strategies as st

from wbc_cli.inference import coarse, coarse_strips
from wbc_cli.inference.coarse import SlideColours, candidates, density_table, slide_background, slide_colours
from wbc_cli.model.saliency import (
    COARSE_UM_PER_PX,
    INPUTS,
    STRIDE,
    SaliencyPrior,
    field_statistics,
    prior_input,
)
from wbc_cli.resources.parallel import Tasks


def test_the_background_is_what_nothing_lies_on():
    background = slide_background(ArrayReader(spots((100, 100), (350, 100))), 0.2)
    assert np.abs(background.astype(int) - (236, 224, 216)).max() <= 1


def test_the_background_does_not_hang_on_which_side_of_a_field_is_thick():
    field = np.full((300, 480, 3), (236, 224, 216), np.uint8)
    field[:, :150] = (190, 150, 165)
    background, mirrored = (
        slide_background(ArrayReader(np.ascontiguousarray(f)), 0.2) for f in (field, field[:, ::-1])
    )
    assert np.array_equal(background, mirrored)


def densities(mean, deviation, count, seed):
    """Stain densities of pixels, float [1, 3, 1, count], whose thickness differs as that of red cells does."""
    random = np.random.default_rng(seed)
    thickness = 1 + deviation * random.normal(size=(1, count))
    pixels = np.array(mean)[:, None] * thickness + 0.03 * random.normal(size=(3, count))
    return torch.from_numpy(pixels.astype(np.float32))[None, :, None]


@pytest.mark.parametrize("share", [0.1, 0.3, 0.6])
def test_what_the_red_cells_of_a_field_look_like_hardly_depends_on_its_white_cells(share):
    white_pixels = round(1000 * share)
    red = densities((0.15, 0.9, 0.4), 0.2, 1000 - white_pixels, 0)
    white = densities((1.2, 1.4, 0.9), 0.2, white_pixels, 1)
    alone, among = field_statistics(red), field_statistics(torch.cat([red, white], dim=3))
    assert torch.allclose(alone.mean, among.mean, atol=0.05)
    assert torch.allclose(alone.deviation, among.deviation, atol=0.05)
    # Red light is what they do not take up, and that shows in deviations that red cells hardly reach.
    seen_red, seen_white = (prior_input(part, among)[0, -1] for part in (red, white))
    assert float(seen_red.abs().mean()) < 1.5
    assert float(seen_white.min()) > 3


def test_trimming_leaves_what_red_cells_look_like_as_it_is():
    red = densities((0.15, 0.9, 0.4), 0.2, 1000, 0)
    statistics = field_statistics(red)
    assert torch.allclose(statistics.mean, red.mean(dim=(2, 3), keepdim=True), atol=0.05)
    assert torch.allclose(statistics.deviation, red.std(dim=(2, 3), keepdim=True), atol=0.05)


def test_the_statistics_of_a_field_do_not_depend_on_the_fields_beside_it():
    fields = torch.cat([densities((0.15, 0.9, 0.4), 0.2, 256, seed) for seed in range(5)])
    together = field_statistics(fields)
    for number, field in enumerate(fields):
        for part, alone in zip(together, field_statistics(field[None]), strict=True):
            assert torch.equal(part[number], alone[0])


def find(rgb, prior, um_per_px, threshold=0.2):
    reader = ArrayReader(rgb)

    def saliency(pixels):
        with torch.inference_mode():
            return torch.sigmoid(prior(torch.from_numpy(pixels).permute(0, 3, 1, 2)))[:, 0].numpy()

    with ThreadPoolExecutor(2) as pool, Tasks(pool) as tasks:
        return candidates(reader, saliency, um_per_px, slide_colours(reader, um_per_px), threshold, tasks)


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
    assert len(find(spots((200, 100), (220, 100), radius=18), dark_prior, 0.2)) == 1
    assert len(find(spots((200, 100), (270, 100), radius=18), dark_prior, 0.2)) == 2


def find_where_density_is_seen(density, threshold):
    """Candidates of a prior that takes the density of the first of every STRIDE x STRIDE pixels for the saliency."""
    background = np.full(3, 230, np.uint8)
    levels = density_table(background)[0, :, 1]
    reader = ArrayReader(np.abs(levels - density[..., None]).argmin(axis=-1).astype(np.uint8)[..., None].repeat(3, -1))

    def saliency(density):
        return np.clip(density[:, ::STRIDE, ::STRIDE, 1], 0, 1)

    with ThreadPoolExecutor(1) as pool, Tasks(pool) as tasks:
        colours = SlideColours(background, slide_colours(reader, COARSE_UM_PER_PX).statistics)
        return candidates(reader, saliency, COARSE_UM_PER_PX, colours, threshold, tasks)


def drawn(side, *spots):
    """A density map, 0 but for spots: upper left corner (x, y) and pattern."""
    density = np.zeros((side, side))
    for x, y, pattern in spots:
        density[y : y + len(pattern), x : x + pattern.shape[1]] = pattern
    return density


CORNERS = [(20, 20), (20, 80), (80, 20), (80, 80)]


def assert_on_the_corners(points, doubtful):
    """One candidate in the middle of each of the spots of 3 x 3 places there, and then those that are doubtful."""
    found = list(map(tuple, points.tolist()))
    assert sorted(found[: len(CORNERS)]) == [(x + 1.5 * STRIDE, y + 1.5 * STRIDE) for x, y in CORNERS]
    assert sorted(found[len(CORNERS) :]) == doubtful


def test_a_single_place_that_its_neighbours_do_not_confirm_is_no_sure_candidate():
    small, large = np.full((STRIDE, STRIDE), 0.9), np.full((3 * STRIDE, 3 * STRIDE), 0.45)
    points = find_where_density_is_seen(drawn(120, (50, 50, small), *((x, y, large) for x, y in CORNERS)), 0.4)
    assert_on_the_corners(points, [(50 + STRIDE / 2, 50 + STRIDE / 2)])


def test_a_doubtful_place_counts_as_what_it_is_however_its_pixels_fall():
    pale = np.full((3 * STRIDE, 3 * STRIDE), 0.35)
    unlucky = pale.copy()
    unlucky[1::2], unlucky[:, 1::2] = 0.9, 0.9  # the prior sees the other pixels at first
    places = [(x, y, unlucky) for x, y in CORNERS] + [(50, y, pale) for y in (20, 50, 80)]
    pale_places = [(50 + 1.5 * STRIDE, y + 1.5 * STRIDE) for y in (20, 50, 80)]
    assert_on_the_corners(find_where_density_is_seen(drawn(120, *places), 0.5), pale_places)


# Few coordinates, so that equal saliencies and equal distances come up.
points_with_saliency = st.lists(
    st.tuples(st.integers(0, 40), st.integers(0, 40), st.sampled_from([0.3, 0.5, 0.500001, 0.9])), max_size=30
)


@given(points_with_saliency, st.sampled_from([0.7, 3.0, 5.0, 12.5]))
def test_of_near_candidates_the_most_salient_stays_and_none_is_lost(points, distance):
    array = np.array(points, np.float64).reshape(-1, 3)
    kept = coarse._suppress_neighbours(array, distance, 0.0)[:, :2]
    between = np.linalg.norm(kept[:, None] - kept, axis=2) + np.eye(len(kept)) * 1e9
    assert len(kept) < 2 or between.min() >= distance
    for x, y, saliency in array:
        near = kept[np.linalg.norm(kept - (x, y), axis=1) < distance]
        assert any(array[(array[:, :2] == point).all(axis=1), 2].max() >= saliency - 1e-4 for point in near), (
            "dropped for the sake of a less salient one"
        )


@given(points_with_saliency, st.sampled_from([0.4, 0.7, 0.95]))
def test_below_the_threshold_the_most_salient_places_are_looked_at_few_beside_those_that_are_sure(points, threshold):
    array = np.array(points, np.float64).reshape(-1, 3)
    every = coarse._suppress_neighbours(array, 5.0, 0.0)
    rank, sure = np.arange(len(every)), (every[:, 2] >= threshold).sum()
    doubtful = (every[:, 2] >= threshold / 2) & (rank < sure + min(sure, max(3, 0.1 * sure)))
    wanted = every[(every[:, 2] >= threshold) | doubtful | (rank < 3)]
    np.testing.assert_array_equal(coarse._suppress_neighbours(array, 5.0, threshold), wanted)


@given(points_with_saliency, st.randoms(use_true_random=False))
def test_which_candidates_stay_does_not_depend_on_their_order(points, random):
    array = np.array(points, np.float64).reshape(-1, 3)
    shuffled = np.array(random.sample(points, len(points)), np.float64).reshape(-1, 3)
    kept, of_shuffled = (coarse._suppress_neighbours(candidates, 5.0, 0.0) for candidates in (array, shuffled))
    assert {tuple(p) for p in kept} == {tuple(p) for p in of_shuffled}


@pytest.mark.parametrize("side", [400, 404, 408, 412])
def test_a_cell_at_any_edge_is_a_candidate_whatever_the_size(dark_prior, side):
    middles = [(side // 2, 6), (side // 2, side - 6), (6, side // 2), (side - 6, side // 2)]
    points = find(spots(*middles, width=side, height=side, radius=22), dark_prior, 0.25, 0.01)
    for middle in middles:
        assert np.linalg.norm(points - middle, axis=1).min() < 24


@pytest.mark.parametrize("beyond", [0, 1, 2, 3, 4, 5, 9])
@pytest.mark.parametrize("um_per_px", [0.25, 0.61])
def test_a_slide_a_little_wider_or_higher_than_its_blocks_is_read(dark_prior, monkeypatch, beyond, um_per_px):
    monkeypatch.setattr(coarse_strips, "BLOCK_PX", 512)
    for width, height in ((1024 + beyond, 700), (700, 1024 + beyond), (1, 1), (1024, 1)):
        place = (width // 2, height // 2)
        points = find(spots(place, width=width, height=height, radius=20), dark_prior, um_per_px, 0.01)
        assert np.isfinite(points).all()
        assert height < 100 or np.linalg.norm(points - place, axis=1).min() < 24


def with_noise(rgb):
    return np.clip(rgb + np.random.default_rng(0).normal(0, 6, rgb.shape), 0, 255).astype(np.uint8)


def candidates_by_block(rgb, prior, um_per_px, monkeypatch):
    """The candidates of a slide read in one block, and in many."""
    whole = find(rgb, prior, um_per_px)
    monkeypatch.setattr(coarse_strips, "BLOCK_PX", round(128 / um_per_px))
    return whole, find(rgb, prior, um_per_px)


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
        spots(*places, width=round(290 / um_per_px), height=round(255 / um_per_px), radius=round(4.5 / um_per_px))
    )
    whole, blocks = candidates_by_block(rgb, dark_prior, um_per_px, monkeypatch)
    assert len(whole) == len(blocks) == len(places)
    # A peak may fall on the next place of the prior's map.
    moved = np.linalg.norm(whole[:, None] - blocks, axis=2).min(axis=1)
    assert moved.max() <= 1.5 * STRIDE * COARSE_UM_PER_PX / um_per_px


def test_the_margin_of_a_block_covers_all_that_the_prior_and_its_peaks_look_at():
    prior = SaliencyPrior().eval()
    with torch.no_grad():
        for parameter in prior.parameters():  # nothing cancels, nothing is cut off
            parameter.abs_().add_(0.01)
    pixels = torch.ones(1, INPUTS, 256, 256, requires_grad=True)
    prior(pixels)[0, 0, 64, 64].backward()
    _, rows = torch.nonzero(pixels.grad[0].abs().sum(dim=0)).T
    reach = max(128 - int(rows.min()), int(rows.max()) - 128)
    blur_and_peak = (4 + 1) * STRIDE  # the kernel of the smoothing, and the neighbours of a peak
    assert reach > 10
    assert reach + blur_and_peak <= coarse_strips.MARGIN_PX
