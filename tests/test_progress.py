"""Progress is true, plain where no one watches, and takes names as they are."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from wbc_cli.terminal import progress
from wbc_cli.terminal.console import Terminal
from wbc_cli.terminal.progress import run_progress

SIZES = {"small.png": 100, "scan [red].svs": 900}


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def left_in(said):
    (left,) = re.findall(r"about (\d+) s left", said)
    return int(left)


def terminal(*, watched):
    err = Console(file=io.StringIO(), force_terminal=watched, width=120, soft_wrap=not watched)
    return Terminal(err=err)


def test_lines_tell_slides_windows_and_cells_and_what_is_left_by_size(clock):
    out = terminal(watched=False)
    with run_progress(out, SIZES) as run:
        run.watch("small.png", 0, 2, 0)
        clock[0] = 10
        run.finish("small.png", 2)
        assert out.err.file.getvalue() == ""  # not every slide has a line
        clock[0] = 20
        run.watch("scan [red].svs", 200, 1000, 30)
    said = out.err.file.getvalue()
    assert "slides: 1 of 2, cells: 2" in said
    assert "scan [red].svs: 200 of 1000 windows, cells: 30" in said
    assert left_in(said) == pytest.approx(20 * (1 - 0.28) / 0.28, abs=1)  # 100 and a fifth of 900 bytes took 20 s


def test_nothing_is_said_of_the_time_left_before_enough_is_done_to_tell(clock):
    out = terminal(watched=False)
    with run_progress(out, SIZES) as run:
        run.finish("small.png", 0)  # it could not be opened: that took no time
        clock[0] = 60  # until then acquisitions were measured
        run.watch("scan [red].svs", 1, 1000, 0)
        clock[0] = 76
        run.watch("scan [red].svs", 9, 1000, 0)
        assert "slides: 1 of 2" in out.err.file.getvalue()
        assert "left" not in out.err.file.getvalue()
        clock[0] = 160
        run.watch("scan [red].svs", 101, 1000, 5)
    assert left_in(out.err.file.getvalue()) == 899  # a window a second


def test_on_a_terminal_the_time_left_takes_some_seconds_of_work_to_tell(clock):
    out = terminal(watched=True)
    with run_progress(out, SIZES) as run:
        run.watch("scan [red].svs", 0, 1000, 0)
        clock[0] = 14
        run.watch("scan [red].svs", 500, 1000, 0)
    assert "left" not in out.err.file.getvalue()


def test_the_last_slide_always_has_a_line(clock):
    out = terminal(watched=False)
    with run_progress(out, SIZES) as run:
        for name in SIZES:
            run.finish(name, 1)
    assert "slides: 2 of 2, cells: 2" in out.err.file.getvalue()


def test_a_bar_shows_a_large_slide_by_its_own_name(clock):
    out = terminal(watched=True)
    with run_progress(out, SIZES) as run:
        run.watch("scan [red].svs", 400, 1000, 30)
        run.finish("small.png", 2)
    said = out.err.file.getvalue()
    assert "scan [red].svs" in said
    assert "1/2" in said
    assert "2 cells" in said


def test_quiet_says_nothing(clock):
    out = terminal(watched=False)
    out.quiet = True
    with run_progress(out, SIZES) as run:
        for name in SIZES:
            run.finish(name, 1)
    assert out.err.file.getvalue() == ""
