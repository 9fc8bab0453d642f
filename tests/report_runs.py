"""Runs for the tests of the report: slides of every fate, with names that mean harm."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fakes import blank, committed, disc, make_cell, make_result

from wbc_cli.classes import CLASS_NAMES
from wbc_cli.products.folder import RunFolder

HOSTILE = '<img src=x onerror=alert(1)>,"quoted" & $x^2$.png'
RUN = {"version": "0.1.0", "weights_sha256": "4df191c2", "options": {"precision": "auto", "batch_size": None}}


def write_report(folder, run=RUN):
    RunFolder(folder).write_report(run, committed(RunFolder(folder)))
    return folder / "report.html"


def some_cells(number, first=1):
    """Cells of every class, one less certain than the other; every tenth is flagged."""
    kinds = (*CLASS_NAMES, "unidentified")
    return [
        make_cell(
            i + first,
            disc(30),
            5 + 4 * (i % 60),
            5 + i % 150,
            kinds[i % len(kinds)],
            confidence=round(0.99 - 0.4 * ((7 * i) % number) / number, 4),
            flags=("edge",) if i % 10 == 3 else (),
        )
        for i in range(number)
    ]


def make_small_run(folder):
    """Three slides that are done, one that was refused and one that failed."""
    run = RunFolder(folder)
    write = frozenset({"report"})
    run.commit(make_result(some_cells(120), 300, 200, "monday"), blank(), write)
    run.commit(make_result(some_cells(30), 300, 200, HOSTILE), blank(), write)
    run.commit(make_result(some_cells(9), 300, 200, "=cmd.png", flags=("blurred",)), blank(), write)
    refused = make_result(some_cells(12), 300, 200, "refused")
    run.commit(replace(refused, refusal="out of focus: focus and take it again"), blank(), write)
    run.record_failure("bad", Path("in/<script>alert(1)</script>.png"), "cut off: <b>copy</b> it again")
    write_report(folder)
    return folder
