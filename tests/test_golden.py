"""The shipped weights on two dozen real pictures: the same cells as when the golden table was made.

`golden.csv` has a row a cell. It was made by this test itself, in single precision on a processor, which
`WBC_WRITE_GOLDEN=1 pytest -n 0 tests/test_golden.py` does again after a change that is meant to change results.
"""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import pytest

from wbc_cli.manifest import read_manifest
from wbc_cli.model.files import checksum, default_folder

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
GOLDEN = Path(__file__).parent / "golden.csv"
SETS = ("bccd", "krd", "rvpbs", "raabin", "jtsc", "cellavision", "eyepiece", "negatives")
PICTURES_PER_SET = 3
COLUMNS = ("picture", "x", "y", "class", "confidence", "area_um2", "nucleus_area_um2")
CLEAR = 0.7  # probability from which on another machine's rounding does not change a type


def pictures():
    """Three test pictures of each set, spread over it by name, with their scales."""
    chosen = []
    for name in SETS:
        test = sorted(
            (s for s in read_manifest(DATA / "manifest.csv") if (s.dataset, s.split) == (name, "test")),
            key=lambda sample: str(sample.image),
        )
        chosen += [test[i * len(test) // PICTURES_PER_SET] for i in range(PICTURES_PER_SET)]
    return chosen


def found_cells(call, folder):
    chosen = pictures()
    table = folder / "samples.csv"
    rows = [f"{s.image},{s.dataset},{s.um_per_px or 0.13}" for s in chosen]  # the negatives' scale is not known
    table.write_text("\n".join(["path,sample,mpp", *rows, ""]), encoding="utf-8")
    options = ("--samples", table, "--precision", "fp32", "--device", "cpu", "--write", "none", "-o", folder / "out")
    outcome = call("analyze", *(s.image for s in chosen), *options)
    assert outcome.code == 0, outcome.err
    slides = json.loads((folder / "out/run.json").read_text(encoding="utf-8"))["slides"]
    picture_of = {slide["name"]: Path(slide["path"]).relative_to(DATA).as_posix() for slide in slides}
    with (folder / "out/cells.csv").open(encoding="utf-8", newline="") as file:
        cells = [{**row, "picture": picture_of[row["slide"]]} for row in csv.DictReader(file)]
    cells.sort(key=lambda cell: (cell["picture"], int(cell["cell"])))
    return [{name: cell[name] for name in COLUMNS} for cell in cells]


def golden_cells():
    with GOLDEN.open(encoding="utf-8", newline="") as file:
        made_with, *lines = file
        return made_with.strip().removeprefix("# weights "), list(csv.DictReader(lines))


def write_golden(cells):
    with GOLDEN.open("w", encoding="utf-8", newline="") as file:
        file.write(f"# weights {checksum(default_folder())}\n")
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(cells)


@pytest.mark.skipif(not (DATA / "manifest.csv").exists(), reason="the shared data folder is absent")
def test_real_pictures_have_the_cells_that_they_had(call, tmp_path):
    cells = found_cells(call, tmp_path)
    if os.environ.get("WBC_WRITE_GOLDEN"):
        write_golden(cells)
    weights, golden = golden_cells()
    assert weights == checksum(default_folder()), "other weights: look at their results, then write the table anew"
    assert [cell["picture"] for cell in cells] == [cell["picture"] for cell in golden]
    for cell, known in zip(cells, golden, strict=True):
        place = known["picture"], known["x"], known["y"]
        assert float(cell["x"]) == pytest.approx(float(known["x"]), abs=2), place
        assert float(cell["y"]) == pytest.approx(float(known["y"]), abs=2), place
        assert float(cell["confidence"]) == pytest.approx(float(known["confidence"]), abs=0.1), place
        assert float(cell["area_um2"]) == pytest.approx(float(known["area_um2"]), rel=0.03), place
        assert float(cell["nucleus_area_um2"]) == pytest.approx(float(known["nucleus_area_um2"]), rel=0.05, abs=1), (
            place
        )
        if float(known["confidence"]) >= CLEAR:
            assert cell["class"] == known["class"], place
