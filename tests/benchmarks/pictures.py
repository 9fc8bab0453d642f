"""What pictures, masks and the report cost: python tests/benchmarks/pictures.py [FIELDS].

Analyses the demo slides, and a folder of camera fields (60), in turns with all products and with none but the tables,
and prints how much longer the former takes. Starting the program is left out of both.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from endurance import PROGRAM, analyze, run
from fields import make_fields

from wbc_cli.products.names import USUAL_PRODUCTS

ROUNDS = 3


def main(count: int) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        subprocess.run([*PROGRAM, "demo", str(folder / "demo")], check=True, stdout=subprocess.DEVNULL)
        inputs = {"demo": folder / "demo", f"{count} fields": make_fields(folder / "fields", count)}
        empty = make_fields(folder / "empty", 1)
        for name, images in inputs.items():
            shares = []
            for number in range(ROUNDS):
                start, bare, whole = (
                    run(analyze(which, folder / f"{name}-{number}-{what}", "--write", products))
                    for what, which, products in (
                        ("start", empty, "none"),
                        ("bare", images, "none"),
                        ("whole", images, ",".join(USUAL_PRODUCTS)),
                    )
                )
                shares.append((whole - bare) / (bare - start))
            print(f"{name}: all products cost {statistics.median(shares):.0%} of the analysis ({sorted(shares)})")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 60)
