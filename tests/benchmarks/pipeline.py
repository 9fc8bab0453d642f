"""How much of an analysis is the network: python tests/benchmarks/pipeline.py [FOLDER OF IMAGES].

Prints images a second end to end, and the ratio to the bare network on as many windows, measured in turns in one
run, since absolute times of shared machines say little. Without a folder it makes the demo's slides.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from wbc_cli.loading import ComputeOptions, load_analyser
from wbc_cli.slides.discover import discover
from wbc_cli.synthetic import write_demo

ROUNDS = 3


def main(folder: Path) -> None:
    analyser, _ = load_analyser(ComputeOptions())
    engine = analyser.engine
    slides = discover([folder]).slides
    analyser.analyse_file(slides[0].path, slides[0].name, None)  # the first pass sets up kernels
    ratios = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        windows = sum(analyser.analyse_file(slide.path, slide.name, None).windows for slide in slides)
        whole = time.perf_counter() - began
        ratios.append(bare_network(engine, windows) / whole)
        print(
            f"{len(slides) / whole:.1f} images/s, {windows / whole:.1f} windows/s, bare network {ratios[-1]:.2f} of it"
        )
    print(f"device {engine.device}, precision {engine.dtype}, batch {engine.batch_size}")
    print(f"share of the time that the bare network takes: {np.median(ratios):.2f}")


def bare_network(engine, windows):
    """Seconds for as many random windows, in the engine's batches and precision."""
    size = engine.config.window_px
    began = time.perf_counter()
    for start in range(0, windows, engine.batch_size):
        count = min(engine.batch_size, windows - start)
        pixels = torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, device=engine.device)
        autocast = torch.autocast(engine.device.type, engine.dtype, enabled=engine.dtype != torch.float32)
        with torch.inference_mode(), autocast:
            engine.network(pixels)
    if engine.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as scratch:
            write_demo(Path(scratch))
            main(Path(scratch))
