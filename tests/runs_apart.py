"""Runs in processes of their own, as users start them: what disturbs them, and what they leave."""

from __future__ import annotations

import csv
import time

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


def wait_for(condition, seconds=60):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.05)
