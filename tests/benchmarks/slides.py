"""Whole slides against the bars of speed, memory and counting: python tests/benchmarks/slides.py FOLDER [SIZE ...].

Makes synthetic smears of these sizes (default 16384 and 65536 px, a GB of disk and some minutes) and an empty one in
FOLDER, or takes those that are there. The exhaustive search of the smallest takes five minutes. Each is measured in
a process of its own, so that the peak memory is its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from wbc_cli.diagnostics.bench import SLIDE_UM_PER_PX, make_slide
from wbc_cli.synthetic.slide import write_slide

CODE = "from wbc_cli.cli import main; main()"


def main(folder: Path, sizes: list[int]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for size in sizes:
        options = ["--exhaustive"] if size == min(sizes) else ["--rounds", "1"]
        found[size] = measured(make_slide(folder, size), *options)
    empty = folder / f"empty-{min(sizes)}.svs"
    if not empty.exists():
        write_slide(empty, min(sizes), SLIDE_UM_PER_PX, 0, seed=2)
    without = measured(empty)
    least, most = found[min(sizes)], found[max(sizes)]
    print(f"exhaustive to end to end: {least['ratios']['exhaustive search to end to end']:.1f} (bar 10)")
    print(f"cells of the exhaustive search: {least['exhaustive_cells']}, of the other: {least['cells']} (bar 1 %)")
    for size, bench in found.items():
        bare = bench["ratios"]["end to end to its bare parts"]
        print(f"{size}: end to end to its bare parts {bare:.2f} (bar 1.3)")
        print(
            f"{size}: {bench['cells']} cells, {bench['windows']} windows, {bench['peak_memory_mb']:.0f} MB (bar 2048)"
        )
    print(f"larger to smaller: time {seconds(most) / seconds(least):.1f} (bar 17.5 for 16 times the area), ", end="")
    print(f"memory {most['peak_memory_mb'] / least['peak_memory_mb']:.2f} (bar 1.15)")
    fastest = 1 / without["ratios"]["end to end to tifffile's decode of level 0"]
    openslide = sorted(without["seconds"]["OpenSlide decode"])[1] / seconds(without)
    print(
        f"without white cells: {fastest:.2f} times a pure decode (bar 1.5), {openslide:.1f} times OpenSlide's (bar 8)"
    )
    print(f"without white cells: {without['cells']} cells in {without['windows']} windows")


def seconds(bench: dict) -> float:
    return sorted(bench["seconds"]["end to end"])[len(bench["seconds"]["end to end"]) // 2]


def measured(slide: Path, *options: str) -> dict:
    command = [sys.executable, "-c", CODE, "bench", str(slide), "--json", *options]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]), [int(size) for size in sys.argv[2:]] or [16384, 65536])
