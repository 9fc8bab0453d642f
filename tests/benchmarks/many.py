"""A folder of very many small pictures: python tests/benchmarks/many.py [N [FOLDER]].

Writes N (10,000) pictures of 96 px, in FOLDER where one is given, and analyses them without products; and then again,
when all is done. What became of each picture when is told by the times of the files that it leaves. Takes about 20 ms a
picture on two cores.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from wbc_cli.synthetic.smear import Smear

PROGRAM = (sys.executable, "-m", "wbc_cli.cli", "analyze", "--quiet", "--write", "none")
SIDE, UM_PER_PX, SMEAR = 96, 0.14, 2048
FEW = 1_000
GIB = 1 << 30


@dataclass(frozen=True)
class Run:
    """What a run took: seconds from its start to each picture's end in turn, and to its own; and memory, in bytes."""

    ends: np.ndarray
    seconds: float
    peak: int


def make_pictures(folder: Path, count: int) -> Path:
    """Write tiny fields, cut at random from one smear with noise of their own, in two formats."""
    folder.mkdir(parents=True, exist_ok=True)
    smear = Smear(SMEAR, SMEAR, UM_PER_PX, 100, seed=0).render(0, 0, SMEAR, SMEAR)[..., ::-1]
    for number in range(count):
        path = folder / f"{number:06}.{('png', 'jpg')[number % 2]}"
        if not path.exists():
            random = np.random.default_rng(number)
            x, y = random.integers(0, SMEAR - SIDE, 2)
            noise = random.integers(-2, 3, (SIDE, SIDE, 3))
            cv2.imwrite(str(path), np.clip(smear[y : y + SIDE, x : x + SIDE] + noise, 0, 255).astype(np.uint8))
    return folder


def analysed(pictures: Path, out: Path, *options: str) -> Run:
    began, wall = time.perf_counter(), time.time()
    with subprocess.Popen(
        [*PROGRAM, str(pictures), "-o", str(out), *options], stdout=subprocess.DEVNULL, start_new_session=True
    ) as process:
        peaks: list[int] = []
        watch = threading.Thread(target=watch_memory, args=(process, peaks))
        watch.start()
        if process.wait():
            sys.exit(f"analyze ended with {process.returncode}")
        seconds = time.perf_counter() - began
        watch.join()
    ends = sorted(file.stat().st_mtime - wall for file in out.glob("slides/*/slide.json"))
    return Run(np.array(ends), seconds, max(peaks))


def watch_memory(process: subprocess.Popen[bytes], peaks: list[int]) -> None:
    """Note every half second what all processes of the run hold together."""
    while process.poll() is None:
        peaks.append(sum(resident(int(entry.name)) for entry in Path("/proc").iterdir() if of(entry, process.pid)))
        time.sleep(0.5)


def of(entry: Path, session: int) -> bool:
    try:
        return entry.name.isdecimal() and os.getsid(int(entry.name)) == session
    except ProcessLookupError:
        return False


def resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()
    except (ProcessLookupError, FileNotFoundError):
        return 0


def main(count: int, scratch: Path) -> None:
    few = analysed(make_pictures(scratch / f"pictures-{FEW}", FEW), scratch / f"out-{FEW}")
    many = analysed(make_pictures(scratch / f"pictures-{count}", count), scratch / f"out-{count}")
    again = analysed(scratch / f"pictures-{count}", scratch / f"out-{count}")
    each = 1000 * few.seconds / FEW, 1000 * many.seconds / count
    first, last = (1000 * np.ptp(part) / len(part) for part in (many.ends[:FEW], many.ends[-FEW:]))
    print(
        f"{FEW} pictures: {few.seconds:.1f} s, {count}: {many.seconds:.1f} s; {each[0]:.1f} and {each[1]:.1f} ms each"
    )
    print(f"time a picture, {count} to {FEW}: {each[1] / each[0]:.2f} (bar 1.1)")
    print(f"the last {FEW} to the first {FEW}: {last:.1f} to {first:.1f} ms, {last / first:.2f}")
    print(f"first picture after {many.ends[0]:.1f} s ({FEW}: {few.ends[0]:.1f} s)")
    print(f"after the last {many.seconds - many.ends[-1]:.1f} s ({FEW}: {few.seconds - few.ends[-1]:.1f} s)")
    print(f"peak memory of all processes: {many.peak / GIB:.2f} GiB ({FEW}: {few.peak / GIB:.2f} GiB; bar 1.5)")
    print(f"done before: {again.seconds:.1f} s, {1000 * again.seconds / count:.2f} ms each (bar 0.2)")


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory() as folder:
        main(count, Path(sys.argv[2] if len(sys.argv) > 2 else folder))
