"""What a run survives: python tests/benchmarks/endurance.py kills|terms|shards|resume [COUNT].

kills   COUNT (100) times kill -9 at a random moment of a run over 20 slides, each followed by a run that goes on;
        runs that end before their moment are not counted
terms   COUNT (20) times SIGTERM, the exit code and how long it took
shards  COUNT (16) shards merged, against one run
resume  a folder of COUNT (1000) images that is done, analysed again: seconds beside those of `wbc-cli --version`
"""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from fields import make_fields

TABLES = ("differential.csv", "cells.csv")
PROGRAM = (sys.executable, "-m", "wbc_cli.cli")
DEFAULTS = {"kills": 100, "terms": 20, "shards": 16, "resume": 1000}


def analyze(fields: Path, out: Path, *more: str) -> list[str]:
    return [*PROGRAM, "analyze", str(fields), "-o", str(out), "--quiet", *more]


def run(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def tables(out: Path) -> list[bytes]:
    return [(out / name).read_bytes() for name in TABLES]


def kills(count: int, scratch: Path) -> str:
    fields = make_fields(scratch / "fields", 20)
    whole = run(analyze(fields, scratch / "whole"))
    chance = random.Random(count)
    same, killed = 0, 0
    while killed < count:
        out = scratch / f"out{killed}"
        with subprocess.Popen(analyze(fields, out), stdout=subprocess.DEVNULL) as victim:
            try:
                victim.wait(chance.uniform(0.05, whole))
            except subprocess.TimeoutExpired:
                victim.kill()
        if victim.returncode == -signal.SIGKILL:
            run(analyze(fields, out))
            killed += 1
            same += tables(out) == tables(scratch / "whole")
        shutil.rmtree(out)
    return f"{killed} runs killed; tables the same after going on: {same}"


def terms(count: int, scratch: Path) -> str:
    fields = make_fields(scratch / "fields", 60)
    whole = run(analyze(fields, scratch / "whole"))
    chance = random.Random(0)
    codes, longest = [], 0.0
    for number in range(count):
        with subprocess.Popen(analyze(fields, scratch / f"out{number}"), stdout=subprocess.DEVNULL) as told:
            time.sleep(chance.uniform(0.5, 0.9) * whole)  # later than Python needs to hear of signals
            told.send_signal(signal.SIGTERM)
            began = time.perf_counter()
            codes.append(told.wait())
            longest = max(longest, time.perf_counter() - began)
    return f"exit codes {sorted(codes)}, {longest:.1f} s at most"


def shards(count: int, scratch: Path) -> str:
    fields = make_fields(scratch / "fields", 40)
    run(analyze(fields, scratch / "whole"))
    for index in range(count):
        run(analyze(fields, scratch / "parts", "--shard", f"{index}/{count}"))
    run([*PROGRAM, "merge", str(scratch / "parts"), "-o", str(scratch / "parts")])
    return f"{count} shards merged are one run, byte for byte: {tables(scratch / 'parts') == tables(scratch / 'whole')}"


def resume(count: int, scratch: Path) -> str:
    fields = make_fields(scratch / "fields", count)
    first = run(analyze(fields, scratch / "out", "--write", "none"))
    again = run(analyze(fields, scratch / "out", "--write", "none"))
    start = run([*PROGRAM, "--version"])
    return f"{count} images: {first:.1f} s, again {again:.1f} s, of which start-up {start:.1f} s"


if __name__ == "__main__":
    what = sys.argv[1]
    with tempfile.TemporaryDirectory() as folder:
        print(globals()[what](int(sys.argv[2]) if len(sys.argv) > 2 else DEFAULTS[what], Path(folder)))
