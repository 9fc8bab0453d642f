"""What pictures, masks and the report cost: python tests/benchmarks/pictures.py [SLIDE ...].

Analyses the demo slides, a folder of camera fields, and slides such as those that slides.py leaves, in turns with all
products and with none but the tables, and prints how much more processor time the former takes, which is steadier than
what a clock on the wall says. Starting the program is left out of both.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from endurance import PROGRAM, analyze
from fields import make_fields

from wbc_cli.products.registry import USUAL_PRODUCTS

ROUNDS = 3
FIELDS = 60


def main(slides: list[Path]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        subprocess.run([*PROGRAM, "demo", str(folder / "demo")], check=True, stdout=subprocess.DEVNULL)
        inputs = {"demo": folder / "demo", f"{FIELDS} fields": make_fields(folder / "fields", FIELDS)}
        inputs |= {slide.name: slide for slide in slides}
        empty = make_fields(folder / "empty", 1)
        for name, images in inputs.items():
            shares = []
            for number in range(ROUNDS):
                start, bare, whole = (
                    processor_seconds(analyze(which, folder / f"{name}-{number}-{what}", "--write", products))
                    for what, which, products in (
                        ("start", empty, "none"),
                        ("bare", images, "none"),
                        ("whole", images, ",".join(USUAL_PRODUCTS)),
                    )
                )
                shares.append((whole - bare) / (bare - start))
            print(f"{name}: all products cost {statistics.median(shares):.0%} of the analysis ({sorted(shares)})")


def processor_seconds(command: list[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]])
