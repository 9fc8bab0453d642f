"""The demo's smears are repeatable, seamless, readable, and hold exactly the cells that the truth lists."""

from __future__ import annotations

from collections import Counter

import cv2
import numpy as np
import openslide
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from wbc_cli.classes import BY_NAME, DIFFERENTIAL_NAMES
from wbc_cli.errors import UsageError
from wbc_cli.synthetic import Smear, write_demo, write_slide
from wbc_cli.synthetic.demo import FIELDS

SMEAR = Smear(700, 500, 0.2, 9, seed=5)
WHOLE = SMEAR.render(0, 0, 700, 500)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    directory = tmp_path_factory.mktemp("demo") / "made"
    return directory, write_demo(directory, seed=0)


def white_cells(smear):
    return [cell for cell in smear.truth if BY_NAME[cell.class_name].white_cell]


def dark_share(image, x, y, radius):
    """Share of a disc that is as dark and as purple as a nucleus."""
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    red, green, blue = image[np.hypot(columns + 0.5 - x, rows + 0.5 - y) <= radius].astype(int).T
    return float(((green < 110) & (blue > green + 20) & (red < 170)).mean())


def test_the_same_seed_gives_the_same_pixels_and_another_seed_another_smear():
    again = Smear(700, 500, 0.2, 9, seed=5)
    assert np.array_equal(again.render(0, 0, 700, 500), WHOLE)
    assert again.truth == SMEAR.truth
    assert not np.array_equal(Smear(700, 500, 0.2, 9, seed=6).render(0, 0, 700, 500), WHOLE)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 699), st.integers(0, 499), st.data())
def test_any_region_equals_that_part_of_the_whole(x, y, data):
    width, height = data.draw(st.integers(1, 700 - x)), data.draw(st.integers(1, 500 - y))
    assert np.array_equal(SMEAR.render(x, y, width, height), WHOLE[y : y + height, x : x + width])


def test_a_seed_gives_a_smear_of_any_size_the_same_light():
    def light(side):
        return np.percentile(Smear(side, side, 0.2, 0, seed=5).render(0, 0, 400, 400), 95, axis=(0, 1))

    np.testing.assert_allclose(light(400), light(900), atol=1)


def test_white_cells_lie_where_the_truth_says_and_nowhere_else():
    cells = white_cells(SMEAR)
    assert len(cells) == 9
    for cell in cells:
        assert dark_share(WHOLE, cell.x, cell.y, 0.75 * cell.radius) > 0.25, cell
    rest = WHOLE.copy()
    for cell in SMEAR.truth:
        cv2.circle(rest, (int(cell.x), int(cell.y)), int(1.3 * cell.radius + 4), (255, 255, 255), -1)
    assert dark_share(rest, 350, 250, 500) < 1e-3


def test_platelets_lie_where_the_truth_says():
    platelets = [cell for cell in SMEAR.truth if cell.class_name == "platelet"]
    assert platelets
    for cell in platelets:
        assert dark_share(WHOLE, cell.x, cell.y, 0.8 * cell.radius) > 0.15, cell


def test_some_white_cells_touch():
    cells = white_cells(SMEAR)
    touching = [
        (a, b) for i, a in enumerate(cells) for b in cells[:i] if np.hypot(a.x - b.x, a.y - b.y) <= a.radius + b.radius
    ]
    assert touching


def test_more_white_cells_than_fit_are_refused():
    with pytest.raises(UsageError, match="do not fit"):
        Smear(300, 300, 0.2, 100, seed=0)


def test_a_smear_may_hold_no_white_cell():
    smear = Smear(300, 200, 0.2, 0, seed=0)
    assert white_cells(smear) == []
    assert smear.render(0, 0, 300, 200).shape == (200, 300, 3)


def test_the_demo_lists_every_class_and_every_picture(demo):
    directory, paths = demo
    assert sorted(paths) == sorted(directory.iterdir())
    truth = pd.read_csv(directory / "truth.csv")
    assert list(truth.columns) == ["slide", "class", "x", "y"]
    assert set(truth["class"]) == {*DIFFERENTIAL_NAMES, "platelet"}
    whites = truth[truth["class"] != "platelet"].groupby("slide").size()
    expected = {field.name: field.white_cells for field in FIELDS if field.white_cells} | {"slide.svs": 30}
    assert whites.to_dict() == expected
    assert any(field.white_cells == 0 for field in FIELDS)


def test_the_demo_has_white_cells_cut_by_the_border(demo):
    directory, _ = demo
    truth = pd.read_csv(directory / "truth.csv")
    cut = 0
    for field in FIELDS:
        cells = truth[(truth["slide"] == field.name) & (truth["class"] != "platelet")]
        assert cells["x"].between(0, field.width).all()
        assert cells["y"].between(0, field.height).all()
        to_border = np.minimum.reduce([cells["x"], cells["y"], field.width - cells["x"], field.height - cells["y"]])
        cut += int((to_border * field.um_per_px < 4.0).sum())  # the smallest white cell is 8.6 um across
    assert cut > 0


def test_demo_fields_note_their_scale_except_some(demo):
    directory, _ = demo
    noted = Counter()
    for field in FIELDS:
        with Image.open(directory / field.name) as image:
            image.load()
            assert image.size == (field.width, field.height)
            if field.name.endswith(".png"):
                scale = 25400 / image.info["dpi"][0] if "dpi" in image.info else None
            else:
                scale = 1e4 / image.info["jfif_density"][0] if image.info["jfif_unit"] == 2 else None
        assert (scale is not None) == field.scale_noted
        if scale is not None:
            assert scale == pytest.approx(field.um_per_px, rel=1e-3)
        noted[field.scale_noted] += 1
    assert noted[True] >= 2
    assert noted[False] >= 1


def test_the_demo_slide_opens_in_openslide_with_levels_and_scale(demo):
    directory, _ = demo
    with openslide.OpenSlide(directory / "slide.svs") as slide:
        assert slide.level_count == 3
        assert slide.level_dimensions == ((4096, 4096), (1024, 1024), (256, 256))
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(0.25)
        assert float(slide.properties["openslide.mpp-y"]) == pytest.approx(0.25)
        truth = pd.read_csv(directory / "truth.csv").query("slide == 'slide.svs' and `class` != 'platelet'")
        for _, cell in truth.iterrows():
            corner = (int(cell.x) - 24, int(cell.y) - 24)
            patch = np.array(slide.read_region(corner, 0, (48, 48)).convert("RGB"))
            assert dark_share(patch, 24, 24, 20) > 0.15
        coarse = np.array(slide.read_region((0, 0), 1, (1024, 1024)).convert("RGB")).astype(float)
        fine = np.array(slide.read_region((0, 0), 0, (4096, 4096)).convert("RGB"))
    reduced = cv2.resize(fine, (1024, 1024), interpolation=cv2.INTER_AREA)
    assert np.abs(coarse - reduced).mean() < 4


def test_a_slide_of_partly_filled_coarse_tiles_is_whole(tmp_path):
    path = tmp_path / "small.svs"
    truth = write_slide(path, 768, 0.5, 5, seed=3)
    with openslide.OpenSlide(path) as slide:
        assert slide.level_dimensions == ((768, 768), (192, 192), (48, 48))
        level0 = np.array(slide.read_region((0, 0), 0, (768, 768)).convert("RGB")).astype(int)
    smear = Smear(768, 768, 0.5, 5, seed=3)
    assert truth == smear.truth
    assert np.abs(level0 - smear.render(0, 0, 768, 768)).mean() < 6


def test_a_slide_that_cannot_be_tiled_is_refused(tmp_path):
    with pytest.raises(UsageError, match="multiple of 256"):
        write_slide(tmp_path / "odd.svs", 1000, 0.25, 1, seed=0)
    assert list(tmp_path.iterdir()) == []
