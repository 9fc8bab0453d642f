"""Mutated files of every format through the whole program: python tests/fuzz.py [COUNT] [SEED].

Writes COUNT (1000) files, each a picture or slide of a known smear with some of its bytes changed, lost, doubled or
overwritten with zeros, and analyses them in one run with the whole ones. Each has to fail with its name, to get a flag
that the whole one has not, or to have its count: another count without a word is silent damage.
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
from PIL import Image
from scanners import write_ndpi, write_scn
from tiles import FILES

from wbc_cli.synthetic.smear import Smear
from wbc_cli.synthetic.stains import CREAM

WIDTH, HEIGHT, UM_PER_PX, CELLS = 320, 240, 0.2, 5
Row = dict[str, str]


def seeds(folder: Path) -> list[Path]:
    """A sound file of every format that can be written here, tiled slides of every compression among them."""
    folder.mkdir()
    rgb = Smear(WIDTH, HEIGHT, UM_PER_PX, CELLS, 3, CREAM, 0.05).render(0, 0, WIDTH, HEIGHT)
    picture = Image.fromarray(rgb)
    writers: dict[str, Callable[[Path], object]] = {
        "rgb.png": picture.save,
        "palette.png": picture.convert("P").save,
        "rgb.jpg": lambda path: picture.save(path, quality=95),
        "optimised.jpg": lambda path: picture.save(path, quality=90, optimize=True),
        "restarts.jpg": lambda path: picture.save(path, quality=90, restart_marker_rows=1),
        "progressive.jpg": lambda path: picture.save(path, progressive=True, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0"),
        "cmyk.jpg": picture.convert("CMYK").save,
        "24.bmp": picture.save,
        "alpha.png": picture.convert("RGBA").save,
        "16.png": lambda path: cv2.imwrite(str(path), rgb[..., ::-1].astype("uint16") * 257),
        "strips.tif": lambda path: tifffile.imwrite(path, rgb, photometric="rgb", rowsperstrip=16),
        "lzw.tif": lambda path: tifffile.imwrite(path, rgb, photometric="rgb", compression="lzw", predictor=True),
        "jpeg.tif": lambda path: tifffile.imwrite(path, rgb, photometric="rgb", compression="jpeg", rowsperstrip=16),
        "16.ome.tif": lambda path: tifffile.imwrite(path, rgb.astype("uint16") * 257, photometric="rgb"),
        "hamamatsu.ndpi": lambda path: write_ndpi(path, [rgb], blocks=20),
        "leica.scn": lambda path: write_scn(path, [rgb], (0, 0), size=(WIDTH, HEIGHT + 16)),
        **{f"{name}.svs": lambda path, write=write: write(path, rgb) for name, write in FILES.items()},
    }
    for name, write in writers.items():
        write(folder / name)
    return [folder / name for name in writers]


def mutate(content: bytes, chance: random.Random) -> bytes:
    """Lose a stretch of the pixels, or change a few things, near the beginning more often, where headers are."""
    return _lose(content, chance) if chance.random() < 0.5 else _change(content, chance)


def _lose(content: bytes, chance: random.Random) -> bytes:
    """What copies and bad sectors do: the ends are as they were."""
    size = len(content)
    start = int(size * chance.uniform(0.1, 0.8))
    end = min(size - 2, start + max(512, int(size * chance.uniform(0.02, 0.5))))
    match chance.randrange(5):
        case 0:
            return content[:start] + bytes(end - start) + content[end:]
        case 1:
            return content[:start] + content[end:]
        case 2:
            return content[:start] + bytes(size - start)
        case 3:
            return content[:start] + chance.randbytes(end - start) + content[end:]
    return content[:start] + content[-2:]


def _change(content: bytes, chance: random.Random) -> bytes:
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


def judge(row: Row, whole: Row) -> str:
    """What became of a mutated file: crashed, bug, failed, flagged, intact, or silent."""
    if row["status"] == "failed":
        reason = row["reason"]
        return "crashed" if "crashed" in reason else "bug" if "internal error" in reason else "failed"
    if row["status"] != whole["status"] or set(row["flags"].split(";")) - set(whole["flags"].split(";")):
        return "flagged"
    return "intact" if row["cells"] == whole["cells"] else "silent"


def fuzz(count: int, seed: int, scratch: Path) -> tuple[int, Counter[str]]:
    """Analyse mutated files with the shipped weights.

    Returns:
        The exit code, and how many files there are of each of the answers of `judge`.
    """
    chance = random.Random(seed)
    files = scratch / "files"
    sound = seeds(files)
    for number in range(count):
        origin = chance.choice(sound)
        (files / f"{number:05}-{origin.name}").write_bytes(mutate(origin.read_bytes(), chance))
    command = [sys.executable, "-m", "wbc_cli.cli", "analyze", files, "-o", scratch / "out", "--mpp", UM_PER_PX, "-q"]
    command += ["--write", "none", "--time-limit", "120"]
    done = subprocess.run([*map(str, command)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
    with (scratch / "out" / "differential.csv").open(encoding="utf-8", newline="") as table:
        rows = {row["slide"]: row for row in csv.DictReader(table)}
    assert {name.split("+")[0] for name in rows} == {path.name for path in files.iterdir()}
    assert all(rows[path.name]["status"] == "done" for path in sound)
    answers = Counter[str]()
    for name, row in rows.items():
        if name in {path.name for path in sound}:
            continue
        whole = rows[name.partition("-")[2].split("+")[0]]
        answer = judge(row, whole)
        answers[answer] += 1
        if answer in {"bug", "crashed", "silent"}:
            print(answer, name, f"{row['cells']} of {whole['cells']} cells", row["reason"], file=sys.stderr)
    for line in done.stderr.decode(errors="replace").splitlines():
        assert any(path.name in line for path in files.iterdir()), f"no file is named: {line}"
    return done.returncode, answers


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        arguments = [int(word) for word in sys.argv[1:]]
        print(*fuzz(*(arguments + [1000, 0][len(arguments) :]), Path(folder)))
