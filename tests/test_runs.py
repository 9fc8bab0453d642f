"""Runs that lose nothing: what is done stays done, what fails fails alone, and whoever stops can go on."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import NO_NETWORK, TOY_UM_PER_PX, spots, write_picture
from fakes import blank, small_result

from wbc_cli.model.storage import save
from wbc_cli.products.folder import RunFolder
from wbc_cli.products.registry import PRODUCT_NAMES
from wbc_cli.run.fingerprint import model_fingerprint
from wbc_cli.run.loading import ComputeOptions
from wbc_cli.run.lock import LOCK, locked
from wbc_cli.run.options import AnalyzeOptions
from wbc_cli.run.shards import SHARDS, Shard, Shares

TABLES = ("differential.csv", "cells.csv")
COUNT = 8

# Opening a slide of this name does this; the rest of the program is as it is.
ON_OPEN = """
import sys
if "wbc_cli.run.worker" in " ".join(sys.orig_argv):
    import wbc_cli.slides
    whole = wbc_cli.slides.open_slide
    def open_slide(path, *field):
        if {name!r} in path.name:
            import os, signal, time
            {what}
        return whole(path, *field)
    wbc_cli.slides.open_slide = open_slide
"""


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    """Pictures with one cell more on each than on the one before, but never more than three."""
    folder = tmp_path_factory.mktemp("slides")
    for number in range(COUNT):
        places = [(100 + 130 * i, 100) for i in range(1 + number % 3)]
        write_picture(folder / f"s{number}.png", spots(*places))
    return folder


@pytest.fixture
def command(slides, toy_weights):
    """The arguments of an analysis."""

    def arguments(out, *more, source=slides):
        common = ("--weights", toy_weights, "--mpp", TOY_UM_PER_PX, "--device", "cpu", "--write", "none")
        return [*map(str, (sys.executable, "-m", "wbc_cli.cli", "analyze", source, "-o", out, *common, *more))]

    return arguments


@pytest.fixture
def analyze(command):
    """Run an analysis to its end."""

    def run(out, *more, **source):
        return subprocess.run(command(out, *more, **source), capture_output=True, text=True, check=False)

    return run


@pytest.fixture(scope="module")
def undisturbed(slides, toy_weights, tmp_path_factory):
    """The tables of a run that nothing disturbed, by name."""
    out = tmp_path_factory.mktemp("undisturbed")
    common = ("--weights", toy_weights, "--mpp", TOY_UM_PER_PX, "--device", "cpu", "--write", "none", "-q")
    arguments = (sys.executable, "-m", "wbc_cli.cli", "analyze", slides, "-o", out, *common)
    subprocess.run([*map(str, arguments)], check=True, capture_output=True)
    return tables(out)


def tables(out):
    return {name: (out / name).read_bytes() for name in TABLES}


def rows(out):
    with (out / "differential.csv").open(encoding="utf-8", newline="") as file:
        return {row["slide"]: row for row in csv.DictReader(file)}


def committed(out):
    """When each slide's products were written; of one that was only touched, its record has been written again."""
    records = out.glob("slides/*/slide.json")
    return {r.parent.name: min(f.stat().st_mtime_ns for f in r.parent.iterdir()) for r in records}


def redone(before, after):
    return {name for name in after if after[name] != before.get(name)}


# --- what is done stays done


def test_running_again_does_nothing_anew_and_loads_no_network(analyze, sabotage, tmp_path, undisturbed):
    assert analyze(tmp_path).returncode == 0
    before = committed(tmp_path)
    sabotage("import sys\nif 'wbc_cli.run.worker' in ' '.join(sys.orig_argv): sys.exit('no work was to be done')")
    again = analyze(tmp_path)
    assert again.returncode == 0
    assert f"slides done: {COUNT} ({COUNT} of them before)" in again.stderr
    assert committed(tmp_path) == before
    assert tables(tmp_path) == undisturbed


def test_what_has_changed_or_is_missing_is_done_again_and_nothing_else(analyze, sabotage, slides, tmp_path):
    source, out = tmp_path / "in", tmp_path / "out"
    shutil.copytree(slides, source)
    assert analyze(out, source=source).returncode == 0
    before = committed(out)
    write_picture(source / "s1.png", spots((240, 100)))  # another picture
    os.utime(source / "s2.png")  # only touched
    write_picture(source / "new.png", spots((240, 100)))
    (out / "slides" / "s3.png" / "cells.csv").unlink()
    (out / "slides" / "s4.png" / "slide.json").write_text("{")
    assert analyze(out, source=source).returncode == 0
    assert redone(before, committed(out)) == {"s1.png", "new.png", "s3.png", "s4.png"}
    assert rows(out)["s1.png"]["cells"] == "1"
    # A copy elsewhere is the same slide; that is found out once, and no network is loaded for it the next time.
    staged, before = tmp_path / "stage", committed(out)
    shutil.copytree(source, staged, copy_function=shutil.copyfile)
    assert analyze(out, source=staged).returncode == 0
    assert committed(out) == before
    sabotage("import sys\nif 'wbc_cli.run.worker' in ' '.join(sys.orig_argv): sys.exit('no work was to be done')")
    assert analyze(out, source=staged).returncode == 0


def test_restart_does_all_anew(analyze, tmp_path, undisturbed):
    assert analyze(tmp_path).returncode == 0
    before = committed(tmp_path)
    assert analyze(tmp_path, "--restart").returncode == 0
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


# --- more products of what is analysed

ALL = ("--batch-size", "1", "--write", ",".join(PRODUCT_NAMES))  # one window a batch: the same to the last bit
NONE = ("--batch-size", "1", "--write", "none")


@pytest.fixture(scope="module")
def all_at_once(slides, toy_weights, tmp_path_factory):
    """What a run left that was asked for all products at once."""
    out = tmp_path_factory.mktemp("all")
    common = ("--weights", toy_weights, "--mpp", TOY_UM_PER_PX, "--device", "cpu", "-q")
    arguments = (sys.executable, "-m", "wbc_cli.cli", "analyze", slides, "-o", out, *common, *ALL)
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
    analyze, sabotage, tmp_path, all_at_once
):
    assert analyze(tmp_path, *NONE).returncode == 0
    sabotage(NO_NETWORK)
    again = analyze(tmp_path, *ALL)
    assert again.returncode == 0, again.stderr
    assert f"slides done: {COUNT} ({COUNT} of them before)" in again.stderr
    assert left_by(tmp_path) == all_at_once
    assert (tmp_path / "report.html").exists()
    before = committed(tmp_path)
    assert analyze(tmp_path, *ALL).returncode == 0
    assert committed(tmp_path) == before


def test_a_run_for_more_products_that_is_killed_goes_on_also_in_shards(
    command, analyze, call, sabotage, tmp_path, all_at_once
):
    assert analyze(tmp_path, *NONE).returncode == 0
    sabotage(NO_NETWORK + ON_OPEN.format(name="s", what="time.sleep(0 if path.name < 's3' else 1000)"))
    with subprocess.Popen(command(tmp_path, *ALL), stderr=subprocess.DEVNULL) as run:
        wait_for(lambda: len(list(tmp_path.glob("slides/*/overlay.png"))) == 3)
        run.kill()
    sabotage(NO_NETWORK)
    drawn = {path: path.stat().st_mtime_ns for path in tmp_path.glob("slides/*/overlay.png")}
    for shard in ("0/2", "1/2"):
        assert analyze(tmp_path, *ALL, "--shard", shard).returncode == 0
    assert {path: path.stat().st_mtime_ns for path in drawn} == drawn
    assert call("merge", tmp_path, "-o", tmp_path).code == 0
    assert left_by(tmp_path) == all_at_once


def test_where_what_is_kept_does_not_suffice_a_slide_is_analysed_again(analyze, slides, tmp_path):
    source, out = tmp_path / "in", tmp_path / "out"
    shutil.copytree(slides, source)
    assert analyze(out, *NONE, source=source).returncode == 0
    write_picture(source / "s1.png", spots((240, 100)))  # another picture
    (out / "slides" / "s2.png" / "result.npz").unlink()
    kept = out / "slides" / "s3.png" / "result.npz"
    kept.write_bytes(bytes(kept.stat().st_size))
    os.utime(source / "s4.png")  # only touched
    again = analyze(out, "--write", "mask", source=source)
    assert f"slides done: {COUNT} ({COUNT - 3} of them before)" in again.stderr
    assert len(list(out.glob("slides/*/mask.ome.tif"))) == COUNT
    assert [rows(out)[f"s{i}.png"]["cells"] for i in range(5)] == ["1", "1", "3", "1", "2"]


def test_a_slide_that_failed_is_tried_again(analyze, slides, tmp_path):
    source, out = tmp_path / "in", tmp_path / "out"
    shutil.copytree(slides, source)
    whole = (source / "s0.png").read_bytes()
    (source / "s0.png").write_bytes(whole[: len(whole) // 2])  # still being copied
    assert analyze(out, source=source).returncode == 3
    assert rows(out)["s0.png"]["status"] == "failed"
    (source / "s0.png").write_bytes(whole)
    assert analyze(out, source=source).returncode == 0
    assert rows(out)["s0.png"]["status"] == "done"


# --- what fails fails alone


def test_a_decoder_that_crashes_fails_its_slide_only(analyze, sabotage, tmp_path):
    sabotage(ON_OPEN.format(name="s5", what="os.kill(os.getpid(), signal.SIGSEGV)"))
    answer = analyze(tmp_path)
    assert answer.returncode == 3
    found = rows(tmp_path)
    assert {name for name, row in found.items() if row["status"] == "failed"} == {"s5.png"}
    assert "crashed the process (signal SIGSEGV" in found["s5.png"]["reason"]
    assert len(found) == COUNT
    assert "Traceback" not in answer.stderr


def test_a_slide_that_hangs_fails_after_the_time_limit_and_the_others_are_done(analyze, sabotage, tmp_path):
    sabotage(ON_OPEN.format(name="s5", what="time.sleep(1000)"))
    began = time.monotonic()
    assert analyze(tmp_path, "--time-limit", "3").returncode == 3
    assert time.monotonic() - began < 60
    found = rows(tmp_path)
    assert {name for name, row in found.items() if row["status"] == "failed"} == {"s5.png"}
    assert "--time-limit" in found["s5.png"]["reason"]


READ_HANGS = """
import sys
if "wbc_cli.run.worker" in " ".join(sys.orig_argv):
    import threading, time
    from wbc_cli.slides.image import ImageReader
    whole = ImageReader.read
    def read(self, *region):
        if "s5" in self.path.name and threading.current_thread().name.startswith("reader"):
            time.sleep(1000)
        return whole(self, *region)
    ImageReader.read = read
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_a_read_that_never_returns_is_blamed_and_none_that_waits_behind_it(analyze, sabotage, tmp_path, workers):
    sabotage(READ_HANGS)
    answer = analyze(tmp_path, "--time-limit", "6", "--workers", workers)
    assert answer.returncode == 3
    assert {name for name, row in rows(tmp_path).items() if row["status"] == "failed"} == {"s5.png"}
    assert answer.stderr.count("no progress for 6 s") == 1


def test_where_nothing_moves_at_all_what_was_in_hand_is_tried_alone(analyze, sabotage, slides, tmp_path):
    source = tmp_path / "in"
    for name in ("s0.png", "s1.png"):
        write_picture(source / name, spots((100, 100)))
    white = np.full((200, 480, 3), 255, np.uint8)
    white[75:125, 75:125] = 0
    write_picture(source / "s2.png", white)
    sabotage(
        "import sys, time\nimport wbc_cli.run.supervisor as supervisor\nsupervisor._MIN_SILENCE_SECONDS = 3\n"
        "if 'wbc_cli.run.worker' in ' '.join(sys.orig_argv):\n"
        "    from wbc_cli.inference.engine import Engine\n"
        "    predict = Engine.predict\n"
        "    Engine.predict = lambda self, windows: time.sleep(1000 * (windows == 0).any()) or predict(self, windows)\n"
    )
    answer = analyze(tmp_path / "out", "--time-limit", "4", source=source)
    assert answer.returncode == 3
    assert {n for n, row in rows(tmp_path / "out").items() if row["status"] == "failed"} == {"s2.png"}


def test_an_error_that_nobody_thought_of_fails_its_slide_only(analyze, sabotage, tmp_path):
    sabotage(ON_OPEN.format(name="s5", what="raise ZeroDivisionError('nobody thought of this')"))
    assert analyze(tmp_path).returncode == 3
    found = rows(tmp_path)
    assert {name for name, row in found.items() if row["status"] == "failed"} == {"s5.png"}
    assert "nobody thought of this" in found["s5.png"]["reason"]


def test_a_worker_that_does_not_start_is_the_environments_fault(analyze, sabotage, tmp_path):
    sabotage("import os, sys\nif 'wbc_cli.run.worker' in ' '.join(sys.orig_argv): os._exit(9)")
    answer = analyze(tmp_path)
    assert answer.returncode == 5
    assert "wbc-cli doctor" in answer.stderr
    assert "Traceback" not in answer.stderr


# --- stopping and going on


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGHUP, 75), (signal.SIGINT, 130)])
def test_a_signal_stops_a_run_within_ten_seconds_and_the_same_command_goes_on(
    command, analyze, sabotage, tmp_path, undisturbed, number, code
):
    # What these tests run under may be deaf to SIGHUP, as under nohup, and the program would be, too.
    heard = "import signal\nsignal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
    analysed = "path.name < 's3' or sys._getframe(1).f_code.co_name == '_measure'"  # and those for their acquisition
    sabotage(heard + ON_OPEN.format(name="s", what=f"time.sleep(0 if {analysed} else 1000)"))
    with subprocess.Popen(command(tmp_path), stderr=subprocess.PIPE, text=True) as run:
        wait_for(lambda: len(committed(tmp_path)) == 3)
        began = time.monotonic()
        run.send_signal(number)
        said = run.stderr.read()
    assert time.monotonic() - began < 10
    assert run.returncode == code
    assert "the same command goes on" in said
    assert set(rows(tmp_path)) == {"s0.png", "s1.png", "s2.png"}
    assert json.loads((tmp_path / "run.json").read_text())["status"] == "stopped"
    if number != signal.SIGTERM:
        return  # one of them will do for what follows
    sabotage("")
    before = committed(tmp_path)
    assert analyze(tmp_path).returncode == 0
    assert redone(before, committed(tmp_path)) == {f"s{i}.png" for i in range(3, COUNT)}
    assert tables(tmp_path) == undisturbed


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGUSR1, 75), (signal.SIGINT, 130)])
def test_a_signal_is_heard_while_folders_are_walked(command, sabotage, tmp_path, number, code):
    mark = tmp_path / "walking"
    sabotage(
        "import os, time\n"
        f"def scandir(*_, **__):\n    open({str(mark)!r}, 'w').close(); time.sleep(1000)\n"
        "import sys\nif 'analyze' in sys.orig_argv: os.scandir = scandir\n"
    )
    with subprocess.Popen(command(tmp_path / "out"), stderr=subprocess.PIPE, text=True) as run:
        wait_for(mark.exists)
        began = time.monotonic()
        run.send_signal(number)
        said = run.stderr.read()
    assert time.monotonic() - began < 10
    assert run.returncode == code
    assert "Traceback" not in said
    assert not (tmp_path / "out").exists()


def test_a_signal_when_all_is_done_makes_no_failure_of_it(analyze, sabotage, tmp_path, undisturbed):
    sabotage(
        "import atexit, os, signal, sys\n"
        "atexit.register(lambda: 'analyze' in sys.argv and os.kill(os.getpid(), signal.SIGTERM))"
    )
    assert analyze(tmp_path).returncode == 0
    assert tables(tmp_path) == undisturbed


def test_kill_9_at_any_moment_leaves_a_folder_that_the_next_run_completes(command, analyze, tmp_path, undisturbed):
    moments = random.Random(0)
    for _ in range(4):
        with subprocess.Popen(command(tmp_path), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
            time.sleep(moments.uniform(0.2, 6))
            run.kill()
    assert analyze(tmp_path).returncode == 0
    assert tables(tmp_path) == undisturbed
    assert not list(tmp_path.glob(".scratch*"))


def test_a_run_that_is_killed_takes_its_worker_with_it(command, sabotage, tmp_path):
    # The name says it, as a file's content is written bit by bit, and again by the thread that reads the next slide.
    mark = str(tmp_path / "worker")
    sabotage(ON_OPEN.format(name="s", what=f"open(f'{mark}.{{os.getpid()}}', 'w').close(); time.sleep(1000)"))
    with subprocess.Popen(command(tmp_path / "out"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
        wait_for(lambda: list(tmp_path.glob("worker.*")))
        run.kill()
    (worker,) = tmp_path.glob("worker.*")
    wait_for(lambda: not Path(f"/proc/{worker.suffix[1:]}").exists())


def wait_for(condition, seconds=60):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.05)


# --- two at a time


def test_a_second_run_in_the_same_folder_is_refused_with_the_name_of_the_first(analyze, tmp_path):
    with locked(tmp_path / LOCK):
        answer = analyze(tmp_path)
    assert answer.returncode == 5
    assert f"in use (process {os.getpid()} on " in answer.stderr
    assert analyze(tmp_path).returncode == 0  # the lock file is still there, its holder is not


def test_shards_beside_each_other_merge_to_what_one_run_gives(command, analyze, call, tmp_path, undisturbed):
    running = [
        subprocess.Popen(command(tmp_path, "-q", "--shard", f"{i}/3"), stdout=subprocess.DEVNULL) for i in range(3)
    ]
    assert [run.wait() for run in running] == [0, 0, 0]
    assert not (tmp_path / "differential.csv").exists()
    for out in (tmp_path, tmp_path / "elsewhere"):
        assert call("merge", tmp_path, "-o", out).code == 0
        assert tables(out) == undisturbed
        assert (out / "slides" / "s0.png" / "cells.csv").exists()
    assert analyze(tmp_path, "--shard", "0/4").returncode == 2


def test_merge_says_which_shards_are_missing(analyze, call, tmp_path):
    assert analyze(tmp_path, "--shard", "1/3").returncode == 0
    answer = call("merge", tmp_path, "-o", tmp_path)
    assert answer.code == 3
    assert "shard 0/3 has not run" in answer.err
    assert "shard 2/3 has not run" in answer.err
    assert "shard 1/3" not in answer.err


def test_runs_of_different_folders_merge_and_contradictions_are_refused(analyze, call, slides, tmp_path):
    first, second = tmp_path / "in1", tmp_path / "in2"
    for folder, names in ((first, ("s0.png", "s1.png")), (second, ("s2.png",))):
        folder.mkdir()
        for name in names:
            shutil.copy(slides / name, folder)
    assert analyze(tmp_path / "a", source=first).returncode == 0
    assert analyze(tmp_path / "b", source=second).returncode == 0
    assert call("merge", tmp_path / "a", tmp_path / "b", "-o", tmp_path / "both").code == 0
    assert list(rows(tmp_path / "both")) == ["s0.png", "s1.png", "s2.png"]
    write_picture(second / "s0.png", spots((240, 100), (350, 100)))
    assert analyze(tmp_path / "b", source=second).returncode == 0
    answer = call("merge", tmp_path / "a", tmp_path / "b", "-o", tmp_path / "both")
    assert answer.code == 2
    assert "other results for s0.png" in answer.err


def test_merge_reads_what_shards_wrote_once_it_holds_their_locks(call, tmp_path, monkeypatch):
    folder = RunFolder(tmp_path)
    Shares(1, {"a": 0}).write(tmp_path / SHARDS)

    @contextmanager
    def until_the_shard_has_ended(*_, **__):
        folder.commit(small_result("a"), blank(), frozenset())
        folder.write_run({}, [folder.record("a")], "run-0-of-1.json")
        yield 0

    monkeypatch.setattr("wbc_cli.run.merge.locked", until_the_shard_has_ended)
    assert call("merge", tmp_path, "-o", tmp_path).code == 0
    assert list(rows(tmp_path)) == ["a"]


# --- what comes and goes


def test_rows_stay_when_files_leave_the_inbox_and_go_when_that_is_wished(analyze, slides, tmp_path):
    inbox, out = tmp_path / "inbox", tmp_path / "out"
    inbox.mkdir()
    shutil.copy(slides / "s0.png", inbox / "monday.png")
    shutil.copy(slides / "s1.png", inbox / "both.png")
    assert analyze(out, source=inbox).returncode == 0
    (inbox / "monday.png").unlink()
    (inbox / "both.png").rename(inbox / "by another name.png")
    (inbox / "phone.HEIC").write_bytes(b"x")
    (inbox / "gone.png").symlink_to("nowhere")
    answer = analyze(out, source=inbox)
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
    assert analyze(out, "--prune", source=inbox).returncode == 3
    assert "monday.png" in rows(out)  # a part of the input could not be looked at
    (inbox / "gone.png").unlink()
    (inbox / "phone.HEIC").unlink()
    assert analyze(out, "--prune", source=inbox).returncode == 0
    assert [path.name for path in (out / "slides").iterdir()] == ["by_another_name.png"]
    assert list(rows(out)) == ["by_another_name.png"]


# --- the disk


def test_a_disk_without_hard_links_and_locks_will_do(analyze, call, sabotage, tmp_path, undisturbed):
    sabotage(
        "import errno, fcntl, os\n"
        "def no(*_, **__):\n    raise OSError(errno.ENOLCK, 'No locks available')\n"
        "fcntl.flock = os.link = no\n"
    )
    answer = analyze(tmp_path, "--shard", "0/1")
    assert answer.returncode == 0
    assert "no locks" in answer.stderr
    assert call("merge", tmp_path, "-o", tmp_path).code == 0
    assert tables(tmp_path) == undisturbed


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_ends_the_run_and_it_goes_on_once_there_is_room(analyze, tmp_path, undisturbed):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk], check=False)
    if mounted.returncode:
        pytest.skip("no tmpfs can be mounted here")
    try:
        (disk / "ballast").write_bytes(bytes(225_000))
        answer = analyze(disk / "out")
        assert answer.returncode == 5
        assert "No space left" in answer.stderr
        assert "Traceback" not in answer.stderr
        assert 0 < len(committed(disk / "out")) < COUNT
        (disk / "ballast").unlink()
        assert analyze(disk / "out").returncode == 0
        assert tables(disk / "out") == undisturbed
    finally:
        subprocess.run(["umount", disk], check=True)
