"""Whoever stops or kills a run can go on: nothing is lost, and nothing is half done."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
from runs_apart import COUNT, ON_OPEN, committed, redone, rows, tables, wait_for


@pytest.mark.parametrize(
    ("number", "code", "processes"),
    [(signal.SIGTERM, 75, 1), (signal.SIGTERM, 75, 2), (signal.SIGHUP, 75, 1), (signal.SIGINT, 130, 2)],
)
def test_a_signal_stops_a_run_within_ten_seconds_and_the_same_command_goes_on(
    command, analyze_apart, sabotage, tmp_path, undisturbed, number, code, processes
):
    # What these tests run under may be deaf to SIGHUP, as under nohup, and the program would be, too.
    heard = "import signal\nsignal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
    # And those that are measured for their acquisition.
    analysed = "path.name < 's3' or sys._getframe(1).f_code.co_name == '_look'"
    sabotage(heard + ON_OPEN.format(name="s", what=f"time.sleep(0 if {analysed} else 1000)"))
    with subprocess.Popen(command(tmp_path, "--processes", processes), stderr=subprocess.PIPE, text=True) as run:
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
    assert analyze_apart(tmp_path).returncode == 0
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


def test_a_signal_when_all_is_done_makes_no_failure_of_it(analyze_apart, sabotage, tmp_path, undisturbed):
    sabotage(
        "import atexit, os, signal, sys\n"
        "atexit.register(lambda: 'analyze' in sys.argv and os.kill(os.getpid(), signal.SIGTERM))"
    )
    assert analyze_apart(tmp_path).returncode == 0
    assert tables(tmp_path) == undisturbed


def test_kill_9_at_any_moment_leaves_a_folder_that_the_next_run_completes(
    command, analyze_apart, tmp_path, undisturbed
):
    moments = random.Random(0)
    for _ in range(4):
        with subprocess.Popen(command(tmp_path), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
            time.sleep(moments.uniform(0.2, 6))
            run.kill()
    assert analyze_apart(tmp_path).returncode == 0
    assert tables(tmp_path) == undisturbed
    assert not list(tmp_path.glob(".scratch*"))


def test_a_run_that_is_killed_takes_its_workers_with_it(command, sabotage, tmp_path):
    # The name says it, as a file's content is written bit by bit, and again by the thread that reads the next slide.
    mark = str(tmp_path / "worker")
    sabotage(ON_OPEN.format(name="s", what=f"open(f'{mark}.{{os.getpid()}}', 'w').close(); time.sleep(1000)"))
    two = command(tmp_path / "out", "--processes", 2)
    with subprocess.Popen(two, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
        wait_for(lambda: len(list(tmp_path.glob("worker.*"))) == 2)
        run.kill()
    for worker in tmp_path.glob("worker.*"):
        wait_for(lambda pid=worker.suffix[1:]: not Path(f"/proc/{pid}").exists())
