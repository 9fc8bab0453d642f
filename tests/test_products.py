from __future__ import annotations

import csv
import errno
import json
import tracemalloc
import xml.etree.ElementTree as ET
from pathlib import Path

import cv2
import numpy as np
import pytest
from fakes import ArrayReader, cells_from_mask, disc, make_cell, make_result
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tifffile import TiffFile, imread

from wbc_cli.classes import BY_NAME, CLASS_NAMES
from wbc_cli.errors import MachineError, SlideError
from wbc_cli.products import folder as folder_module
from wbc_cli.products.explain import write_explain
from wbc_cli.products.folder import PRODUCTS, RunFolder
from wbc_cli.products.labels import draw_labels
from wbc_cli.products.masks import write_mask
from wbc_cli.products.overlay import write_overlay
from wbc_cli.products.selection import review_order, sample
from wbc_cli.products.tables import CELL_COLUMNS, DIFFERENTIAL_COLUMNS

DATA = Path(__file__).parents[2] / "shared" / "data"
NO_PRODUCTS: frozenset[str] = frozenset()


def blank(width=300, height=200):
    return ArrayReader(np.full((height, width, 3), 235, np.uint8))


def small_result(name="slide", **changes):
    cells = [
        make_cell(1, disc(40), 20, 30, "neutrophil", confidence=0.97),
        make_cell(2, disc(30), 150, 90, "unidentified", confidence=0.41),
    ]
    return make_result(changes.pop("cells", cells), 300, 200, name, **changes)


def rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def painted(result):
    plane = np.zeros((result.height, result.width), np.uint32)
    for cell in result.cells:
        x0, y0, x1, y1 = cell.box
        plane[y0:y1, x0:x1][cell.mask > 0] = cell.id
    return plane


def read_png(path):
    picture = cv2.imread(str(path))
    assert picture is not None
    return picture[..., ::-1]


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
    write_mask(result, path)
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
        make_result([make_cell(1, disc(50), 2900, 40)], 3000, 100, um_per_px=um_per_px), tmp_path / "mask.ome.tif"
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


def test_more_cells_than_16_bits_tell_apart_get_32(tmp_path):
    write_mask(make_result([make_cell(70_000, disc(9), 5, 5)], 20, 20), tmp_path / "mask.ome.tif")
    mask = imread(tmp_path / "mask.ome.tif")
    assert mask.dtype == np.uint32
    assert mask.max() == 70_000


def test_the_mask_of_a_huge_slide_is_small_on_disk_and_in_memory(tmp_path):
    result = make_result([make_cell(1, disc(100), 49_000, 49_100)], 50_000, 50_000, um_per_px=0.25)
    tracemalloc.start()
    write_mask(result, tmp_path / "mask.ome.tif")
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
    for product in ("mask.ome.tif", "overlay.png", "explain.png", "cells.csv", "slide.json"):
        first, second = (tmp_path / name / "slides" / "slide" / product for name in ("a", "b"))
        assert first.read_bytes() == second.read_bytes()


# --- tables


def committed(run):
    return [folder.name for folder in run.slides.iterdir()]


def test_what_an_earlier_run_left_in_the_folder_stays_out_of_the_tables(tmp_path):
    run = RunFolder(tmp_path)
    run.commit(small_result("monday"), blank(), NO_PRODUCTS)
    run.commit(small_result("tuesday"), blank(), NO_PRODUCTS)
    run.finish({}, ["tuesday"])
    assert {row["slide"] for row in rows(tmp_path / "cells.csv")} == {"tuesday"}
    assert [row["slide"] for row in rows(tmp_path / "differential.csv")] == ["tuesday"]


def test_cells_csv_has_a_row_a_cell_with_the_promised_columns(tmp_path):
    run = RunFolder(tmp_path)
    run.commit(small_result(), blank(), NO_PRODUCTS)
    run.finish({}, committed(run))
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
    run.finish({}, committed(run))
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
    run.finish({}, committed(run))
    (row,) = rows(tmp_path / "differential.csv")
    assert (row["status"], row["cells"], row["neutrophil_count"], row["neutrophil_percent"]) == ("done", "0", "0", "")
    assert rows(tmp_path / "cells.csv") == []
    made = {path.name for path in (tmp_path / "slides" / "slide").iterdir()}
    assert made == {"cells.csv", "slide.json", "mask.ome.tif", "overlay.png", "explain.png"}
    assert read_png(tmp_path / "slides" / "slide" / "overlay.png").shape[0] > 600


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t"])
def test_no_spreadsheet_takes_a_name_for_a_formula(tmp_path, start):
    name = f"{start}cmd"
    run = RunFolder(tmp_path)
    run.commit(small_result(name), blank(), NO_PRODUCTS)
    run.record_failure("z", Path("z"), f"{start}1+1")
    run.finish({}, committed(run))
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
        run.finish({}, committed(run))
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
    run.finish({"version": "0.1", "weights_sha256": "ab12", "options": {"batch_size": 4}}, committed(run))
    said = json.loads((tmp_path / "run.json").read_text())
    assert (said["version"], said["weights_sha256"], said["options"]) == ("0.1", "ab12", {"batch_size": 4})
    assert [(slide["name"], slide["status"], slide["reason"]) for slide in said["slides"]] == [
        ("bad", "failed", "no image"),
        ("good", "done", ""),
    ]


# --- the run folder


def test_only_the_chosen_products_are_written_and_tables_always(tmp_path):
    run = RunFolder(tmp_path)
    run.commit(small_result(), blank(), frozenset({"mask"}))
    assert {path.name for path in (tmp_path / "slides" / "slide").iterdir()} == {
        "cells.csv",
        "slide.json",
        "mask.ome.tif",
    }


def test_a_commit_replaces_all_older_products(tmp_path):
    run = RunFolder(tmp_path)
    run.commit(small_result(), blank(), PRODUCTS)
    run.commit(small_result(cells=[]), blank(), NO_PRODUCTS)
    slide = tmp_path / "slides" / "slide"
    assert {path.name for path in slide.iterdir()} == {"cells.csv", "slide.json"}
    assert json.loads((slide / "slide.json").read_text())["differential"]["cells"] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["slides"]


@pytest.mark.parametrize("crash", [SlideError("in/slide.png: broken tile"), KeyboardInterrupt(), MemoryError()])
def test_a_crash_amid_a_commit_leaves_the_old_products(tmp_path, monkeypatch, crash):
    run = RunFolder(tmp_path)
    run.commit(small_result(), blank())
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def fail(*_):
        raise crash

    monkeypatch.setattr(folder_module, "write_explain", fail)
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

    def fail(_result, path):
        raise OSError(code, "as the system says", str(path))

    monkeypatch.setattr(folder_module, "write_mask", fail)
    with pytest.raises(MachineError, match=r"slides.slide: .*as the system says.*-o"):
        run.commit(small_result(), blank())
    assert list((tmp_path / "slides").iterdir()) == []


def test_an_out_that_is_a_file_is_refused_with_its_name(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(MachineError, match="taken"):
        RunFolder(tmp_path / "taken")


def test_products_can_be_read_by_others_in_the_laboratory(tmp_path):
    (tmp_path / "plain").mkdir()
    run = RunFolder(tmp_path)
    run.commit(small_result(), blank(), NO_PRODUCTS)
    assert (tmp_path / "slides" / "slide").stat().st_mode == (tmp_path / "plain").stat().st_mode


# --- pictures


def test_a_small_picture_is_enlarged_and_outlines_its_cell_in_the_colour_of_its_class(tmp_path):
    cell = make_cell(1, disc(60), 30, 30, "eosinophil", confidence=0.9)
    write_overlay(make_result([cell], 120, 120), blank(120, 120), tmp_path / "overlay.png")
    picture = read_png(tmp_path / "overlay.png")
    assert picture.shape[1] == 960
    ring = (picture[:960] == BY_NAME["eosinophil"].colour).all(axis=2)
    rows_found, columns_found = np.nonzero(ring[235:])  # below the name
    assert columns_found.min() == pytest.approx(30 * 8, abs=6)
    assert columns_found.max() == pytest.approx(90 * 8, abs=6)
    assert rows_found.max() + 235 == pytest.approx(90 * 8, abs=6)


@settings(max_examples=25, deadline=None)
@given(x=st.integers(0, 540), y=st.integers(0, 420), side=st.integers(20, 60))
def test_the_name_of_a_lone_cell_lies_in_the_picture_and_beside_the_cell(x, y, side):
    picture = np.full((480, 600, 3), 255, np.uint8)
    cell = make_cell(1, disc(side), x, y, "immature_granulocyte", confidence=0.5)
    draw_labels(picture, (cell,), 1, 16)
    drawn = (picture != 255).any(axis=2)
    assert drawn.sum() > 3000  # the whole tag: nothing was cut off
    assert not drawn[y : y + side, x : x + side][cell.mask > 0].any()


def test_names_of_neighbours_do_not_cover_each_other():
    cells = tuple(make_cell(i + 1, disc(50), 20 + 55 * i, 200, "lymphocyte") for i in range(5))
    alone = []
    for cell in cells:
        picture = np.full((450, 600, 3), 255, np.uint8)
        draw_labels(picture, (cell,), 1, 16)
        alone.append((picture != 255).any(axis=2).sum())
    together = np.full((450, 600, 3), 255, np.uint8)
    draw_labels(together, cells, 1, 16)
    drawn = (together != 255).any(axis=2)
    assert cv2.connectedComponents(drawn.astype(np.uint8))[0] - 1 >= 3
    assert drawn.sum() > 0.6 * sum(alone)
    for cell in cells:
        x0, y0, x1, y1 = cell.box
        assert not drawn[y0:y1, x0:x1][cell.mask > 0].any()


def test_a_large_slide_becomes_one_page_that_never_reads_it_whole_in_full(tmp_path):
    reader = blank(6000, 5000)
    reader.pixels[2000:2060, 3000:3060] = (90, 40, 140)
    most = 0
    read = reader.read

    def watched(x, y, width, height, downsample=1.0):
        nonlocal most
        most = max(most, round(width / downsample) * round(height / downsample))
        return read(x, y, width, height, downsample)

    reader.read = watched
    cells = [
        make_cell(i + 1, disc(60), 70 * i, 2000, list(BY_NAME)[i % 10], confidence=0.5 + i / 200) for i in range(80)
    ]
    write_overlay(make_result(cells, 6000, 5000, um_per_px=0.2), reader, tmp_path / "overlay.png")
    page = read_png(tmp_path / "overlay.png")
    assert page.shape[1] == 1600
    assert page.shape[0] < 3500
    assert 0 < most <= 1600 * 900


def test_the_mosaic_shows_those_to_review_and_some_of_every_class():
    cells = [make_cell(i + 1, disc(9), 0, 0, "neutrophil", confidence=0.5 + i / 1000) for i in range(300)]
    cells += [
        make_cell(301, disc(9), 0, 0, "basophil", confidence=0.99),
        make_cell(302, disc(9), 0, 0, "monocyte", confidence=0.98, flags=("edge",)),
    ]
    chosen = sample(cells, 56)
    assert len({cell.id for cell in chosen}) == 56
    assert {302, 301, *range(1, 28)} <= {cell.id for cell in chosen}


def test_cells_to_review_come_first_and_the_least_confident_before_others():
    cells = [
        make_cell(1, disc(9), 0, 0, "neutrophil", confidence=0.60),
        make_cell(2, disc(9), 0, 0, "neutrophil", confidence=0.99, flags=("explanation",)),
        make_cell(3, disc(9), 0, 0, "unidentified", confidence=0.30),
        make_cell(4, disc(9), 0, 0, "neutrophil", confidence=0.55),
    ]
    assert [cell.id for cell in review_order(cells)] == [3, 2, 4, 1]


def test_the_explanation_sheet_has_a_row_a_cell_up_to_24(tmp_path):
    heights = []
    for count in (0, 1, 2, 24, 60):
        cells = [make_cell(i + 1, disc(20), 5 * i % 250, 50, um_per_px=0.5) for i in range(count)]
        write_explain(make_result(cells, 300, 200, um_per_px=0.5), blank(), tmp_path / "explain.png")
        heights.append(read_png(tmp_path / "explain.png").shape[0])
    row = heights[2] - heights[1]
    assert row > 0
    assert heights == [heights[1], heights[1], heights[1] + row, heights[1] + 23 * row, heights[1] + 23 * row]


@pytest.mark.parametrize("size", [(1, 1), (30, 1500), (1500, 30), (4096, 3)])
def test_pictures_of_any_shape_are_drawn(tmp_path, size):
    cell = make_cell(1, np.ones((1, 1), np.uint8), 0, 0)
    result = make_result([cell], *size)
    RunFolder(tmp_path).commit(result, blank(*size))
    for name in ("overlay.png", "explain.png"):
        assert read_png(tmp_path / "slides" / "slide" / name).shape[1] >= 640


@pytest.mark.skipif(not DATA.is_dir(), reason="needs the data folder beside the repository (shared/data)")
def test_a_real_field_passes_through_all_products(tmp_path):
    with (DATA / "manifest.csv").open(encoding="utf-8", newline="") as file:
        field = next(row for row in csv.DictReader(file) if row["dataset"] == "bccd" and row["mask"])
    pixels = cv2.imread(str(DATA / field["image"]))[..., ::-1].copy()
    mask = cv2.imread(str(DATA / field["mask"]), cv2.IMREAD_GRAYSCALE)
    um_per_px = float(field["um_per_px"])
    cells = cells_from_mask(mask, ["neutrophil"], um_per_px)
    assert cells
    run = RunFolder(tmp_path)
    run.commit(make_result(cells, 640, 480, "field", um_per_px), ArrayReader(pixels))
    run.finish({}, committed(run))
    written = imread(tmp_path / "slides" / "field" / "mask.ome.tif", level=0)
    assert written.shape == (480, 640)
    assert (written > 0).sum() == sum((cell.mask > 0).sum() for cell in cells)
    assert len(rows(tmp_path / "cells.csv")) == len(cells)
