"""Pictures of one camera share their scale and their light, whatever the order, shard or run they are done in."""

from __future__ import annotations

import csv
import json
import logging
import random
import subprocess
import sys
from contextlib import closing
from dataclasses import replace

import cv2
import numpy as np
import pytest
import tifffile
from conftest import NO_NETWORK, spots, write_picture
from fakes import ArrayReader
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from wbc_cli.acquisition.file import ACQUISITIONS, add_acquisitions, read_acquisitions
from wbc_cli.acquisition.grouping import drawn, key_of, pictures_by_folder
from wbc_cli.acquisition.light import even, field_of, measure_light, pool_light
from wbc_cli.acquisition.scale import pool_scales, zooms_of
from wbc_cli.cells import Scale
from wbc_cli.inference.scale_estimation import slide_scale
from wbc_cli.resources.heartbeat import Heartbeat, Heartbeats
from wbc_cli.run.acquisitions import AcquisitionFinder
from wbc_cli.run.job import Job
from wbc_cli.run.lazy_analyser import LazyAnalyser
from wbc_cli.run.loading import ComputeOptions
from wbc_cli.slides.discover import discover
from wbc_cli.slides.reader import UNEVEN
from wbc_cli.slides.watchdog import TIME_LIMIT
from wbc_cli.synthetic.fields import write_field

COUNT = 6
SIZE = {"width": 140, "height": 120, "radius": 14}


# --- which pictures are of one acquisition


def test_pictures_of_one_folder_size_and_camera_are_of_one_acquisition(tmp_path):
    one, other, small = spots((60, 60)), spots((90, 90)), spots((60, 60), width=320)
    same = [key_of(write_picture(tmp_path / name, rgb), None) for name, rgb in (("a.png", one), ("b.png", other))]
    assert same[0] == same[1] is not None
    elsewhere = [write_picture(tmp_path / "more/a.png", one), write_picture(tmp_path / "c.png", small)]
    assert len({same[0], *(key_of(path, None) for path in elsewhere)}) == 3


def test_cameras_and_stated_scales_tell_acquisitions_apart(tmp_path):
    for name, model in (("a.jpg", "One"), ("b.jpg", "One"), ("c.jpg", "Other")):
        exif = Image.Exif()
        exif[272] = model
        Image.fromarray(spots()).save(tmp_path / name, exif=exif)
    a, b, c = (key_of(tmp_path / name, None) for name in ("a.jpg", "b.jpg", "c.jpg"))
    assert a == b != c
    write_field(tmp_path / "d.png", spots(), 0.1)
    assert key_of(tmp_path / "d.png", None).um_per_px == pytest.approx(0.1)
    tifffile.imwrite(tmp_path / "e.tif", spots(), photometric="rgb", extratags=[(272, "s", 0, "Third", False)])
    assert key_of(tmp_path / "e.tif", None).camera == "Third"


def test_damaged_exif_data_tell_no_camera_and_nobody_is_warned(tmp_path):
    exif = Image.Exif()
    exif[272] = "A camera of a long name"
    Image.fromarray(spots()).save(tmp_path / "a.jpg", exif=exif)
    whole = (tmp_path / "a.jpg").read_bytes()
    start = whole.index(b"Exif\0\0") + 6
    (tmp_path / "b.jpg").write_bytes(whole[: start + 10] + b"\x01\x10\0\x02\xff\xff" + whole[start + 16 :])
    code = "import sys, pathlib, wbc_cli.acquisition.grouping as g; print(g.key_of(pathlib.Path(sys.argv[1]), None))"
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "b.jpg"], capture_output=True, text=True, check=True)
    assert "camera=''" in done.stdout
    assert done.stderr == ""


def test_whole_slides_and_what_cannot_be_read_are_of_none(tmp_path):
    tifffile.imwrite(tmp_path / "slide.tif", spots(width=512, height=512), photometric="rgb", tile=(64, 64))
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert key_of(tmp_path / "slide.tif", None) is key_of(tmp_path / "broken.png", None) is None


def test_all_pictures_of_a_shards_folders_are_known_and_drawn_in_one_order(tmp_path):
    for name in ("a/1.png", "a/2.png", "b/3.png", "a/slide.svs"):
        write_picture(tmp_path / name.replace(".svs", ".png"), spots()).rename(tmp_path / name)
    slides = discover([tmp_path]).slides
    first = next(slide for slide in slides if slide.name == "a__1.png")
    found = pictures_by_folder(slides, [first])
    assert {folder: [picture.name for picture in pictures] for folder, pictures in found.items()} == {
        str(tmp_path / "a"): ["a__1.png", "a__2.png"]
    }
    pictures = found[str(tmp_path / "a")]
    assert drawn(pictures) == drawn(pictures[::-1])


# --- the scale they share

ZOOMS = zooms_of(640, 480)


def measured(um_per_px, count, spread=0.08, seed=0):
    """What an estimator says that is right at a readable size, and draws what is smaller or larger to the middle."""
    rng = np.random.default_rng(seed)
    true = np.log(um_per_px)
    off = np.clip(true - np.log(ZOOMS) - np.log(0.2), None, 0) + np.clip(true - np.log(ZOOMS) - np.log(0.4), 0, None)
    return true - 0.4 * off + rng.normal(0, spread, (count, 1)) + rng.normal(0, 0.03, (count, len(ZOOMS)))


@given(st.floats(0.05, 0.3), st.integers(10, 24), st.integers(0, 99))
def test_ten_pictures_have_one_scale_that_is_right(um_per_px, count, seed):
    (pooled,) = pool_scales(measured(um_per_px, count, 0.04, seed), ZOOMS)
    assert pooled.um_per_px == pytest.approx(um_per_px, rel=0.08)
    assert pooled.pictures == count
    assert 0.06 <= pooled.relative_error < 0.08


@pytest.mark.parametrize("factor", [1.6, 2.5])
def test_a_change_of_zoom_is_found(factor):
    both = np.concatenate([measured(0.08, 14, 0.05), measured(0.08 * factor, 6, 0.05, seed=1)])
    np.random.default_rng(2).shuffle(both)
    first, second = pool_scales(both, ZOOMS)
    assert (first.pictures, second.pictures) == (14, 6)
    assert second.um_per_px / first.um_per_px == pytest.approx(factor, rel=0.08)


def test_a_few_pictures_that_mislead_the_estimator_are_no_change_of_zoom():
    misled = np.concatenate([measured(0.1, 22), measured(0.25, 2)])
    (pooled,) = pool_scales(misled, ZOOMS)
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


# --- the light they share


def vignette(strength, height=240, width=320):
    """A light field with a dark, pinkish rim: float [h, w, 3]."""
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    return 1 - strength * ((x**2 + y**2) / 2)[..., None] * np.array([0.5, 1.0, 0.8])


def pictures(light, count=10, seed=0, centred=False, radius=14):
    """Spots at random on glass under a light field."""
    rng = np.random.default_rng(seed)
    height, width = light.shape[:2]
    for _ in range(count):
        places = [(width // 2, height // 2)] if centred else rng.integers(0, (width, height), (12, 2)).tolist()
        radius = height // 4 if centred else radius
        yield ArrayReader(np.rint(spots(*places, width=width, height=height, radius=radius) * light).astype(np.uint8))


def test_a_light_field_is_found_and_divided_out():
    light = vignette(0.5)
    pooled = pool_light([measure_light(reader) for reader in pictures(light)])
    known = field_of(pooled, *light.shape[:2])
    off = np.abs(known / known[120, 160] / (light / light[120, 160]) - 1)
    assert off.mean() < 0.02
    assert off.max() < 0.1  # in the corners
    evened = even(next(pictures(light, seed=7)), pooled)
    plain = next(pictures(np.ones_like(light), seed=7)).pixels
    seen = evened.read(0, 0, 320, 240).astype(float)
    off = np.abs(seen / plain / np.median(seen / plain, axis=(0, 1)) - 1)
    assert off.mean() < 0.02
    assert off.max() < 0.1
    assert evened.flags == (UNEVEN,)


def test_regions_of_an_evened_picture_fit_the_whole():
    reader = next(pictures(vignette(0.5)))
    evened = even(reader, pool_light([measure_light(reader) for reader in pictures(vignette(0.5))]))
    whole = evened.read(0, 0, 320, 240)
    assert np.array_equal(evened.read(40, 60, 100, 80), whole[60:140, 40:140])
    small = cv2.resize(whole[60:140, 40:140], (50, 40), interpolation=cv2.INTER_AREA).astype(int)
    assert np.abs(evened.read(40, 60, 100, 80, 2.0) - small).max() <= 2


def test_even_light_a_cell_in_every_middle_and_few_pictures_are_left_as_they_are():
    assert pool_light([measure_light(reader) for reader in pictures(vignette(0.02))]) is None
    assert pool_light([measure_light(reader) for reader in pictures(vignette(0.0), centred=True)]) is None
    assert pool_light([measure_light(reader) for reader in pictures(vignette(0.5), count=7)]) is None
    mixed = [*pictures(vignette(0.5), count=5), *pictures(vignette(0.0), count=5)]
    assert pool_light([measure_light(reader) for reader in mixed]) is None
    reader = next(pictures(vignette(0.0)))
    assert even(reader, None) is reader


def test_under_an_eyepiece_only_the_field_counts():
    disc = np.zeros((240, 320, 1))
    cv2.circle(disc, (160, 120), 118, 1, -1)
    lights = [measure_light(reader) for reader in pictures(vignette(0.0) * disc)]
    assert np.isnan(lights[0].glass[0, 0]).all()
    assert np.isfinite(lights[0].glass[7, 10]).all()


# --- in a run


@pytest.fixture
def folder(tmp_path):
    for number in range(COUNT):
        write_picture(tmp_path / f"in/s{number}.png", spots((30 + 15 * number, 60), **SIZE))
    return tmp_path / "in"


@pytest.fixture
def analyze(call, toy_weights):
    def run(source, out, *more, code=0):
        outcome = call(
            "analyze", source, "-o", out, "--weights", toy_weights, "--device", "cpu", "--write", "none", *more
        )
        assert outcome.code == code, outcome.err
        return outcome

    return run


def scales(out):
    with (out / "differential.csv").open(encoding="utf-8", newline="") as file:
        return {row["slide"]: (row["um_per_px"], row["um_per_px_source"]) for row in csv.DictReader(file)}


def records(out):
    return {file.parent.name: json.loads(file.read_text()) for file in out.glob("slides/*/slide.json")}


def written(out):
    return {path.parent.name: path.stat().st_mtime_ns for path in out.glob("slides/*/cells.csv")}


def test_all_pictures_of_a_camera_get_one_scale_and_a_resume_changes_nothing(analyze, folder, tmp_path):
    out = tmp_path / "out"
    analyze(folder, out)
    assert len(set(scales(out).values())) == 1
    (acquisition,) = read_acquisitions(out).values()
    assert scales(out)["s0.png"] == (f"{acquisition.scales[0].um_per_px:.6f}", "pooled")
    assert acquisition.pictures == acquisition.scales[0].pictures == COUNT
    assert "scale_pooled" in json.loads((out / "slides/s0.png/slide.json").read_text())["flags"]
    before, known = written(out), (out / ACQUISITIONS).read_bytes()
    analyze(folder, out)
    assert (written(out), (out / ACQUISITIONS).read_bytes()) == (before, known)


def test_shards_workers_and_order_change_nothing(analyze, folder, tmp_path, call):
    analyze(folder, tmp_path / "whole", "--workers", 1)
    files = [str(path) for path in folder.iterdir()]
    random.Random(3).shuffle(files)
    (tmp_path / "list.txt").write_text("\n".join(files))
    for shard in ("1/2", "0/2"):
        analyze(tmp_path / "list.txt", tmp_path / "parts", "--shard", shard, "--workers", 3)
    assert call("merge", tmp_path / "parts", "-o", tmp_path / "parts").code == 0
    for name in (ACQUISITIONS, "differential.csv", "cells.csv"):
        whole, parts = ((tmp_path / out / name).read_text() for out in ("whole", "parts"))
        assert whole.replace("in__", "") == parts.replace("in__", "")


def test_a_new_picture_meets_what_is_known_and_another_value_analyses_anew(analyze, folder, tmp_path):
    out = tmp_path / "out"
    analyze(folder, out)
    before = written(out)
    write_picture(folder / "new.png", spots((100, 40), **SIZE))
    analyze(folder, out)
    assert {name: written(out)[name] for name in before} == before
    assert scales(out)["new.png"] == scales(out)["s0.png"]
    (known,) = read_acquisitions(out).values()
    (out / ACQUISITIONS).unlink()
    add_acquisitions(out, [replace(known, scales=(replace(known.scales[0], um_per_px=0.2),))])
    analyze(folder, out)
    assert set(scales(out).values()) == {("0.200000", "pooled")}


def test_few_pictures_are_taken_by_themselves_until_there_are_enough(analyze, folder, tmp_path):
    out = tmp_path / "out"
    (tmp_path / "rest").mkdir()
    for number in (4, 5):
        (folder / f"s{number}.png").rename(tmp_path / f"rest/s{number}.png")
    analyze(folder, out)
    assert {source for _, source in scales(out).values()} == {"estimate"}
    assert not (out / ACQUISITIONS).exists()
    for number in (4, 5):
        (tmp_path / f"rest/s{number}.png").rename(folder / f"s{number}.png")
    analyze(folder, out)
    assert len(scales(out)) == COUNT
    assert {source for _, source in scales(out).values()} == {"pooled"}


def test_a_stated_scale_wins(analyze, folder, tmp_path):
    out = tmp_path / "out"
    (tmp_path / "samples.csv").write_text("path,sample,mpp\nin/s0.png,a,0.21\nin/s1.png,a,\n")
    write_field(folder / "stated.png", spots((60, 60), **SIZE), 0.25)
    analyze(folder, out, "--samples", tmp_path / "samples.csv")
    found = scales(out)
    assert (found["s0.png"], found["stated.png"]) == (("0.210000", "option"), ("0.250000", "file"))
    assert found["s1.png"][1] == "pooled"
    analyze(folder, out, "--mpp", 0.2)
    assert set(scales(out).values()) == {("0.200000", "option")}


def test_damaged_acquisitions_are_refused_with_what_to_do(analyze, folder, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / ACQUISITIONS).write_text('{"schema_version": 1, "acquisitions": [{"key"')
    outcome = analyze(folder, out, code=5)
    assert str(out / ACQUISITIONS) in outcome.err.replace("\n", "")
    assert "remove it" in outcome.err.replace("\n", " ")


ON_OPEN = """
import sys
if "wbc_cli.run.worker" in " ".join(sys.orig_argv):
    import wbc_cli.slides
    whole = wbc_cli.slides.open_slide
    def open_slide(path, *field):
        if path.name == "s2.png":
            import os, signal
            os.kill(os.getpid(), signal.SIGSEGV)
        return whole(path, *field)
    wbc_cli.slides.open_slide = open_slide
"""


def test_a_picture_that_brings_down_the_worker_fails_alone(analyze, folder, tmp_path, sabotage):
    sabotage(ON_OPEN)
    out = tmp_path / "out"
    analyze(folder, out, code=3)
    found = scales(out)
    assert found.pop("s2.png") == ("", "")
    assert {source for _, source in found.values()} == {"pooled"}
    (acquisition,) = read_acquisitions(out).values()
    assert acquisition.pictures == COUNT - 1


def test_an_uneven_light_is_evened_out_and_a_product_asked_for_later_measures_nothing(analyze, sabotage, tmp_path):
    for number, reader in enumerate(pictures(vignette(0.5, 120, 140), radius=10)):
        write_picture(tmp_path / f"in/s{number}.png", reader.pixels)
    out = tmp_path / "out"
    analyze(tmp_path / "in", out, "--mpp", 0.2)
    before, known = records(out), (out / ACQUISITIONS).read_bytes()
    assert len(before) == 10
    assert all(UNEVEN in record["flags"] for record in before.values())
    sabotage(NO_NETWORK)
    analyze(tmp_path / "in", out, "--mpp", 0.2, "--write", "geojson")
    after = records(out)
    assert all(record["write"] == ["geojson"] for record in after.values())
    for key in ("flags", "acquisition", "scale", "differential"):
        assert {name: record[key] for name, record in after.items()} == {n: record[key] for n, record in before.items()}
    assert (out / ACQUISITIONS).read_bytes() == known


def test_of_a_large_folder_no_more_pictures_are_looked_at_than_the_acquisition_takes(tmp_path, toy_weights):
    for number in range(60):
        write_picture(tmp_path / f"in/s{number}.png", spots((30 + number, 60), **SIZE))
    slides, events = discover([tmp_path / "in"]).slides, []
    (tmp_path / "out").mkdir()
    job = Job(
        out=str(tmp_path / "out"),
        scratch=str(tmp_path / "out"),
        pictures=pictures_by_folder(slides, slides),
        unmeasurable=[],
        unknown=True,
        model={},
        um_per_px=None,
        write=[],
        exhaustive=False,
        compute=ComputeOptions(device="cpu", weights=toy_weights).to_dict(),
        alone=False,
        time_limit=TIME_LIMIT,
        log_level=logging.WARNING,
    )
    with closing(LazyAnalyser(job, lambda _: None)) as network:
        finder = AcquisitionFinder(job, network, Heartbeats(), events.append)
        found = finder.find(key_of(slides[0].path, None), Heartbeat())
    assert found.pictures == 24
    assert len({event["slide"] for event in events}) == 24


def test_a_picture_that_hangs_while_it_is_measured_is_noticed_though_its_own_analysis_waits_for_that():
    heartbeats = Heartbeats()
    with heartbeats.working("a.png"), heartbeats.working("a.png") as analysis, analysis.waiting():
        assert heartbeats.silences().keys() == {"a.png"}


def test_merged_runs_keep_what_is_known(analyze, folder, tmp_path, call):
    analyze(folder, tmp_path / "one")
    assert call("merge", tmp_path / "one", "-o", tmp_path / "all").code == 0
    assert read_acquisitions(tmp_path / "all") == read_acquisitions(tmp_path / "one") != {}
