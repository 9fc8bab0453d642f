"""What is done stays done, and is done again where something has changed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
from conftest import NO_NETWORK, TOY_UM_PER_PX, spots, write_picture
from runs_apart import COUNT, ON_OPEN, TABLES, committed, redone, rows, tables, wait_for

from wbc_cli.model.storage import save
from wbc_cli.products.registry import PRODUCT_NAMES
from wbc_cli.run.fingerprint import model_fingerprint
from wbc_cli.run.loading import ComputeOptions
from wbc_cli.run.options import AnalyzeOptions
from wbc_cli.run.shards import Shard


def test_running_again_does_nothing_anew_and_loads_no_network(analyze_apart, sabotage, tmp_path, undisturbed):
    assert analyze_apart(tmp_path).returncode == 0
    before = committed(tmp_path)
    sabotage("import sys\nif 'wbc_cli.run.worker' in ' '.join(sys.orig_argv): sys.exit('no work was to be done')")
    again = analyze_apart(tmp_path)
    assert again.returncode == 0
    assert f"slides done: {COUNT} ({COUNT} of them before)" in again.stderr
    assert committed(tmp_path) == before
    assert tables(tmp_path) == undisturbed


def test_what_has_changed_or_is_missing_is_done_again_and_nothing_else(
    analyze_apart, sabotage, eight_pictures, tmp_path
):
    source, out = tmp_path / "in", tmp_path / "out"
    shutil.copytree(eight_pictures, source)
    assert analyze_apart(out, source=source).returncode == 0
    before = committed(out)
    write_picture(source / "s1.png", spots((240, 100)))  # another picture
    os.utime(source / "s2.png")  # only touched
    write_picture(source / "new.png", spots((240, 100)))
    (out / "slides" / "s3.png" / "cells.csv").unlink()
    (out / "slides" / "s4.png" / "slide.json").write_text("{")
    assert analyze_apart(out, source=source).returncode == 0
    assert redone(before, committed(out)) == {"s1.png", "new.png", "s3.png", "s4.png"}
    assert rows(out)["s1.png"]["cells"] == "1"
    # A copy elsewhere is the same slide; that is found out once, and no network is loaded for it the next time.
    staged, before = tmp_path / "stage", committed(out)
    shutil.copytree(source, staged, copy_function=shutil.copyfile)
    assert analyze_apart(out, source=staged).returncode == 0
    assert committed(out) == before
    sabotage("import sys\nif 'wbc_cli.run.worker' in ' '.join(sys.orig_argv): sys.exit('no work was to be done')")
    assert analyze_apart(out, source=staged).returncode == 0


def test_a_picture_of_another_folder_takes_no_results_of_its_name(analyze_apart, tmp_path):
    for day, number, x in (("monday", 1, 240), ("tuesday", 1, 280), ("tuesday", 2, 320)):
        write_picture(tmp_path / day / f"{number}.png", spots((100, 100), (x, 100)))
    assert analyze_apart(tmp_path / "out", source=tmp_path / "monday").returncode == 0
    before = rows(tmp_path / "out")["1.png"]
    for _ in range(2):
        assert analyze_apart(tmp_path / "out", source=tmp_path / "tuesday").returncode == 0
        found = rows(tmp_path / "out")
        assert found["1.png"] == before | {"flags": found["1.png"]["flags"]}
        assert "not_in_input" in found["1.png"]["flags"]
        (new,) = found.keys() - {"1.png", "2.png"}
        assert new.startswith("1_")
    assert analyze_apart(tmp_path / "out", source=tmp_path / "monday").returncode == 0
    assert rows(tmp_path / "out").keys() == found.keys()


def test_restart_does_all_anew(analyze_apart, tmp_path, undisturbed):
    assert analyze_apart(tmp_path).returncode == 0
    before = committed(tmp_path)
    assert analyze_apart(tmp_path, "--restart").returncode == 0
    assert redone(before, committed(tmp_path)) == {f"s{number}.png" for number in range(COUNT)}
    assert tables(tmp_path) == undisturbed


def test_results_depend_on_weights_and_options_but_not_on_how_it_is_computed(toy_weights, toy_network, tmp_path):
    compute = ComputeOptions(weights=toy_weights)
    options = AnalyzeOptions((tmp_path,), tmp_path, compute=compute)
    known = model_fingerprint(options)
    save(toy_network, replace(toy_network.config, temperature=2.0), tmp_path / "calibrated")
    changes = [{"um_per_px": 0.3}, {"exhaustive": True}]
    changes += [{"compute": replace(compute, **c)} for c in ({"min_confidence": 0.9}, {"precision": "fp32"})]
    changes += [{"compute": replace(compute, weights=tmp_path / "calibrated")}]
    for change in changes:
        assert model_fingerprint(replace(options, **change)) != known
    same = [{"compute": replace(compute, **c)} for c in ({"batch_size": 3}, {"workers": 1}, {"device": "cpu"})]
    same += [{"out": tmp_path / "x"}, {"shard": Shard(0, 2)}, {"time_limit": 5.0}, {"restart": True}]
    for change in [*same, {"write": frozenset({"mask"})}]:
        assert model_fingerprint(replace(options, **change)) == known


ALL = ("--batch-size", "1", "--write", ",".join(PRODUCT_NAMES))  # one window a batch: the same to the last bit
NONE = ("--batch-size", "1", "--write", "none")


@pytest.fixture(scope="module")
def all_at_once(eight_pictures, toy_weights, tmp_path_factory):
    """What a run left that was asked for all products at once."""
    out = tmp_path_factory.mktemp("all")
    common = ("--weights", toy_weights, "--mpp", TOY_UM_PER_PX, "--device", "cpu", "-q")
    arguments = (sys.executable, "-m", "wbc_cli.cli", "analyze", eight_pictures, "-o", out, *common, *ALL)
    subprocess.run([*map(str, arguments)], check=True, capture_output=True)
    return left_by(out)


def left_by(out):
    """All files of a run but for times and who made them in which part of it."""
    files = {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    kept = {name: content for name, content in files.items() if name.startswith("slides/") or name in TABLES}
    for name in [name for name in kept if name.endswith(".json") and not name.endswith("geojson")]:
        kept[name] = {key: value for key, value in json.loads(kept[name]).items() if key != "seconds"}
    return kept


def test_more_products_later_need_no_network_and_are_those_of_a_run_that_asks_for_all(
    analyze_apart, sabotage, tmp_path, all_at_once
):
    assert analyze_apart(tmp_path, *NONE).returncode == 0
    sabotage(NO_NETWORK)
    again = analyze_apart(tmp_path, *ALL)
    assert again.returncode == 0, again.stderr
    assert f"slides done: {COUNT} ({COUNT} of them before)" in again.stderr
    assert left_by(tmp_path) == all_at_once
    assert (tmp_path / "report.html").exists()
    before = committed(tmp_path)
    assert analyze_apart(tmp_path, *ALL).returncode == 0
    assert committed(tmp_path) == before


def test_a_run_for_more_products_that_is_killed_goes_on_also_in_shards(
    command, analyze_apart, call, sabotage, tmp_path, all_at_once
):
    assert analyze_apart(tmp_path, *NONE).returncode == 0
    sabotage(NO_NETWORK + ON_OPEN.format(name="s", what="time.sleep(0 if path.name < 's3' else 1000)"))
    with subprocess.Popen(command(tmp_path, *ALL), stderr=subprocess.DEVNULL) as run:
        wait_for(lambda: len(list(tmp_path.glob("slides/*/overlay.png"))) == 3)
        run.kill()
    sabotage(NO_NETWORK)
    drawn = {path: path.stat().st_mtime_ns for path in tmp_path.glob("slides/*/overlay.png")}
    for shard in ("0/2", "1/2"):
        assert analyze_apart(tmp_path, *ALL, "--shard", shard).returncode == 0
    assert {path: path.stat().st_mtime_ns for path in drawn} == drawn
    assert call("merge", tmp_path, "-o", tmp_path).code == 0
    assert left_by(tmp_path) == all_at_once


def test_where_what_is_kept_does_not_suffice_a_slide_is_analysed_again(analyze_apart, eight_pictures, tmp_path):
    source, out = tmp_path / "in", tmp_path / "out"
    shutil.copytree(eight_pictures, source)
    assert analyze_apart(out, *NONE, source=source).returncode == 0
    write_picture(source / "s1.png", spots((240, 100)))  # another picture
    (out / "slides" / "s2.png" / "result.npz").unlink()
    kept = out / "slides" / "s3.png" / "result.npz"
    kept.write_bytes(bytes(kept.stat().st_size))
    os.utime(source / "s4.png")  # only touched
    again = analyze_apart(out, "--write", "mask", source=source)
    assert f"slides done: {COUNT} ({COUNT - 3} of them before)" in again.stderr
    assert len(list(out.glob("slides/*/mask.ome.tif"))) == COUNT
    assert [rows(out)[f"s{i}.png"]["cells"] for i in range(5)] == ["1", "1", "3", "1", "2"]


def test_a_slide_that_failed_is_tried_again(analyze_apart, eight_pictures, tmp_path):
    source, out = tmp_path / "in", tmp_path / "out"
    shutil.copytree(eight_pictures, source)
    whole = (source / "s0.png").read_bytes()
    (source / "s0.png").write_bytes(whole[: len(whole) // 2])  # still being copied
    assert analyze_apart(out, source=source).returncode == 3
    assert rows(out)["s0.png"]["status"] == "failed"
    (source / "s0.png").write_bytes(whole)
    assert analyze_apart(out, source=source).returncode == 0
    assert rows(out)["s0.png"]["status"] == "done"


def test_rows_stay_when_files_leave_the_inbox_and_go_when_that_is_wished(analyze_apart, eight_pictures, tmp_path):
    inbox, out = tmp_path / "inbox", tmp_path / "out"
    inbox.mkdir()
    shutil.copy(eight_pictures / "s0.png", inbox / "monday.png")
    shutil.copy(eight_pictures / "s1.png", inbox / "both.png")
    assert analyze_apart(out, source=inbox).returncode == 0
    (inbox / "monday.png").unlink()
    (inbox / "both.png").rename(inbox / "by another name.png")
    (inbox / "phone.HEIC").write_bytes(b"x")
    (inbox / "gone.png").symlink_to("nowhere")
    answer = analyze_apart(out, source=inbox)
    assert answer.returncode == 3
    assert "1 .heic" in answer.stderr
    found = rows(out)
    assert {name: row["status"] for name, row in found.items()} == {
        "by_another_name.png": "done",
        "gone.png": "failed",
        "monday.png": "done",
    }
    assert "not_in_input" in found["monday.png"]["flags"]
    assert "not_in_input" not in found["by_another_name.png"]["flags"]
    run = json.loads((out / "run.json").read_text())
    assert (run["not_in_input"], run["unread"]) == (["monday.png"], {".heic": 1})
    assert analyze_apart(out, "--prune", source=inbox).returncode == 3
    assert "monday.png" in rows(out)  # a part of the input could not be looked at
    (inbox / "gone.png").unlink()
    (inbox / "phone.HEIC").unlink()
    assert analyze_apart(out, "--prune", source=inbox).returncode == 0
    assert [path.name for path in (out / "slides").iterdir()] == ["by_another_name.png"]
    assert list(rows(out)) == ["by_another_name.png"]
