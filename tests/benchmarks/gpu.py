"""All that a machine with a GPU can tell, in under three minutes: python tests/benchmarks/gpu.py FOLDER [FIELDS].

Runs tests/test_gpu.py, times the parts of a batch, lanes and batch sizes, and runs `wbc-cli bench` and small versions
of slides.py and fields.py, whose slides (4096 and 8192 px) go to FOLDER. What each says is printed as it comes, a short
table at the end; the exit code is 1 where one of them failed. Needs no installation, only what wbc-cli depends on.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import torch  # noqa: E402

from wbc_cli.diagnostics.bench import bare_network, make_slide  # noqa: E402
from wbc_cli.inference.device import upload  # noqa: E402
from wbc_cli.inference.engine import Engine, choose_device, choose_precision  # noqa: E402
from wbc_cli.inference.instances import find_cells  # noqa: E402
from wbc_cli.model.files import default_folder  # noqa: E402
from wbc_cli.model.storage import load  # noqa: E402
from wbc_cli.synthetic.smear import Smear  # noqa: E402

SIZES = ("4096", "8192")
FIELDS = "150"
PROGRAM = ("-c", "from wbc_cli.cli import main; main()")
WINDOWS = 2048
LIMIT = 150  # seconds for each of the programs
failures: list[str] = []


def main(folder: Path, fields: str) -> None:
    if not torch.cuda.is_available():
        sys.exit("no CUDA device here")
    folder.mkdir(parents=True, exist_ok=True)
    name = torch.cuda.get_device_name(0)
    rows = [("card", f"{name}, torch {torch.__version__}, {len(os.sched_getaffinity(0))} cores")]
    with ProcessPoolExecutor(len(SIZES), mp_context=get_context("spawn")) as pool:  # takes as long as the tests
        slides = [pool.submit(make_slide, folder, int(size)) for size in SIZES]
        tests = run("test_gpu.py", "-m", "pytest", "-o", "addopts=", "-q", "-rs", str(ROOT / "tests" / "test_gpu.py"))
        print(f"--- slides: {', '.join(str(slide.result()) for slide in slides)}")
    rows.append(("test_gpu.py", last_line(tests)))
    rows += engine_rows()
    bench = run("bench", *PROGRAM, "bench", "--size", SIZES[-1], "--folder", str(folder), "--json", "--device", "cuda")
    rows += bench_rows(bench)
    here = Path(__file__).parent
    for script, arguments in (("slides.py", (str(folder), *SIZES)), ("fields.py", (fields,))):
        said = run(script, str(here / script), *arguments)
        rows += [(script, line) for line in said.splitlines()]
    width = max(len(what) for what, _ in rows)
    print("\n" + "\n".join(f"{what:{width}}  {value}" for what, value in rows))
    if failures:
        sys.exit(f"failed: {', '.join(failures)}")


def run(name: str, *arguments: str) -> str:
    """What a Python program prints; it may fail without taking the others with it."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    began = time.perf_counter()
    try:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": path},
            stdout=subprocess.PIPE,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        said, code = done.stdout, done.returncode
    except subprocess.TimeoutExpired as late:
        said, code = (late.stdout or b"").decode(), "too late"
    print(f"--- {name}: {time.perf_counter() - began:.0f} s, exit code {code}\n{said}", flush=True)
    if code != 0:
        failures.append(name)
    return said


def last_line(said: str) -> str:
    return said.strip().splitlines()[-1] if said.strip() else "nothing"


def bench_rows(said: str) -> list[tuple[str, str]]:
    if not re.match(r"\s*{", said):
        return [("bench", last_line(said))]
    found = json.loads(said)
    seconds = {part: f"{sorted(rounds)[len(rounds) // 2]:.2f} s" for part, rounds in found["seconds"].items()}
    ratios = {name: f"{ratio:.2f}" for name, ratio in found["ratios"].items()}
    told = {key: found[key] for key in ("device", "precision", "batch_size", "lanes", "windows", "cells")}
    return [("bench", ", ".join(f"{key} {what}" for key, what in part.items())) for part in (told, seconds, ratios)]


def engine_rows() -> list[tuple[str, str]]:
    """The parts of a batch, each waited for, and windows a second by lanes and batch size, bare and whole."""
    device = choose_device("cuda")
    network, windows = load(default_folder()).network, smear_windows()
    rows = []
    for size in (64, 256):
        engine = Engine(network, device, choose_precision("auto", device), size)
        rows.append((f"batch of {size}", parts_of_a_batch(engine, windows[:size])))
        for lanes in (1, 2, 4):
            engine.lanes = lanes
            batches = np.split(windows, len(windows) // size)
            bare_network(engine, size * lanes)
            bare = timed(lambda engine=engine: bare_network(engine, WINDOWS))
            with ThreadPoolExecutor(lanes) as pool:
                whole = timed(lambda pool=pool, engine=engine, batches=batches: list(pool.map(engine.predict, batches)))
            rates = f"bare {WINDOWS / bare:.0f} windows/s, with cells {WINDOWS / whole:.0f} ({bare / whole:.2f})"
            rows.append((f"{lanes} lanes of {size}", rates))
    rows.append(("most memory", f"{torch.cuda.max_memory_allocated(device) / 2**20:.0f} MiB of the card"))
    return rows


def smear_windows() -> np.ndarray:
    """Windows of a smear, a white cell in most: uint8 [WINDOWS, 160, 160, 3]."""
    smear = Smear(2560, 2560, 0.2, 200, seed=1)
    picture = smear.render(0, 0, 2560, 2560)
    few = np.stack([picture[y : y + 160, x : x + 160] for y in range(0, 2560, 160) for x in range(0, 2560, 160)])
    return np.concatenate([few] * (WINDOWS // len(few)))


def parts_of_a_batch(engine: Engine, windows: np.ndarray) -> str:
    engine.predict(windows)
    with engine.lane(), torch.inference_mode():

        def waited(part):
            def whole():
                part()
                torch.cuda.synchronize(engine.device)

            whole()
            return f"{1000 * min(timed(whole) for _ in range(5)):.1f} ms"

        pixels = upload(windows, engine.device).permute(0, 3, 1, 2)
        answer = engine.forward(pixels)
        _, labels = find_cells(answer.maps, engine.config.um_per_px)
        began = time.perf_counter()
        engine.forward(pixels)
        launched = f"{1000 * (time.perf_counter() - began):.1f} ms"
        parts = {
            "upload": waited(lambda: upload(windows, engine.device)),
            "launching the network": launched,
            "network": waited(lambda: engine.forward(pixels)),
            "separating cells": waited(lambda: find_cells(answer.maps, engine.config.um_per_px)),
            "types and explanations": waited(lambda: engine._cells(pixels, answer, labels)),
        }
    return ", ".join(f"{name} {took}" for name, took in parts.items()) + f"; {sum(int(w.max()) for w in labels)} cells"


def timed(action) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else FIELDS)
