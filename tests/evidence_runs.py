"""Runs and readers made up for the tests of comparison and monitoring: a run's tables, without pictures."""

from __future__ import annotations

import csv
import json
import os
from collections import Counter
from dataclasses import asdict

import numpy as np

from wbc_cli.cells import Quality
from wbc_cli.classes import BY_NAME, DIFFERENTIAL_NAMES
from wbc_cli.differential import of_counts
from wbc_cli.products.tables import CELL_COLUMNS, DONE, write_differential

USUAL = (0.58, 0.03, 0.01, 0.30, 0.08)
"""Shares of the five classes of the differential in a healthy adult."""


def record(name, counts, *, status=DONE, reason="", um_per_px=0.1, **quality):
    """What slide.json says of a slide with so many cells of each class."""
    return {
        "schema_version": 1,
        "name": name,
        "path": f"in/{name}",
        "status": status,
        "reason": reason,
        "scale": {"um_per_px": um_per_px, "source": "file", "relative_error": 0.0, "contradicted_by": None},
        "quality": asdict(Quality(**quality)),
        "flags": [],
        "differential": asdict(of_counts(counts)),
    }


def write_run(folder, records, cells=()):
    """A folder with differential.csv, and cells.csv from rows (slide, cell, class)."""
    folder.mkdir(parents=True, exist_ok=True)
    write_differential(records, folder / "differential.csv")
    write_cells(folder / "cells.csv", cells)
    return folder


def write_cells(path, cells, confidence=0.9):
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.DictWriter(file, CELL_COLUMNS, restval="", lineterminator="\n")
        rows.writeheader()
        for slide, cell, kind in cells:
            rows.writerow({"slide": slide, "cell": cell, "class": kind, "confidence": confidence})


def write_reference(path, lines, header="sample,reader,class,count", encoding="utf-8"):
    path.write_bytes("\n".join([header, *(",".join(map(str, line)) for line in lines), ""]).encode(encoding))
    return path


def patients(random, number):
    """Shares of the five classes in so many samples, from neutropenia to eosinophilia: [number, 5]."""
    return random.dirichlet(np.array(USUAL) * 12 + 0.3, number)


def counted(random, shares, cells=200):
    """Cells of each class of the differential that one sees who counts so many."""
    return dict(zip(DIFFERENTIAL_NAMES, map(int, random.multinomial(cells, shares)), strict=True))


def write_comparison(folder, samples=60, readers=("ann", "bob"), seed=0):
    """A run, and a reference by readers who count the same samples: the tool and they differ by chance alone."""
    random = np.random.default_rng(seed)
    shares = patients(random, samples)
    names = [f"s{i:03d}.png" for i in range(samples)]
    tool = [record(name, counted(random, share)) for name, share in zip(names, shares, strict=True)]
    lines = [
        (name.removesuffix(".png"), reader, kind, count)
        for name, share in zip(names, shares, strict=True)
        for reader in readers
        for kind, count in counted(random, share).items()
    ]
    return write_run(folder / "run", tool), write_reference(folder / "reference.csv", lines)


def confused(random, number, kappa_like=0.8):
    """Pairs of classes: a reader's, and a second one's who agrees in so many cells and guesses in the others."""
    truth = random.choice(DIFFERENTIAL_NAMES, number, p=USUAL)
    guess = random.choice(DIFFERENTIAL_NAMES, number, p=USUAL)
    return list(zip(truth, np.where(random.random(number) < kappa_like, truth, guess), strict=True))


def write_day(folder, slides, seconds, confidence=0.9):
    """The committed slides of a run, written at a time (seconds since 1970): what monitoring reads."""
    for one, counts in slides:
        place = folder / "slides" / one["name"]
        place.mkdir(parents=True)
        (place / "slide.json").write_text(json.dumps(one))
        kinds = [kind for kind in BY_NAME for _ in range(Counter(counts)[kind])]
        write_cells(place / "cells.csv", [(one["name"], i + 1, kind) for i, kind in enumerate(kinds)], confidence)
        os.utime(place / "cells.csv", (seconds, seconds))
    return folder
