"""`wbc-cli bench`: how fast this machine reads, points, looks, and analyses from end to end.

Shared machines are noisy, so what matters are the ratios: every part is measured in turns with the others in one run,
against the fastest that could be had, a pure decode and the bare network on as many windows.
"""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from openslide import OpenSlide
from rich.table import Table
from tifffile import TiffFile

from wbc_cli.inference.coarse import slide_colours
from wbc_cli.inference.coarse_strips import BLOCK_PX
from wbc_cli.inference.device import upload
from wbc_cli.inference.engine import Engine
from wbc_cli.inference.pipeline import Analyser
from wbc_cli.inference.scale_estimation import slide_scale
from wbc_cli.inference.search import Search
from wbc_cli.inference.windows import read_window
from wbc_cli.model.saliency import COARSE_UM_PER_PX
from wbc_cli.resources.parallel import Tasks
from wbc_cli.slides import open_slide
from wbc_cli.slides.reader import SlideReader
from wbc_cli.slides.slide import OpenSlideReader
from wbc_cli.slides.tile_layout import read_layout
from wbc_cli.synthetic.slide import write_slide

ROUNDS = 3
SLIDE_UM_PER_PX = 0.25
WHITE_CELLS_A_MM2 = 12.0
"""The white cells of the synthetic slide lie as thick as in a smear of blood with 6,000 white cells a microlitre."""


@dataclass
class Bench:
    """The seconds that each part took, one value a round.

    Attributes:
        slide: what was measured.
        megapixels: of its level 0.
        windows, cells: what the analysis looked at and found.
        exhaustive_cells: what the exhaustive search found, where there was one.
        pointed: windows that the prior pointed at, without those around cells that a border cut.
        peak_memory_mb: the most that the process had held when the first analysis was over.
        seconds: by part.
        settings: device, precision, batch size, lanes and reading threads.
    """

    slide: str
    megapixels: float
    settings: dict[str, Any]
    windows: int = 0
    pointed: int = 0
    cells: int = 0
    exhaustive_cells: int | None = None
    peak_memory_mb: float = 0.0
    seconds: dict[str, list[float]] = field(default_factory=dict)

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Add what passes to a part's rounds."""
        began = time.perf_counter()
        yield
        self.seconds.setdefault(part, []).append(time.perf_counter() - began)

    def median(self, part: str) -> float:
        """Return the seconds of a part in the middle one of its rounds."""
        return statistics.median(self.seconds[part])

    def ratio(self, over: Sequence[str], under: Sequence[str]) -> float:
        """Return the median over the rounds of the ratio of one sum of parts to another, each from the same round."""
        rounds = range(len(self.seconds[over[0]]))
        return statistics.median(
            sum(self.seconds[part][i] for part in over) / sum(self.seconds[part][i] for part in under) for i in rounds
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the figures for --json."""
        return {
            "slide": self.slide,
            "megapixels": self.megapixels,
            **self.settings,
            "windows": self.windows,
            "cells": self.cells,
            "exhaustive_cells": self.exhaustive_cells,
            "seconds": self.seconds,
            "peak_memory_mb": self.peak_memory_mb,
            "ratios": {name: round(value, 3) for name, value in self.ratios().items()},
        }

    def ratios(self) -> dict[str, float]:
        """Return the ratios of the parts to each other."""
        found = {
            "end to end to its bare parts": self.ratio(["end to end"], ["coarse decode", "window decode", "network"]),
            "end to end to a decode of level 0": self.ratio(["end to end"], ["decode"]),
        }
        if "library decode" in self.seconds:
            found["end to end to tifffile's decode of level 0"] = self.ratio(["end to end"], ["library decode"])
        if "OpenSlide decode" in self.seconds:
            found["OpenSlide's decode of level 0 to ours"] = self.ratio(["OpenSlide decode"], ["decode"])
        if "exhaustive" in self.seconds:
            found["exhaustive search to end to end"] = self.ratio(["exhaustive"], ["end to end"])
        return found

    def table(self) -> Table:
        """Tabulate the parts, each with its rate, and the ratios."""
        made = f"{self.settings['device']}, {self.settings['precision']}"
        table = Table(title=f"{self.slide}, {self.megapixels:.0f} megapixels, {made}", title_justify="left")
        for column in ("part", "seconds", "rate"):
            table.add_column(column, justify="left" if column == "part" else "right")
        for part in self.seconds:
            seconds = self.median(part)
            windows = {"window decode": self.pointed, "network": self.windows}.get(part)
            rate = (
                f"{self.megapixels / seconds:.0f} MPix/s" if windows is None else f"{windows / seconds:.0f} windows/s"
            )
            table.add_row(part, f"{seconds:.3f}", rate)
        for name, value in self.ratios().items():
            table.add_row(name, "", f"{value:.2f}")
        table.add_row("windows, cells", "", f"{self.windows}, {self.cells}")
        if self.exhaustive_cells is not None:
            table.add_row("cells of the exhaustive search", "", f"{self.exhaustive_cells}")
        table.add_row("peak memory", "", f"{self.peak_memory_mb:.0f} MB")
        return table


def make_slide(folder: Path, size: int) -> Path:
    """Write the slide that is measured, or take the one that is there from an earlier call.

    Raises:
        UsageError: the size is no multiple of the tiles'.
    """
    path = folder / f"bench-{size}.svs"
    if not path.exists():
        cells = round(WHITE_CELLS_A_MM2 * (size * SLIDE_UM_PER_PX / 1000) ** 2)
        folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        write_slide(partial, size, SLIDE_UM_PER_PX, cells, seed=1)
        partial.rename(path)
    return path


def measure(path: Path, analyser: Analyser, exhaustive: bool, rounds: int = ROUNDS) -> Bench:
    """Measure a slide.

    Args:
        path: the slide.
        analyser: as `analyze` uses it.
        exhaustive: measure an exhaustive search as well, once.
        rounds: how often everything is done, in turns.

    Raises:
        SlideError: it cannot be read.
    """
    engine, workers = analyser.stream.engine, analyser.stream.workers
    with closing(open_slide(path)) as reader:
        megapixels = reader.width * reader.height / 1e6
    settings = {
        "device": _named(engine.device),
        "precision": str(engine.dtype).removeprefix("torch."),
        "batch_size": engine.batch_size,
        "lanes": engine.lanes,
        "workers": workers,
    }
    bench = Bench(path.name, megapixels, settings)
    is_tiled = read_layout(path) is not None
    known_to_openslide = OpenSlide.detect_format(path) is not None
    bare_network(engine, engine.batch_size * engine.lanes)  # the first pass sets up kernels
    for number in range(rounds):
        with bench.timed("end to end"), closing(open_slide(path)) as reader:
            result = analyser.analyse(reader, path.name)
        bench.windows, bench.cells = result.windows, len(result.cells)
        bench.peak_memory_mb = bench.peak_memory_mb or peak_memory_mb()
        with ThreadPoolExecutor(workers) as pool:
            _measure_parts(bench, path, analyser, pool)
            if is_tiled:
                with bench.timed("library decode"):
                    _decode_by_library(path, workers)
            if known_to_openslide:
                with closing(OpenSlideReader(path)) as reader, Tasks(pool) as tasks, bench.timed("OpenSlide decode"):
                    _decode(reader, 1.0, tasks)
        if exhaustive and number == 0:  # takes minutes, and one time is enough to tell
            with closing(open_slide(path)) as reader, bench.timed("exhaustive"):
                everywhere = replace(analyser, exhaustive=True).analyse(reader, path.name)
            bench.exhaustive_cells = len(everywhere.cells)
    return bench


def _named(device: torch.device) -> str:
    """Name a device, a GPU with the name of the card."""
    return str(device) if device.type == "cpu" else f"{device} ({torch.cuda.get_device_name(device)})"


def _measure_parts(bench: Bench, path: Path, analyser: Analyser, pool: ThreadPoolExecutor) -> None:
    engine = analyser.stream.engine
    with closing(open_slide(path)) as reader, Tasks(pool) as tasks:
        with bench.timed("decode"):
            _decode(reader, 1.0, tasks)
        scale = slide_scale(engine.network.scale, reader, None).um_per_px
        with bench.timed("coarse decode"):
            _decode(reader, max(1.0, COARSE_UM_PER_PX / scale), tasks)
        colours = slide_colours(reader, scale)
        search = Search(analyser.stream, tasks, reader, scale, colours, lambda done, planned, cells: None)
        with bench.timed("coarse pass"):
            windows = search.salient()
        bench.pointed = len(windows)
    with closing(open_slide(path)) as reader, Tasks(pool) as tasks, bench.timed("window decode"):
        size, background = engine.config.window_px, colours.background
        for task in [tasks.submit(read_window, reader, window, size, background) for window in windows]:
            task.result()
    with bench.timed("network"):
        bare_network(engine, bench.windows)


def _decode(reader: SlideReader, downsample: float, tasks: Tasks) -> None:
    """Decode a whole slide at one scale, and drop it."""

    def read(corner: tuple[int, int]) -> None:
        x, y = corner
        reader.read(x, y, min(BLOCK_PX, reader.width - x), min(BLOCK_PX, reader.height - y), downsample)

    corners = [(x, y) for y in range(0, reader.height, BLOCK_PX) for x in range(0, reader.width, BLOCK_PX)]
    for task in [tasks.submit(read, corner) for corner in corners]:
        task.result()


def _decode_by_library(path: Path, workers: int) -> None:
    """Decode every tile of level 0 of a TIFF by tifffile and imagecodecs, the quickest there are, and drop it."""
    with TiffFile(path) as tiff:
        for _ in tiff.pages.first.segments(maxworkers=workers):
            pass


def bare_network(engine: Engine, windows: int) -> None:
    """Run the bare network on as many windows, in the engine's batches and lanes."""
    size = engine.config.window_px
    pixels = np.random.default_rng(0).integers(0, 256, (engine.batch_size, 3, size, size), np.uint8)
    batches = max(-(-windows // engine.batch_size), min(windows, engine.lanes))
    counts = [len(part) for part in np.array_split(np.arange(windows), batches)] if windows else []

    def forward(count: int) -> None:
        with engine.lane(), torch.inference_mode():
            engine.forward(upload(pixels[:count], engine.device))

    with ThreadPoolExecutor(engine.lanes) as lanes:
        list(lanes.map(forward, counts))
    if engine.device.type == "cuda":
        torch.cuda.synchronize(engine.device)


def peak_memory_mb() -> float:
    """Return the most memory that this process has held so far, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
