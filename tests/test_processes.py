"""Several worker processes share the work: how many is chosen by the machine, and what comes out does not tell."""

from __future__ import annotations

import json
import shutil
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from runs_apart import COUNT, ON_OPEN, rows, tables

from wbc_cli.resources.processes import available_memory, fitting_processes
from wbc_cli.run import loading
from wbc_cli.run.backlog import Backlog

GIB = 1 << 30
TWO = ("--processes", "2", "--batch-size", "1")  # with batches of one neither takes all slides in hand at once


def files(out):
    """The files of all slides and what they share, by name; of the records all but how long it took."""
    found = [*out.glob("slides/*/*"), out / "acquisitions.json", out / "differential.csv", out / "cells.csv"]
    contents = {str(file.relative_to(out)): file.read_bytes() for file in found}
    records = {name: json.loads(content) for name, content in contents.items() if name.endswith("slide.json")}
    return contents | {name: {**record, "seconds": None} for name, record in records.items()}


NOTED = """
import sys
if "wbc_cli.run.worker" in " ".join(sys.orig_argv):
    import os
    import wbc_cli.run.acquisitions as acquisitions
    import wbc_cli.run.slide_task as slide_task
    def noting(what, function):
        def noted(*arguments):
            with open({notes!r}, "a") as file:
                file.write(f"{{what}} {{os.getpid()}}\\n")
            return function(*arguments)
        return noted
    acquisitions.measure_light = noting("measured", acquisitions.measure_light)
    finder = acquisitions.AcquisitionFinder
    finder._typed = noting("typed", finder._typed)
    slide_task.even = noting("analysed", slide_task.even)
"""


def test_two_processes_write_the_same_bytes_as_one_and_measure_an_acquisition_once(analyze_apart, sabotage, tmp_path):
    more = ("--batch-size", "1", "--workers", "2", "--write", "mask,overlay,explain,geojson")
    assert analyze_apart(tmp_path / "one", "--processes", "1", *more).returncode == 0
    sabotage(NOTED.format(notes=str(tmp_path / "notes")))
    assert analyze_apart(tmp_path / "two", "--processes", "2", *more).returncode == 0
    notes = [line.split() for line in (tmp_path / "notes").read_text().splitlines()]
    assert len([pid for what, pid in notes if what == "measured"]) == COUNT
    analysed = [pid for what, pid in notes if what == "analysed"]
    assert (len(analysed), len(set(analysed))) == (COUNT, 2)
    assert files(tmp_path / "two") == files(tmp_path / "one")
    used = {out: json.loads((tmp_path / out / "run.json").read_text())["used"] for out in ("one", "two")}
    assert used["two"] == used["one"]


def test_two_processes_measure_folders_that_lie_beside_each_other_once(
    analyze_apart, sabotage, eight_pictures, tmp_path
):
    for name in ("a", "b"):
        shutil.copytree(eight_pictures, tmp_path / "in" / name)
    alone = ("--processes", "1", "--batch-size", "1")
    assert analyze_apart(tmp_path / "one", *alone, source=tmp_path / "in").returncode == 0
    sabotage(NOTED.format(notes=str(tmp_path / "notes")))
    assert analyze_apart(tmp_path / "two", *TWO, source=tmp_path / "in").returncode == 0
    done = Counter(line.split()[0] for line in (tmp_path / "notes").read_text().splitlines())
    # For their neutrophils those of each folder, and then, as these tell nothing, those of both.
    assert done == {"measured": 2 * COUNT, "typed": 4 * COUNT, "analysed": 2 * COUNT}
    assert files(tmp_path / "two") == files(tmp_path / "one")


def test_a_crash_in_one_of_two_processes_costs_its_slide_and_the_other_goes_on(
    analyze_apart, sabotage, tmp_path, undisturbed
):
    crash = "sys._getframe(1).f_code.co_name == '_look' or os.kill(os.getpid(), signal.SIGSEGV)"
    sabotage(ON_OPEN.format(name="s5", what=crash))
    answer = analyze_apart(tmp_path, *TWO)
    assert answer.returncode == 3
    assert answer.stderr.count("a worker ended") <= 1  # that of s5, where it did not do that slide alone anyway
    found = rows(tmp_path)
    assert "crashed the process (signal SIGSEGV" in found.pop("s5.png")["reason"]
    whole = undisturbed["differential.csv"].decode().splitlines()
    mine = (tmp_path / "differential.csv").read_text().splitlines()
    assert [line for line in mine if "s5.png" not in line] == [line for line in whole if "s5.png" not in line]


def test_a_picture_that_crashes_whoever_measures_it_is_found_by_two_processes_as_well(
    analyze_apart, sabotage, tmp_path
):
    sabotage(ON_OPEN.format(name="s5", what="os.kill(os.getpid(), signal.SIGSEGV)"))
    assert analyze_apart(tmp_path, *TWO).returncode == 3
    found = rows(tmp_path)
    assert len(found) == COUNT
    assert {name for name, row in found.items() if row["status"] == "failed"} == {"s5.png"}


def test_a_slide_that_hangs_in_one_of_two_processes_fails_alone(analyze_apart, sabotage, tmp_path):
    sabotage(ON_OPEN.format(name="s5", what="time.sleep(1000)"))
    assert analyze_apart(tmp_path, *TWO, "--time-limit", "6").returncode == 3
    assert {name for name, row in rows(tmp_path).items() if row["status"] == "failed"} == {"s5.png"}


def test_where_one_process_does_not_start_the_other_does_the_work(analyze_apart, sabotage, tmp_path, undisturbed):
    first = f"os.open({str(tmp_path / 'first')!r}, os.O_CREAT | os.O_EXCL)"
    sabotage(
        "import contextlib, os, sys\n"
        "if 'wbc_cli.run.worker' in ' '.join(sys.orig_argv):\n"
        f"    with contextlib.suppress(FileExistsError):\n        {first}\n        os._exit(9)\n"
    )
    answer = analyze_apart(tmp_path / "out", *TWO)
    assert answer.returncode == 0
    assert "the others go on without it" in answer.stderr.replace("\n", " ")
    assert tables(tmp_path / "out") == undisturbed


@pytest.mark.parametrize(
    ("cores", "gib", "for_slides", "for_pictures"),
    [(1, 64, 1, 1), (2, 64, 1, 2), (2, 3, 1, 1), (5, 64, 2, 5), (16, 64, 4, 16), (64, 256, 16, 64), (64, 16, 8, 8)],
)
def test_there_is_a_process_for_every_core_or_four_as_far_as_memory_goes(cores, gib, for_slides, for_pictures):
    assert [fitting_processes(cores, gib * GIB, each) for each in (4, 1)] == [for_slides, for_pictures]


def test_where_the_system_does_not_tell_its_memory_the_cores_decide():
    assert fitting_processes(16, None, 4) == 4


def test_a_gpu_has_one_process_and_a_cpu_no_more_than_there_is_work_for(monkeypatch):
    monkeypatch.setattr(loading, "available_cores", lambda: 32)
    monkeypatch.setattr(loading, "available_memory", lambda: 128 * GIB)
    assert [loading.choose_processes("cpu", most, 4) for most in (1, 3, 100)] == [1, 3, 8]
    monkeypatch.setattr("wbc_cli.inference.engine.choose_device", torch.device)
    assert loading.choose_processes("cuda:0", 100, 1) == 1


def machine(root, groups, **files):
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(groups)
    (root / "proc/meminfo").write_text("MemTotal: 64 kB\nMemAvailable:   33554432 kB\n")
    for name, text in files.items():
        file = root / "sys/fs/cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


def test_the_memory_is_that_which_the_machine_has_left(tmp_path):
    assert available_memory(machine(tmp_path, "0::/job")) == 32 * GIB
    assert available_memory(tmp_path / "no such system") is None


def test_a_jobs_limit_counts_and_what_only_caches_files_does_not(tmp_path):
    job = {"memory.max": 8 * GIB, "memory.current": 6 * GIB, "memory.stat": f"anon 7\ninactive_file {GIB}\n"}
    files = {f"job/{name}": str(text) for name, text in job.items()}
    assert available_memory(machine(tmp_path / "limited", "0::/job/step", **files)) == 3 * GIB
    files["job/memory.max"] = "max"
    assert available_memory(machine(tmp_path / "free", "0::/job/step", **files)) == 32 * GIB


def test_version_1_has_its_own_names(tmp_path):
    job = {"memory.limit_in_bytes": 8 * GIB, "memory.usage_in_bytes": 6 * GIB, "memory.stat": "total_inactive_file 0"}
    files = {f"memory/job/{name}": str(text) for name, text in job.items()}
    assert available_memory(machine(tmp_path, "4:cpu,cpuacct:/job\n3:memory:/job\n", **files)) == 2 * GIB


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["done", "crash", "alone"])), max_size=60))
def test_no_slide_is_lost_or_with_two_workers_at_a_time(steps):
    backlog, given_to = Backlog("abcdefgh"), [[], [], [], []]
    for worker, step in steps:
        mine = given_to[worker]
        if step == "done" and mine:
            backlog.remove(mine.pop(0))
        elif step == "crash":
            backlog.take_back(mine)
            backlog.suspect(mine[:2])
            mine.clear()
        elif (name := backlog.next(alone=step == "alone")) is not None:
            backlog.give(name)
            mine.append(name)
        held = [name for names in given_to for name in names]
        assert len(held) == len(set(held))
    for names in given_to:
        backlog.take_back(names)
    for alone in (True, False):
        while (name := backlog.next(alone=alone)) is not None:
            backlog.remove(name)
    assert not backlog.left
