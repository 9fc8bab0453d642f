"""A folder of camera fields, the cost of Grad-CAM, and what precision changes: python tests/benchmarks/fields.py [N].

Writes N (300) synthetic fields of 640 x 480 and analyses them as `analyze` does, without pictures; the bare network on
as many windows, in the same batches, is measured in turns with it.
"""

from __future__ import annotations

import csv
import json
import logging
import statistics
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path

from wbc_cli.diagnostics.bench import bare_network
from wbc_cli.model.heads import TypeHead
from wbc_cli.run.job import Job, Order
from wbc_cli.run.loading import ComputeOptions, load_analyser
from wbc_cli.run.worker import Orders, work
from wbc_cli.slides.discover import discover
from wbc_cli.slides.watchdog import TIME_LIMIT
from wbc_cli.synthetic.fields import write_field
from wbc_cli.synthetic.smear import Smear

ROUNDS = 3
WIDTH, HEIGHT, UM_PER_PX = 640, 480, 0.14


def make_fields(folder: Path, count: int) -> Path:
    folder.mkdir()
    for number in range(count):
        smear = Smear(WIDTH, HEIGHT, UM_PER_PX, 1 + number % 2, seed=number)
        write_field(folder / f"{number:04}.png", smear.render(0, 0, WIDTH, HEIGHT), UM_PER_PX)
    return folder


def main(count: int) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        fields = make_fields(Path(scratch, "fields"), count)
        shares, cams = [], []
        for round_number in range(ROUNDS):
            took, windows = analysed(fields, Path(scratch, f"out{round_number}"))
            with no_cam():
                without, _ = analysed(fields, Path(scratch, f"plain{round_number}"))
            analyser, _ = load_analyser(ComputeOptions())
            with analyser.stream:
                began = time.perf_counter()
                bare_network(analyser.stream.engine, windows)
                shares.append((time.perf_counter() - began) / took)
            cams.append(took / without - 1)
            rate = f"{count / took:.1f} fields/s, {windows} windows"
            print(f"{rate}, bare network {shares[-1]:.2f} of it, Grad-CAM {cams[-1]:+.0%}")
        print(f"rate to the bare network's: {statistics.median(shares):.2f} (bar 0.6)")
        print(f"Grad-CAM costs {statistics.median(cams):.0%} (bar 15 %)")
        agreement(fields, Path(scratch))


def analysed(fields: Path, out: Path, precision: str = "auto") -> tuple[float, int]:
    compute = ComputeOptions(precision=precision)
    orders = Orders()
    for slide in discover([fields]).slides:
        orders.put(Order(slide.name, [str(slide.path)], None, None, None, None))
    orders.put(None)
    job = Job(
        out=str(out),
        scratch=str(out / ".scratch"),
        pictures={},
        unmeasurable=[],
        unknown=True,
        model={},
        um_per_px=None,
        write=[],
        exhaustive=False,
        compute=compute.to_dict(),
        processes=1,
        most_processes=1,
        cores_a_process=1,
        locks=None,
        alone=False,
        time_limit=TIME_LIMIT,
        log_level=logging.WARNING,
    )
    began = time.perf_counter()
    work(job, orders, lambda event: None, threading.Event())
    took = time.perf_counter() - began
    began = time.perf_counter()
    load_analyser(compute)[0].stream.close()  # the start of the program is not what is measured
    took -= time.perf_counter() - began
    records = (json.loads(record.read_text()) for record in out.glob("slides/*/slide.json"))
    return took, sum(record["windows"] for record in records)


@contextmanager
def no_cam():
    """Leave Grad-CAM out: a map of ones in its place."""
    whole = TypeHead.cam
    TypeHead.cam = lambda self, features, classes: features.new_ones(*classes.shape, *features.shape[2:])
    try:
        yield
    finally:
        TypeHead.cam = whole


def agreement(fields: Path, scratch: Path) -> None:
    cells = {}
    for precision in ("fp32", "bf16", "fp16"):
        analysed(fields, scratch / precision, precision)
        tables = sorted((scratch / precision).glob("slides/*/cells.csv"))
        rows = [row for table in tables for row in csv.DictReader(table.open())]
        cells[precision] = {(r["slide"], round(float(r["x"]) / 8), round(float(r["y"]) / 8)): r["class"] for r in rows}
    full = cells.pop("fp32")
    for precision, found in cells.items():
        shared = full.keys() & found.keys()
        same = sum(full[key] == found[key] for key in shared)
        print(f"fp32 and {precision}: {len(full)} and {len(found)} cells, {same} of {len(shared)} of one class")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 300)
