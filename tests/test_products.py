from __future__ import annotations

import errno
import json
import tracemalloc
import xml.etree.ElementTree as ET
from pathlib import Path

import cv2
import numpy as np
import pytest
from fakes import (
    NO_PRODUCTS,
    blank,
    committed,
    disc,
    make_cell,
    make_result,
    painted,
    read_png,
    rows,
    small_result,
)
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tifffile import TiffFile, imread

from wbc_cli.classes import BY_NAME, CLASS_NAMES, UNIDENTIFIED
from wbc_cli.errors import SetupError, SlideError
from wbc_cli.products.folder import RunFolder
from wbc_cli.products.masks import write_class_mask, write_mask, write_png_mask
from wbc_cli.products.records import Records
from wbc_cli.products.registry import PRODUCT_NAMES
from wbc_cli.products.tables import CELL_COLUMNS, DIFFERENTIAL_COLUMNS

# --- mask.ome.tif


@st.composite
def crowded_slides(draw):
    width, height = draw(st.integers(1, 4200)), draw(st.integers(1, 2300))
    cells = []
    for number in range(1, draw(st.integers(0, 12)) + 1):
        side = draw(st.integers(1, min(width, height, 90)))
        x, y = draw(st.integers(0, width - side)), draw(st.integers(0, height - side))
        cells.append(make_cell(number, disc(side), x, y))
    return make_result(cells, width, height, um_per_px=draw(st.floats(0.05, 1.0)))


@settings(max_examples=15, deadline=None)
@given(result=crowded_slides())
@example(result=make_result([make_cell(i + 1, disc(80 + i), 505 * i, 250 * i) for i in range(8)], 4201, 2303))
def test_a_mask_read_again_is_the_mask_found_and_its_levels_are_nearest_neighbours(result, tmp_path_factory):
    path = tmp_path_factory.mktemp("mask") / "mask.ome.tif"
    write_mask(result, blank(), path)
    expected = painted(result)
    with TiffFile(path) as tiff:
        levels = tiff.series[0].levels
        assert levels[0].dtype == np.uint16
        assert max(levels[-1].shape) <= 2048
        for number, level in enumerate(levels):
            factor = 2**number
            height, width = level.shape
            assert (height, width) == (max(1, result.height // factor), max(1, result.width // factor))
            assert all(page.is_tiled and page.tile == (512, 512) for page in level.pages)
            nearest = expected[factor // 2 :: factor, factor // 2 :: factor][:height, :width]
            if nearest.size:
                np.testing.assert_array_equal(level.asarray(), nearest)


@pytest.mark.parametrize("um_per_px", [0.0688, 0.1234567891, 0.5, 1 / 3])
def test_the_mask_knows_its_scale(tmp_path, um_per_px):
    write_mask(
        make_result([make_cell(1, disc(50), 2900, 40)], 3000, 100, um_per_px=um_per_px),
        blank(),
        tmp_path / "mask.ome.tif",
    )
    with TiffFile(tmp_path / "mask.ome.tif") as tiff:
        pixels = ET.fromstring(tiff.ome_metadata).find(".//{*}Pixels")
        assert float(pixels.get("PhysicalSizeX")) == pytest.approx(um_per_px, rel=1e-6)
        assert float(pixels.get("PhysicalSizeY")) == pytest.approx(um_per_px, rel=1e-6)
        assert pixels.get("PhysicalSizeXUnit") == "µm"
        for factor, level in zip((1, 2), tiff.series[0].levels, strict=True):
            page = level.keyframe
            assert page.tags["ResolutionUnit"].value == 3  # centimetres
            top, bottom = page.tags["XResolution"].value
            assert 1e4 / (top / bottom) == pytest.approx(um_per_px * factor, rel=1e-6)


def test_the_class_mask_has_the_class_of_every_cell_in_the_colours_of_the_other_products(tmp_path):
    cells = [
        make_cell(1, disc(50), 2900, 40, "eosinophil"),
        make_cell(2, disc(60), 100, 20, UNIDENTIFIED.name),
    ]
    result = make_result(cells, 3000, 100, um_per_px=0.25)
    write_mask(result, blank(), tmp_path / "mask.ome.tif")
    write_class_mask(result, blank(), tmp_path / "classes.ome.tif")
    with TiffFile(tmp_path / "mask.ome.tif") as ids, TiffFile(tmp_path / "classes.ome.tif") as tiff:
        for id_level, level in zip(ids.series[0].levels, tiff.series[0].levels, strict=True):
            np.testing.assert_array_equal(level.asarray(), np.array([0, 2, 10])[id_level.asarray()])
        ome = ET.fromstring(tiff.ome_metadata)
        assert "2 eosinophil" in ome.findtext(".//{*}Description")
        assert float(ome.find(".//{*}Pixels").get("PhysicalSizeX")) == 0.25
        colours = tiff.pages[0].colormap // 257
        assert tuple(colours[:, 2]) == BY_NAME["eosinophil"].colour
        assert tuple(colours[:, 0]) == (0, 0, 0)


def test_a_png_mask_is_the_same_as_the_tiff_and_is_not_made_of_whole_slides(tmp_path):
    result = make_result([make_cell(1, disc(50), 10, 40), make_cell(300, disc(20), 90, 90)], 200, 150)
    RunFolder(tmp_path).commit(result, blank(), frozenset({"mask", "png"}))
    slide = tmp_path / "slides" / result.name
    png = cv2.imread(str(slide / "mask.png"), cv2.IMREAD_UNCHANGED)
    assert png.dtype == np.uint16
    np.testing.assert_array_equal(png, imread(slide / "mask.ome.tif"))
    write_png_mask(make_result([], 20_000, 20_000), blank(), tmp_path / "slide.png")
    assert not (tmp_path / "slide.png").exists()


def test_more_cells_than_16_bits_tell_apart_get_32(tmp_path):
    write_mask(make_result([make_cell(70_000, disc(9), 5, 5)], 20, 20), blank(), tmp_path / "mask.ome.tif")
    mask = imread(tmp_path / "mask.ome.tif")
    assert mask.dtype == np.uint32
    assert mask.max() == 70_000


def test_the_mask_of_a_huge_slide_is_small_on_disk_and_in_memory(tmp_path):
    result = make_result([make_cell(1, disc(100), 49_000, 49_100)], 50_000, 50_000, um_per_px=0.25)
    tracemalloc.start()
    write_mask(result, blank(), tmp_path / "mask.ome.tif")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30e6  # the plane alone would take 5e9
    assert (tmp_path / "mask.ome.tif").stat().st_size < 10e6
    with TiffFile(tmp_path / "mask.ome.tif") as tiff:
        smallest = tiff.series[0].levels[-1].asarray()
    assert set(np.unique(smallest)) == {0, 1}


def test_the_same_slide_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        RunFolder(tmp_path / name).commit(small_result(), blank())
    pictures = ("mask.ome.tif", "classes.ome.tif", "overlay.png", "explain.png", "cells.geojson", "thumbnails.zip")
    for product in (*pictures, "cells.csv", "slide.json"):
        first, second = (tmp_path / name / "slides" / "slide" / product for name in ("a", "b"))
        assert first.read_bytes() == second.read_bytes()


# --- tables


def test_what_an_earlier_run_left_in_the_folder_stays_out_of_the_tables(tmp_path):
    run = RunFolder(tmp_path)
    run.commit(small_result("monday"), blank(), NO_PRODUCTS)
    run.commit(small_result("tuesday"), blank(), NO_PRODUCTS)
    run.write_tables([run.record("tuesday")])
    assert {row["slide"] for row in rows(tmp_path / "cells.csv")} == {"tuesday"}
    assert [row["slide"] for row in rows(tmp_path / "differential.csv")] == ["tuesday"]


def test_cells_csv_has_a_row_a_cell_with_the_promised_columns(tmp_path):
    run = RunFolder(tmp_path)
    run.commit(small_result(), blank(), NO_PRODUCTS)
    run.write_tables(committed(run))
    table = rows(tmp_path / "cells.csv")
    assert tuple(table[0]) == CELL_COLUMNS
    assert [row["cell"] for row in table] == ["1", "2"]
    first = table[0]
    assert (first["slide"], first["class"], first["confidence"]) == ("slide", "neutrophil", "0.9700")
    assert [first[edge] for edge in ("x0", "y0", "x1", "y1")] == ["20", "30", "60", "70"]
    assert (float(first["x"]), float(first["y"])) == (40.0, 50.0)
    assert sum(float(first[f"p_{name}"]) for name in CLASS_NAMES) == pytest.approx(1, abs=1e-3)


def test_differential_csv_counts_a_slide_and_names_a_failed_one(tmp_path):
    run = RunFolder(tmp_path)
    run.commit(small_result("b", flags=("scale_estimated",)), blank(), NO_PRODUCTS)
    run.record_failure("a", Path("in/a.svs"), "in/a.svs: cut off, copy it again")
    run.write_tables(committed(run))
    failed, done = rows(tmp_path / "differential.csv")
    assert tuple(done) == DIFFERENTIAL_COLUMNS
    assert (failed["slide"], failed["status"], failed["reason"]) == ("a", "failed", "in/a.svs: cut off, copy it again")
    assert not any(value for column, value in failed.items() if column not in ("slide", "status", "reason"))
    assert (done["slide"], done["status"], done["reason"]) == ("b", "done", "")
    assert (done["cells"], done["differential_cells"]) == ("2", "1")
    assert (done["neutrophil_count"], done["neutrophil_percent"], done["neutrophil_low"]) == ("1", "100.00", "2.50")
    assert (done["unidentified_count"], done["unidentified_percent"]) == ("1", "50.00")
    assert (done["um_per_px"], done["um_per_px_source"]) == ("0.100000", "file")
    assert done["flags"] == "scale_estimated;fewer_than_100_cells"
    assert all(value for column, value in done.items() if column != "reason")


def test_a_slide_without_cells_has_a_row_and_its_products(tmp_path):
    run = RunFolder(tmp_path)
    run.commit(small_result(cells=[]), blank())
    run.write_tables(committed(run))
    (row,) = rows(tmp_path / "differential.csv")
    assert (row["status"], row["cells"], row["neutrophil_count"], row["neutrophil_percent"]) == ("done", "0", "0", "")
    assert rows(tmp_path / "cells.csv") == []
    made = {path.name for path in (tmp_path / "slides" / "slide").iterdir()}
    pictures = {"mask.ome.tif", "classes.ome.tif", "overlay.png", "explain.png", "cells.geojson", "thumbnails.zip"}
    assert made == {"cells.csv", "slide.json", "result.npz", "features.safetensors", *pictures}
    assert read_png(tmp_path / "slides" / "slide" / "overlay.png").shape[0] > 2 * 200  # enlarged, and the legend


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t"])
def test_no_spreadsheet_takes_a_name_for_a_formula(tmp_path, start):
    name = f"{start}cmd"
    run = RunFolder(tmp_path)
    run.commit(small_result(name), blank(), NO_PRODUCTS)
    run.record_failure("z", Path("z"), f"{start}1+1")
    run.write_tables(committed(run))
    assert {row["slide"] for row in rows(tmp_path / "cells.csv")} == {f"'{name}"}
    assert [row["slide"] for row in rows(tmp_path / "differential.csv")] == [f"'{name}", "z"]
    assert rows(tmp_path / "differential.csv")[1]["reason"] == f"'{start}1+1"


def test_tables_do_not_depend_on_the_order_of_commits_or_cells_nor_on_float_noise(tmp_path):
    noisy = make_cell(1, disc(40), 20, 30, "neutrophil", confidence=0.97 + 1e-7)
    cells = [noisy, make_cell(2, disc(30), 150, 90, "unidentified", confidence=0.41)]
    forward, backward = RunFolder(tmp_path / "f"), RunFolder(tmp_path / "b")
    for name in ("a", "b", "c"):
        forward.commit(small_result(name), blank(), NO_PRODUCTS)
    for name in ("c", "a", "b"):
        backward.commit(small_result(name, cells=cells[::-1]), blank(), NO_PRODUCTS)
    for run in (forward, backward):
        run.write_tables(committed(run))
    for table in ("cells.csv", "differential.csv"):
        text = (tmp_path / "f" / table).read_bytes()
        assert text == (tmp_path / "b" / table).read_bytes()
        assert b"\r" not in text
        assert text.endswith(b"\n")
    assert [row["slide"] for row in rows(tmp_path / "f" / "cells.csv")] == ["a", "a", "b", "b", "c", "c"]


def test_run_json_tells_how_the_run_was_made_and_how_each_slide_ended(tmp_path):
    run = RunFolder(tmp_path)
    run.commit(small_result("good"), blank(), NO_PRODUCTS)
    run.record_failure("bad", Path("in/bad.png"), "no image")
    run.write_run({"version": "0.1", "weights_sha256": "ab12", "options": {"batch_size": 4}}, committed(run))
    said = json.loads((tmp_path / "run.json").read_text())
    assert (said["version"], said["weights_sha256"], said["options"]) == ("0.1", "ab12", {"batch_size": 4})
    assert [(slide["name"], slide["status"], slide["reason"]) for slide in said["slides"]] == [
        ("bad", "failed", "no image"),
        ("good", "done", ""),
    ]


def test_what_is_joined_stands_until_a_record_a_table_or_the_run_is_another(tmp_path):
    run, said = RunFolder(tmp_path), {"version": "0.1", "seconds": 1.0}
    for name in ("a", "b"):
        run.commit(small_result(name), blank(), NO_PRODUCTS)
    assert not run.stands(said, Records(committed(run)))
    run.write_tables(committed(run))
    run.write_run(said, committed(run))
    assert run.stands({**said, "seconds": 2.0}, Records(committed(run)))
    assert not run.stands({**said, "version": "0.2"}, Records(committed(run)))
    (tmp_path / "cells.csv").write_text("slide\n")
    assert not run.stands(said, Records(committed(run)))
    run.write_tables(committed(run))
    assert run.stands(said, Records(committed(run)))
    run.commit(small_result("b"), blank(), NO_PRODUCTS, {"mpp": 0.2})  # and the run is killed before it writes tables
    assert not run.stands(said, Records(committed(run)))


def test_records_come_in_the_order_of_their_names_and_as_they_were(tmp_path):
    run = RunFolder(tmp_path)
    run.commit(small_result("b"), blank(), NO_PRODUCTS)
    run.record_failure("a", Path("in/bad.png"), "no image")
    good, bad = run.record("b"), run.record("a")
    records = Records([good, {**bad, "reason": "older"}, bad])
    assert list(records) == [bad, good]
    assert records.names("failed") == ["a"]
    assert records.differential.cells == good["differential"]["cells"]
    other = records.copy()
    other.remove("b")
    assert (len(other), len(records), other.differential.cells) == (1, 2, 0)
    assert other.checksum != records.checksum == Records([bad, good]).checksum


# --- the run folder


def test_only_the_chosen_products_are_written_and_tables_always(tmp_path):
    run = RunFolder(tmp_path)
    run.commit(small_result(), blank(), frozenset({"mask"}))
    assert {path.name for path in (tmp_path / "slides" / "slide").iterdir()} == {
        "cells.csv",
        "result.npz",
        "slide.json",
        "mask.ome.tif",
    }


def test_a_commit_replaces_all_older_products(tmp_path):
    run = RunFolder(tmp_path)
    run.commit(small_result(), blank(), frozenset(PRODUCT_NAMES))
    run.commit(small_result(cells=[]), blank(), NO_PRODUCTS)
    slide = tmp_path / "slides" / "slide"
    assert {path.name for path in slide.iterdir()} == {"cells.csv", "slide.json", "result.npz"}
    assert json.loads((slide / "slide.json").read_text())["differential"]["cells"] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["slides"]


@pytest.mark.parametrize("crash", [SlideError("in/slide.png: broken tile"), KeyboardInterrupt(), MemoryError()])
def test_a_crash_amid_a_commit_leaves_the_old_products(tmp_path, monkeypatch, crash):
    run = RunFolder(tmp_path)
    run.commit(small_result(), blank())
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def fail(*_):
        raise crash

    monkeypatch.setattr("wbc_cli.products.explain.write_explain", fail)
    with pytest.raises(type(crash)):
        run.commit(small_result(cells=[]), blank())
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_region_that_cannot_be_read_fails_the_slide_and_leaves_nothing(tmp_path):
    reader = blank()
    reader.broken = True
    with pytest.raises(SlideError):
        RunFolder(tmp_path).commit(small_result(), reader)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_full_or_locked_disk_is_the_machines_fault_and_names_the_place(tmp_path, monkeypatch, code):
    run = RunFolder(tmp_path)

    def fail(_result, _reader, path):
        raise OSError(code, "as the system says", str(path))

    monkeypatch.setattr("wbc_cli.products.masks.write_mask", fail)
    with pytest.raises(SetupError, match=r"slides.slide: .*as the system says.*-o"):
        run.commit(small_result(), blank())
    assert list((tmp_path / "slides").iterdir()) == []


def test_an_out_that_is_a_file_is_refused_with_its_name(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(SetupError, match="taken"):
        RunFolder(tmp_path / "taken")


def test_products_can_be_read_by_others_in_the_laboratory(tmp_path):
    (tmp_path / "plain").mkdir()
    RunFolder(tmp_path).commit(small_result(), blank(), NO_PRODUCTS)
    assert (tmp_path / "slides" / "slide").stat().st_mode == (tmp_path / "plain").stat().st_mode
