"""What cannot be typed is flagged or refused: a bad picture never passes for a result."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import cv2
import numpy as np
import pytest
from conftest import TOY_UM_PER_PX, spots, write_picture
from fakes import NO_PRODUCTS, ArrayReader, blank, disc, make_cell, rows, small_result
from hypothesis import given, settings
from hypothesis import strategies as st

from wbc_cli.cells import CYTOPLASM, NUCLEUS, Quality
from wbc_cli.inference.quality import LIMITS, judge
from wbc_cli.inference.quality_metrics import measure_quality, sharpness
from wbc_cli.inference.windows import Window
from wbc_cli.products.folder import RunFolder
from wbc_cli.run.loading import ComputeOptions, load_analyser

UM_PER_PX = 0.2
GLASS = np.array([236, 230, 216], np.uint8)
BODY = np.array([150, 140, 196], np.uint8)  # of cytoplasm
CHROMATIN = np.array([90, 50, 140], np.uint8)
SIDE = 60  # pixels: a cell of 12 um


def field(places, *, flags=()):
    """A drawn field of round cells with their upper left corners at the places (x, y), and its cells as found."""
    rgb = np.empty((500, 600, 3), np.uint8)
    rgb[:] = GLASS
    mask = disc(SIDE)
    for x, y in places:
        square = rgb[y : y + SIDE, x : x + SIDE]
        square[mask == CYTOPLASM] = BODY
        square[mask == NUCLEUS] = CHROMATIN
    return rgb, [make_cell(i + 1, mask, x, y, um_per_px=UM_PER_PX, flags=flags) for i, (x, y) in enumerate(places)]


def apart(step, count=30):
    return [(x, y) for y in range(10, 430, step) for x in range(10, 530, step)][:count]


def quality(rgb, cells, places=(), background=GLASS):
    return measure_quality(ArrayReader(rgb), cells, places, UM_PER_PX, np.asarray(background, np.uint8))


def flags_of(*arguments, **options):
    return judge(quality(*arguments, **options))[0]


def blurred(rgb, um):
    return cv2.GaussianBlur(rgb, (0, 0), um / UM_PER_PX)


def exposed(rgb, factor):
    return np.clip(rgb * factor, 0, 255).astype(np.uint8)


def stained(rgb, factor):
    return (GLASS * (rgb / GLASS) ** factor).astype(np.uint8)


def grey(rgb):
    return np.repeat(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)


# --- figures


def test_a_good_picture_is_not_flagged():
    found = quality(*field(apart(90)))
    assert judge(found) == ((), "")
    assert None not in (found.focus, found.clipped, found.nucleus, found.colour, found.crowding, found.atypical)


@pytest.mark.parametrize(
    ("spoil", "flag", "refused"),
    [
        (lambda rgb: blurred(rgb, 2.0), "blurred", True),
        (lambda rgb: exposed(rgb, 0.15), "dark", False),
        (lambda rgb: exposed(rgb, 0.05), "dark", True),
        (lambda rgb: exposed(rgb, 2.6), "overexposed", True),
        (lambda rgb: stained(rgb, 0.3), "pale_stain", False),
        (lambda rgb: stained(rgb, 0.15), "pale_stain", True),
        (grey, "no_colour", False),
    ],
)
def test_what_spoils_a_picture_is_flagged_by_its_name_and_refused_where_it_is_worse(spoil, flag, refused):
    rgb, cells = field(apart(90))
    flags, reason = judge(quality(spoil(rgb), cells, background=spoil(GLASS[None, None])[0, 0]))
    assert flag in flags
    assert bool(reason) == refused


@settings(max_examples=40)
@given(
    stain=st.floats(0.3, 1.2),
    exposure=st.floats(0.3, 1.0),
    noise=st.integers(0, 4),
    blur=st.sampled_from([0.0, 0.3, 1.5, 3.0]),
)
def test_focus_is_told_whatever_stain_exposure_and_noise(stain, exposure, noise, blur):
    rgb, cells = field([(100, 100)])
    rgb = stained(rgb, stain)
    rgb = exposed(blurred(rgb, blur) if blur else rgb, exposure)
    rgb = np.clip(rgb + np.random.default_rng(0).normal(0, noise * exposure, rgb.shape), 0, 255).astype(np.uint8)
    assert ("blurred" in flags_of(rgb, cells, background=exposed(GLASS, exposure))) == (blur > 1)


@pytest.mark.parametrize("um_per_px", [0.07, 0.1, 0.2, 0.25])
def test_focus_is_the_same_at_any_number_of_pixels_a_micrometre(um_per_px):
    v, u = np.mgrid[0:30:um_per_px, 0:30:um_per_px] - 15
    edge = 1 / (1 + np.exp((np.hypot(u, v) - 6) / 0.15))
    assert sharpness((230 - 150 * edge).astype(np.uint8), um_per_px, 230) == pytest.approx(0.66, abs=0.04)


def test_without_cells_focus_is_measured_where_they_were_looked_for():
    rgb, _ = field([(100, 100), (300, 300)])
    places = [
        Window(60, 60, 160),
        Window(-20, 300, 160),
        Window(560, 440, 160),
    ]  # the latter two reach beyond the slide
    assert flags_of(rgb, [], places) == ()
    assert flags_of(blurred(rgb, 2.0), [], places) == ("blurred",)


def test_nothing_is_said_of_an_empty_slide():
    empty = np.full((300, 300, 3), 235, np.uint8) + np.random.default_rng(0).integers(-2, 3, (300, 300, 3), np.int8)
    found = quality(empty.astype(np.uint8), [], [Window(0, 0, 160), Window(100, 100, 160)], background=(235, 235, 235))
    assert replace(found, background=None, cells_per_mm2=None) == Quality()
    assert judge(found) == ((), "")


def test_platelets_and_dirt_do_not_count_as_cells():
    rgb, cells = field([(100, 100), (300, 300)])
    other = [replace(cell, class_name="platelet") for cell in cells]
    assert quality(rgb, other).cells_per_mm2 == 0
    assert quality(rgb, [*cells[:1], *other[1:]]).nucleus == quality(rgb, cells[:1]).nucleus


def test_a_field_is_crowded_by_its_nuclei_even_where_no_cell_was_found():
    rgb, cells = field(apart(SIDE, 48))
    assert judge(quality(*field(apart(90)))) == ((), "")
    assert quality(rgb, cells[::2]).crowding == pytest.approx(quality(rgb, cells).crowding, abs=0.03)
    flags, reason = judge(quality(rgb, cells[::2]))
    assert flags == ("crowded",)
    assert "cells are missed" in reason


def test_cells_that_the_model_does_not_know_make_the_slide_unfamiliar():
    flags, reason = judge(quality(*field(apart(90), flags=("atypical",))))
    assert flags == ("unfamiliar",)
    assert "by eye" in reason


def test_a_few_cells_are_too_few_for_shares():
    found = quality(*field(apart(SIDE, count=19), flags=("atypical",)))
    assert (found.crowding, found.atypical) == (None, None)


# --- limits


@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: limit.flag)
def test_a_figure_is_flagged_beyond_its_first_limit_and_refused_beyond_its_second(limit):
    def said(value):
        flags, reason = judge(replace(Quality(), **{limit.figure: value}))
        return flags == (limit.flag,), limit.reason in reason

    worse = np.sign(limit.refused - limit.flagged) * 1e-3
    assert said(limit.flagged) == (False, False)
    assert said(limit.flagged + worse) == (True, False)
    if np.isfinite(limit.refused):
        assert said(limit.refused) == (True, False)
        assert said(limit.refused + worse) == (True, True)
    assert judge(Quality()) == ((), "")


# --- products


def test_a_refused_slide_keeps_its_cells_and_has_a_reason_but_no_counts(tmp_path):
    run = RunFolder(tmp_path)
    result = small_result("a", flags=("blurred",))
    run.commit(replace(result, quality=Quality(focus=0.3), refusal="out of focus"), blank(), NO_PRODUCTS)
    record = run.record("a")
    run.write_tables([record])
    (row,) = rows(tmp_path / "differential.csv")
    assert (row["status"], row["reason"]) == ("refused", "out of focus")
    assert row["flags"].split(";")[0] == "blurred"
    told = {"slide", "status", "reason", "flags"}
    assert {column for column, value in row.items() if value and not column.startswith("um_per_px")} == told
    assert record["quality"]["focus"] == 0.3
    assert [(cell["class"], cell["flags"]) for cell in rows(tmp_path / "slides/a/cells.csv")] == [
        ("neutrophil", "refused"),
        ("unidentified", "refused"),
    ]


def test_a_blurred_slide_is_refused_and_the_run_is_none_the_worse(call, toy_weights, tmp_path):
    sharp = spots((100, 100), (350, 100))
    write_picture(tmp_path / "slides/sharp.png", sharp)
    write_picture(tmp_path / "slides/blurred.png", blurred(sharp, 2.0))
    toy = ("--weights", toy_weights, "--mpp", TOY_UM_PER_PX, "--device", "cpu", "--write", "none")
    assert call("analyze", tmp_path / "slides", *toy, "-o", tmp_path / "out").code == 0
    told = {row["slide"]: row for row in rows(tmp_path / "out/differential.csv")}
    assert (told["sharp.png"]["status"], told["blurred.png"]["status"]) == ("done", "refused")
    assert "blurred" in told["blurred.png"]["flags"]
    assert "out of focus" in told["blurred.png"]["reason"]
    assert len(rows(tmp_path / "out/slides/blurred.png/cells.csv")) == 2


def test_figures_do_not_depend_on_batches_workers_or_other_slides(toy_weights):
    pictures = [spots(place, (60, 60)) for place in [(100, 100), (240, 90), (350, 120)]]

    def analysed(chosen, batch_size, workers):
        options = ComputeOptions(device="cpu", weights=toy_weights, batch_size=batch_size, workers=workers)
        analyser, _ = load_analyser(options)
        with analyser.stream, ThreadPoolExecutor(len(chosen)) as pool:
            return list(pool.map(lambda rgb: analyser.analyse(ArrayReader(rgb), "s", TOY_UM_PER_PX).quality, chosen))

    together = analysed(pictures, 4, 3)
    assert together == [analysed([rgb], 1, 1)[0] for rgb in pictures]
    assert None not in {found.focus for found in together}
