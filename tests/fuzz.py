"""Mutated files of every format through the whole program: python tests/fuzz.py [COUNT] [SEED].

Writes COUNT (1000) files, each a small image or slide with some of its bytes changed, cut, doubled or moved, analyses
them in one run, and sees that the run ends by itself with every one of them either done or reported.
"""

from __future__ import annotations

import csv
import random
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import cv2
import tifffile
from conftest import spots
from PIL import Image
from tiles import FILES

SIDE = 192


def seeds(folder: Path) -> list[Path]:
    """A sound file of every format that can be written here, tiled slides of every compression among them."""
    folder.mkdir()
    rgb = spots((60, 60), (140, 120), width=SIDE, height=SIDE)
    picture = Image.fromarray(rgb)
    writers: dict[str, Callable[[Path], object]] = {
        "rgb.png": picture.save,
        "palette.png": picture.convert("P").save,
        "grey.jpg": picture.convert("L").save,
        "progressive.jpg": lambda path: picture.save(path, progressive=True, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0"),
        "cmyk.jpg": picture.convert("CMYK").save,
        "24.bmp": picture.save,
        "alpha.png": picture.convert("RGBA").save,
        "16.png": lambda path: cv2.imwrite(str(path), rgb.astype("uint16") * 257),
        "strips.tif": lambda path: tifffile.imwrite(path, rgb, photometric="rgb", rowsperstrip=16),
        "lzw.tif": lambda path: tifffile.imwrite(path, rgb, photometric="rgb", compression="lzw", predictor=True),
        "16.ome.tif": lambda path: tifffile.imwrite(path, rgb.astype("uint16") * 257, photometric="rgb"),
        **{f"{name}.svs": write for name, write in FILES.items()},
    }
    for name, write in writers.items():
        write(folder / name)
    return [folder / name for name in writers]


def mutate(content: bytes, chance: random.Random) -> bytes:
    """Change a few things, near the beginning more often, where headers are."""
    changed = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        if not changed:
            break
        at = chance.randrange(min(len(changed), chance.choice((64, 1024, len(changed)))))
        length = chance.choice((1, 1, 2, 4, 64))
        match chance.randrange(7):
            case 0:
                changed[at] ^= 1 << chance.randrange(8)
            case 1:
                changed[at : at + length] = chance.randbytes(length)
            case 2:
                changed[at : at + length] = chance.choice((b"\0", b"\xff", b"\x7f")) * length
            case 3:
                del changed[at : at + length]
            case 4:
                changed[at:at] = changed[at : at + length]
            case 5:
                del changed[chance.randrange(len(changed)) :]
            case 6:
                other = chance.randrange(len(changed))
                changed[at : at + length] = changed[other : other + length]
    return bytes(changed)


def fuzz(count: int, seed: int, scratch: Path, weights: Path | None = None) -> tuple[int, Counter[str]]:
    """Analyse mutated files.

    Returns:
        The exit code, and how many files there are of each status in differential.csv.
    """
    chance = random.Random(seed)
    sound = seeds(scratch / "seeds")
    files = scratch / "files"
    files.mkdir()
    for number in range(count):
        origin = chance.choice(sound)
        (files / f"{number:05}-{origin.name}").write_bytes(mutate(origin.read_bytes(), chance))
    command = [sys.executable, "-m", "wbc_cli.cli", "analyze", files, "-o", scratch / "out", "--mpp", "0.2", "-q"]
    command += ["--write", "none", "--time-limit", "120", *(("--weights", weights) if weights else ())]
    done = subprocess.run([*map(str, command)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
    with (scratch / "out" / "differential.csv").open(encoding="utf-8", newline="") as table:
        rows = list(csv.DictReader(table))
    assert {row["slide"] for row in rows} == {path.name for path in files.iterdir()}
    bad = [row["reason"] for row in rows if "internal error" in row["reason"] or "crashed" in row["reason"]]
    for reason in bad:
        print(reason, file=sys.stderr)
    assert b"Traceback" not in done.stderr or bad, done.stderr.decode(errors="replace")
    return done.returncode, Counter(
        "crashed" if "crashed" in row["reason"] else "bug" if "internal error" in row["reason"] else row["status"]
        for row in rows
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        arguments = [int(word) for word in sys.argv[1:]]
        print(*fuzz(*(arguments + [1000, 0][len(arguments) :]), Path(folder)))
