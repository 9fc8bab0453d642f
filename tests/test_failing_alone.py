"""A slide that crashes, hangs or fails in a way that nobody thought of fails alone."""

from __future__ import annotations

import time

import numpy as np
import pytest
from conftest import spots, write_picture
from runs_apart import COUNT, ON_OPEN, rows


def test_a_decoder_that_crashes_fails_its_slide_only(analyze_apart, sabotage, tmp_path):
    sabotage(ON_OPEN.format(name="s5", what="os.kill(os.getpid(), signal.SIGSEGV)"))
    answer = analyze_apart(tmp_path)
    assert answer.returncode == 3
    found = rows(tmp_path)
    assert {name for name, row in found.items() if row["status"] == "failed"} == {"s5.png"}
    assert "crashed the process (signal SIGSEGV" in found["s5.png"]["reason"]
    assert len(found) == COUNT
    assert "Traceback" not in answer.stderr


def test_a_slide_that_hangs_fails_after_the_time_limit_and_the_others_are_done(analyze_apart, sabotage, tmp_path):
    sabotage(ON_OPEN.format(name="s5", what="time.sleep(1000)"))
    began = time.monotonic()
    assert analyze_apart(tmp_path, "--time-limit", "3").returncode == 3
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
def test_a_read_that_never_returns_is_blamed_and_none_that_waits_behind_it(analyze_apart, sabotage, tmp_path, workers):
    sabotage(READ_HANGS)
    answer = analyze_apart(tmp_path, "--time-limit", "6", "--workers", workers)
    assert answer.returncode == 3
    assert {name for name, row in rows(tmp_path).items() if row["status"] == "failed"} == {"s5.png"}
    assert answer.stderr.count("no progress for 6 s") == 1


def test_where_nothing_moves_at_all_what_was_in_hand_is_tried_alone(analyze_apart, sabotage, eight_pictures, tmp_path):
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
        "    Engine.predict = lambda self, windows, *more: (\n"
        "        time.sleep(1000 * (windows == 0).any()) or predict(self, windows, *more))\n"
    )
    answer = analyze_apart(tmp_path / "out", "--time-limit", "4", source=source)
    assert answer.returncode == 3
    assert {n for n, row in rows(tmp_path / "out").items() if row["status"] == "failed"} == {"s2.png"}


def test_an_error_that_nobody_thought_of_fails_its_slide_only(analyze_apart, sabotage, tmp_path):
    sabotage(ON_OPEN.format(name="s5", what="raise ZeroDivisionError('nobody thought of this')"))
    assert analyze_apart(tmp_path).returncode == 3
    found = rows(tmp_path)
    assert {name for name, row in found.items() if row["status"] == "failed"} == {"s5.png"}
    assert "nobody thought of this" in found["s5.png"]["reason"]


def test_a_worker_that_does_not_start_is_the_environments_fault(analyze_apart, sabotage, tmp_path):
    sabotage("import os, sys\nif 'wbc_cli.run.worker' in ' '.join(sys.orig_argv): os._exit(9)")
    answer = analyze_apart(tmp_path)
    assert answer.returncode == 5
    assert "wbc-cli doctor" in answer.stderr
    assert "Traceback" not in answer.stderr
