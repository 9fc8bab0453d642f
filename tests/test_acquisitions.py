"""Pictures of one camera share their scale and their light, whatever the order, shard or run they are done in."""

from __future__ import annotations

import csv
import json
import logging
import random
from contextlib import closing
from dataclasses import replace

import pytest
from conftest import NO_NETWORK, spots, write_picture
from fakes import unevenly_lit, vignette

from wbc_cli.acquisition.file import ACQUISITIONS, add_acquisitions, read_acquisitions
from wbc_cli.acquisition.grouping import key_of, pictures_by_folder
from wbc_cli.inference.neutrophils import MAX_TYPED
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


def test_crops_of_unlike_sizes_share_their_scale_and_no_light(analyze, tmp_path):
    for number in range(COUNT):
        size = {"width": 110 + 7 * number, "height": 140 - 5 * number, "radius": 14}
        write_picture(tmp_path / f"in/s{number}.png", spots((60, 60), **size))
    analyze(tmp_path / "in", tmp_path / "out")
    (acquisition,) = read_acquisitions(tmp_path / "out").values()
    (pooled,) = acquisition.scales
    assert pooled.pictures == COUNT
    assert acquisition.light is None
    assert len(set(scales(tmp_path / "out").values())) == 1


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
    for number, reader in enumerate(unevenly_lit(vignette(0.5, 120, 330), radius=10)):
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
    for number in range(MAX_TYPED + 20):
        write_picture(tmp_path / f"in/s{number}.png", spots((30 + number % 60, 60), **SIZE))
    slides, events = discover([tmp_path / "in"]).slides, []
    (tmp_path / "out").mkdir()
    job = Job(
        out=str(tmp_path / "out"),
        scratch=str(tmp_path / "out"),
        pictures=pictures_by_folder(slides, slides, {}),
        unmeasurable=[],
        unknown=True,
        model={},
        um_per_px=None,
        write=[],
        exhaustive=False,
        compute=ComputeOptions(device="cpu", weights=toy_weights).to_dict(),
        processes=1,
        most_processes=1,
        cores_a_process=1,
        locks=None,
        alone=False,
        time_limit=TIME_LIMIT,
        log_level=logging.WARNING,
    )
    with closing(LazyAnalyser(job, lambda *_: None)) as network:
        finder = AcquisitionFinder(job, network, Heartbeats(), events.append)
        found = finder.find(key_of(slides[0].path, None), Heartbeat())
    assert found.pictures == 24
    assert len({event["slide"] for event in events}) == MAX_TYPED


def test_a_picture_that_hangs_while_it_is_measured_is_noticed_though_its_own_analysis_waits_for_that():
    heartbeats = Heartbeats()
    with heartbeats.working("a.png"), heartbeats.working("a.png") as analysis, analysis.waiting():
        assert heartbeats.silences().keys() == {"a.png"}


def test_merged_runs_keep_what_is_known(analyze, folder, tmp_path, call):
    analyze(folder, tmp_path / "one")
    assert call("merge", tmp_path / "one", "-o", tmp_path / "all").code == 0
    assert read_acquisitions(tmp_path / "all") == read_acquisitions(tmp_path / "one") != {}
