"""Fields add up to samples: one differential a sample, however the run was cut up, and no cell twice unsaid."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import TOY_UM_PER_PX, spots, write_picture
from fakes import ArrayReader, blank, committed, disc, make_cell, make_result, rows

from wbc_cli.differential import count_classes, more_cells
from wbc_cli.errors import UsageError
from wbc_cli.intervals import clopper_pearson
from wbc_cli.products import overlap
from wbc_cli.products.folder import RunFolder
from wbc_cli.products.overlap import OVERLAP, OVERLAP_UNCHECKED, TWICE
from wbc_cli.products.tables import COUNT_COLUMNS
from wbc_cli.run.samples import find_samples
from wbc_cli.slides.discover import discover

KINDS = ("neutrophil", "neutrophil", "lymphocyte", "eosinophil", "blast", "unidentified", "platelet", "neutrophil")
KEPT = frozenset({"report", "features"})


def some_cells(number, first=0):
    return [make_cell(i + 1, disc(20), 5 + 9 * i % 270, 5, KINDS[(i + first) % len(KINDS)]) for i in range(number)]


def sample(name, folder="/data"):
    return {"sample": {"name": name, "folder": f"{folder}/{name}"}, "source": f"{folder}/{name}/x.png"}


@pytest.fixture
def pictures(tmp_path):
    """Two patients' folders in one, and a whole slide beside them."""
    for place in ("ward/p1/a.png", "ward/p1/b.png", "ward/p2/a.png", "ward/p2/scan.svs", "ward/c.png"):
        path = tmp_path / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "ward"


def names(samples):
    return {slide: key["name"] for slide, key in samples.keys.items()}


def test_the_pictures_of_a_folder_are_a_sample_and_a_whole_slide_is_one(pictures):
    assert names(find_samples(discover([pictures]).slides, "folder")) == {
        **{"p1__a.png": "p1", "p1__b.png": "p1", "p2__a.png": "p2"},
        **{"p2__scan.svs": "p2__scan.svs", "c.png": "ward"},
    }
    assert names(find_samples(discover([pictures]).slides, "none")) == {}


def test_a_table_says_which_pictures_are_one_sample_and_at_which_scale(pictures, tmp_path):
    table = tmp_path / "samples.csv"
    table.write_text("path;sample;mpp\nward/p1/a.png;Müller;0,1\nward/p2;Meier;\nward/gone.png;Meier;\n", "utf-8")
    found = find_samples(discover([pictures]).slides, str(table))
    assert names(found) == {"p1__a.png": "Müller", "p2__a.png": "Meier", "p2__scan.svs": "Meier"}
    assert found.um_per_px == {"p1__a.png": 0.1}
    assert "2 of 5 pictures are not in it" in found.notes[0]
    assert "line 4" in found.notes[1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("path,name\nward/c.png,x\n", "no column sample"),
        ("path,sample\nward/c.png,\n", "line 2: no path or no sample"),
        ("path,sample\nward/c.png,x\nward/../ward/c.png,y\n", "line 3: says something else"),
        ("path,sample,mpp\nward/c.png,x,fine\n", "line 2: mpp fine"),
        ("path,sample\nelsewhere.png,x\n", "names none of the 5 pictures"),
    ],
)
def test_a_table_that_is_wrong_is_refused_with_its_line(pictures, tmp_path, text, said):
    table = tmp_path / "samples.csv"
    table.write_text(text)
    with pytest.raises(UsageError, match=said):
        find_samples(discover([pictures]).slides, str(table))


def test_a_sample_has_the_differential_of_all_its_cells_to_the_last_digit(tmp_path):
    run = RunFolder(tmp_path / "fields")
    together = {"p1": some_cells(23) + some_cells(14, 3), "p2": some_cells(140, 1)}
    run.commit(make_result(some_cells(23), 300, 200, "p1__a"), blank(), KEPT, sample("p1"))
    run.commit(make_result(some_cells(14, 3), 300, 200, "p1__b", flags=("blurred",)), blank(), KEPT, sample("p1"))
    refused = replace(make_result(some_cells(9), 300, 200, "p1__c"), refusal="out of focus")
    run.commit(refused, blank(), KEPT, sample("p1"))
    run.record_failure("p1__d", Path("d.png"), "cut off", sample("p1"))
    run.commit(make_result(some_cells(140, 1), 300, 200, "p2__a"), blank(), KEPT, sample("p2"))
    run.write_tables(run.with_overlaps(committed(run)))
    whole = RunFolder(tmp_path / "whole")
    for name, cells in together.items():
        cells = [replace(cell, id=number) for number, cell in enumerate(cells, start=1)]  # noqa: PLW2901
        whole.commit(make_result(cells, 300, 200, name), blank(), frozenset())
    whole.write_tables(committed(whole))
    first, second = rows(run.out / "samples.csv")
    for row, expected in zip((first, second), rows(whole.out / "differential.csv"), strict=True):
        assert {c: row[c] for c in COUNT_COLUMNS} == {c: expected[c] for c in COUNT_COLUMNS}
    assert (first["sample"], first["fields"], first["fields_used"], first["fields_left_out"]) == ("p1", "4", "2", "2")
    assert first["left_out"] == "p1__c refused: out of focus; p1__d failed: cut off"
    assert first["field_flags"] == f"blurred:1;{OVERLAP_UNCHECKED}:2"  # their cells have no features
    assert "fewer_than_100_cells" in first["flags"]


def test_samples_of_one_name_from_two_folders_are_two(tmp_path):
    run = RunFolder(tmp_path)
    for day in ("monday", "tuesday"):
        run.commit(make_result(some_cells(8), 300, 200, day), blank(), KEPT, sample("p1", f"/{day}"))
    run.write_tables(run.with_overlaps(committed(run)))
    found = rows(tmp_path / "samples.csv")
    assert [row["fields_used"] for row in found] == ["1", "1"]
    assert len({row["sample"] for row in found}) == 2


def test_it_says_how_many_more_cells_make_the_widest_interval_narrow_enough():
    counted = count_classes(["neutrophil"] * 60 + ["lymphocyte"] * 40)
    more = more_cells(counted, 15)

    def width(total):
        low, high = clopper_pearson(0.6 * total, total)
        return 100 * (high - low)

    assert width(100 + more) <= 15 < width(100 + more - 1)
    assert more_cells(counted, 50) == 0
    assert more_cells(count_classes([]), 15) is None
    assert more_cells(counted, 0.01) is None


def test_the_samples_are_the_same_by_shards_and_after_a_change_of_mind(call, toy_weights, tmp_path):
    for place, spot in (("p1/a", 100), ("p1/b", 140), ("p2/a", 180), ("c", 220)):
        write_picture(tmp_path / f"in/{place}.png", spots((spot, 100), (spot + 160, 110)))

    def analyze(out, *more):
        common = ("--weights", toy_weights, "--mpp", TOY_UM_PER_PX, "--device", "cpu", "--write", "report,features")
        assert call("analyze", tmp_path / "in", "-o", tmp_path / out, *common, *more).code == 0

    analyze("whole")
    analyze("parts", "--shard", "0/2")
    analyze("parts", "--shard", "1/2")
    assert not (tmp_path / "parts/samples.csv").exists()
    assert call("merge", tmp_path / "parts", "-o", tmp_path / "parts").code == 0
    tables = ("samples.csv", "overlaps.csv", "differential.csv", "cells.csv")
    first = [(tmp_path / "whole" / name).read_bytes() for name in tables]
    assert [(tmp_path / "parts" / name).read_bytes() for name in tables] == first
    assert [row["sample"] for row in rows(tmp_path / "whole/samples.csv")] == ["in", "p1", "p2"]
    page = (tmp_path / "whole/report.html").read_text(encoding="utf-8")
    assert "<h2>Samples</h2>" in page

    (tmp_path / "t.csv").write_text("path,sample,mpp\nin/p1/a.png,x,\nin/c.png,x,0.25\n")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "whole/slides").glob("*/cells.csv")}
    analyze("whole", "--samples", tmp_path / "t.csv", "--stop-width", "30")
    done_again = {path.parent.name for path, when in before.items() if path.stat().st_mtime_ns != when}
    assert done_again == {"c.png"}  # whose scale is another now
    (row,) = rows(tmp_path / "whole/samples.csv")
    assert (row["sample"], row["fields_used"]) == ("x", "2")
    assert "<h2>Samples</h2>" in (tmp_path / "whole/report.html").read_text(encoding="utf-8")
    analyze("whole", "--samples", "none")
    assert not (tmp_path / "whole/samples.csv").exists()


def texture(seed, width=500, height=260):
    """Something that looks like nothing else, with the grain of a smear."""
    noise = np.random.default_rng(seed).normal(0, 1, (height, width, 3)).astype(np.float32)
    return np.clip(150 + 260 * cv2.GaussianBlur(noise, (0, 0), 2.5), 0, 255).astype(np.uint8)


def field(name, pixels, places, kinds, seed):
    """A field with a cell of given features at each place."""
    random = np.random.default_rng(seed)
    cells = [
        replace(make_cell(i + 1, disc(60), x, y), features=(kinds[i] + random.normal(0, 0.02, 16)).astype(np.float16))
        for i, (x, y) in enumerate(places)
    ]
    return make_result(cells, pixels.shape[1], pixels.shape[0], name), ArrayReader(pixels)


def test_cells_on_two_overlapping_fields_are_said_to_be_possibly_counted_twice(tmp_path):
    run, random = RunFolder(tmp_path), np.random.default_rng(5)
    ground, kinds = texture(1), random.normal(0, 1, (3, 16))
    left = field("p__left", ground[:, :360], [(60, 90), (250, 60), (240, 150)], kinds, 1)
    # 120 pixels to the right and 10 down, and darker
    moved = np.clip(ground[10:, 120:] * 0.93 + random.normal(0, 3, ground[10:, 120:].shape), 0, 255).astype(np.uint8)
    right = field("p__right", moved, [(130, 50), (120, 140)], kinds[1:], 2)
    other = field("p__other", texture(2), [(60, 90), (250, 60), (240, 150)], kinds, 3)  # alike in all but the pixels
    alone = field("q__same", ground[:, :360], [(60, 90)], kinds, 4)  # of another sample
    for (result, reader), name in ((left, "p"), (right, "p"), (other, "p"), (alone, "q")):
        run.commit(result, reader, KEPT, sample(name))
    run.write_tables(run.with_overlaps(committed(run)))
    assert [tuple(row.values()) for row in rows(tmp_path / "overlaps.csv")] == [
        ("p__right", "1", "p__left", "2"),
        ("p__right", "2", "p__left", "3"),
    ]
    flagged = {row["slide"] for row in rows(tmp_path / "differential.csv") if OVERLAP in row["flags"].split(";")}
    assert flagged == {"p__left", "p__right"}
    p, q = rows(tmp_path / "samples.csv")
    assert (p["possibly_twice"], q["possibly_twice"]) == ("2", "0")
    assert OVERLAP in p["flags"].split(";")
    assert OVERLAP not in q["flags"].split(";")


def overlapping(*names):
    """Fields of one smear, each 20 pixels to the right of the one before, with the same two cells."""
    ground, kinds = texture(1), np.random.default_rng(5).normal(0, 1, (2, 16))
    for i, name in enumerate(names):
        places = [(160 - 20 * i, 60), (240 - 20 * i, 150)]
        yield field(name, ground[:, 20 * i : 20 * i + 360], places, kinds, i)


def test_a_cell_on_four_fields_is_possibly_twice_but_once_for_each_field_after_the_first(tmp_path):
    run = RunFolder(tmp_path)
    for result, reader in overlapping("a", "b", "c", "d"):
        run.commit(result, reader, KEPT, sample("p"))
    run.write_tables(run.with_overlaps(committed(run)))
    (row,) = rows(tmp_path / "samples.csv")
    assert (row["cells"], row["possibly_twice"]) == ("8", "6")
    assert len(rows(tmp_path / "overlaps.csv")) == 2 * (1 + 2 + 3)


def test_field_flags_tell_of_how_many_pictures_differential_csv_has_each_flag(tmp_path):
    run = RunFolder(tmp_path)
    for result, reader in overlapping("a", "b"):
        run.commit(replace(result, flags=("blurred",) if result.name == "a" else ()), reader, KEPT, sample("p"))
    run.commit(make_result((), 300, 200, "c"), blank(), frozenset({"report"}), sample("p"))
    run.write_tables(run.with_overlaps(committed(run)))
    told = Counter(flag for row in rows(tmp_path / "differential.csv") for flag in row["flags"].split(";"))
    assert told.pop("fewer_than_100_cells") == 3  # which says little of a field, and of the sample stands in flags
    (row,) = rows(tmp_path / "samples.csv")
    assert row["field_flags"] == ";".join(f"{flag}:{count}" for flag, count in sorted(told.items()))
    assert told == {"blurred": 1, OVERLAP: 2, OVERLAP_UNCHECKED: 1}


@pytest.mark.parametrize(("folder", "together"), [("/data", False), ("", True)])  # a table may put them together
def test_large_scans_in_one_folder_are_samples_of_their_own_and_not_compared(tmp_path, folder, together):
    run = RunFolder(tmp_path)
    for result, reader in overlapping("a", "b"):
        key = {"sample": {"name": "p", "folder": folder}, "source": f"/data/{result.name}.tif"}
        run.commit(replace(result, width=20_000, height=6_000), reader, KEPT, key)
    run.write_tables(run.with_overlaps(committed(run)))
    assert len(rows(tmp_path / "samples.csv")) == 2 - together
    assert bool(rows(tmp_path / "overlaps.csv")) == together
    assert all((OVERLAP in row["flags"].split(";")) == together for row in rows(tmp_path / "differential.csv"))


def test_twice_the_cells_are_twice_the_work_even_where_every_match_has_a_shift_of_its_own(tmp_path):
    side = 50  # of a square that the pictures repeat, so that each cell looks like any other

    def calls(count):
        """Tell how often functions are called to compare two pictures, each with its cells in an order of its own."""
        run, random = RunFolder(tmp_path / str(count)), np.random.default_rng(count)
        wide = round(count**0.5)
        pixels = np.tile(texture(3, side, side), (wide + 6, wide + 6, 1))
        grid = [(side * (3 + i % wide), side * (3 + i // wide)) for i in range(count)]
        kinds = random.normal(0, 1, (count, 16))
        for name in ("a", "b"):
            result, reader = field(name, pixels, random.permutation(grid).tolist(), kinds, ord(name))
            run.commit(result, reader, KEPT, sample("p"))
        counted = Counter()
        sys.setprofile(lambda frame, event, _: counted.update([(frame.f_code.co_filename, event)]))
        try:
            found = run.with_overlaps(committed(run))
        finally:
            sys.setprofile(None)
        pairs = {(cell, twin) for cell, _, twin in found["b"][TWICE]}
        assert {(str(i + 1), str(i + 1)) for i in range(count)} <= pairs
        return counted[overlap.__file__, "call"]

    assert calls(80) < 3 * calls(40)  # four times, if it were that of pairs


def test_fields_that_cannot_be_compared_say_so(tmp_path):
    run = RunFolder(tmp_path)
    for name in ("a", "b"):
        run.commit(make_result(some_cells(3), 300, 200, name), blank(), frozenset({"report"}), sample("p"))
    run.write_tables(run.with_overlaps(committed(run)))
    (row,) = rows(tmp_path / "samples.csv")
    assert OVERLAP_UNCHECKED in row["flags"].split(";")
