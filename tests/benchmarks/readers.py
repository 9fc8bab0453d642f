"""How fast slides of different scanners are read, to OpenSlide: python tests/benchmarks/readers.py FOLDER [FILE ...].

Makes a synthetic smear in each format in FOLDER, and takes the files named besides. Times are of the processor, on one
core, so that other work on the machine hardly shows.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from statistics import median

import cv2
import tifffile

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scanners import pyramid, write_dicom, write_ndpi, write_scn

from wbc_cli.slides import open_slide
from wbc_cli.slides.reader import SlideReader
from wbc_cli.slides.slide import OpenSlideReader
from wbc_cli.synthetic.slide import write_slide

SIDE, WINDOW, ROUNDS = 4096, 512, 7
COARSE = 8


def make(folder: Path) -> list[Path]:
    """The same smear in each format, with tiles of 256 or stretches of 2048 pixels."""
    svs = folder / "aperio.svs"
    write_slide(svs, SIDE, 0.25, 60, seed=1)
    levels = pyramid(tifffile.imread(svs, key=0), 4, 16)
    return [
        svs,
        write_ndpi(folder / "hamamatsu.ndpi", pyramid(levels[0], 2), blocks=256, quality=80),
        write_scn(folder / "leica.scn", levels, (1000, 600), size=(6000, 5600), tile=256),
        write_dicom(folder / "dicom", levels, tile=256),
    ]


def windows(reader: SlideReader) -> float:
    """Megapixels a second of windows off the grid, at full resolution."""
    left, top = reader.bounds
    places = [(x, y) for y in range(11, SIDE - WINDOW, WINDOW) for x in range(37, SIDE - WINDOW, WINDOW)]
    start = time.process_time()
    for x, y in places:
        reader.read(left + x, top + y, WINDOW, WINDOW)
    return len(places) * WINDOW**2 / 1e6 / (time.process_time() - start)


def coarse(reader: SlideReader) -> float:
    """Level-0 megapixels a second of a coarse picture."""
    side = min(SIDE, reader.width, reader.height)
    start = time.process_time()
    reader.read(*reader.bounds, side, side, COARSE)
    return side**2 / 1e6 / (time.process_time() - start)


def main(folder: Path, files: list[Path]) -> None:
    cv2.setNumThreads(1)
    folder.mkdir(parents=True, exist_ok=True)
    for path in (*make(folder), *files):
        for measure in (windows, coarse):
            rates: dict[str, list[float]] = {"ours": [], "OpenSlide": []}
            for _ in range(ROUNDS):
                for name, reader in (("ours", open_slide(path)), ("OpenSlide", OpenSlideReader(path))):
                    rates[name].append(measure(reader))
                    reader.close()
            ours, theirs = (median(rates[name]) for name in ("ours", "OpenSlide"))
            print(
                f"{path.name}: {measure.__name__}: {ours:.0f} Mpx/s, {ours / theirs:.1f} times OpenSlide's {theirs:.0f}"
            )


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
