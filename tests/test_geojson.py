from __future__ import annotations

import json
import tracemalloc
import uuid
from dataclasses import replace

import numpy as np
import pytest
import shapely
from fakes import blank, disc, make_cell, make_result, small_result
from openslide import OpenSlide
from scipy import ndimage
from tifffile import imwrite

from wbc_cli.cells import CYTOPLASM, NUCLEUS
from wbc_cli.classes import BY_NAME, CLASS_NAMES, CLASSES
from wbc_cli.errors import SlideError
from wbc_cli.products.folder import RunFolder
from wbc_cli.products.geojson import write_geojson
from wbc_cli.products.legend import legend
from wbc_cli.products.polygons import largest_piece, trace
from wbc_cli.products.registry import PRODUCT_NAMES
from wbc_cli.slides import open_slide
from wbc_cli.slides.fault_tolerant import FaultTolerantReader
from wbc_cli.slides.image import ImageReader
from wbc_cli.slides.slide import OpenSlideReader

# --- what QuPath takes


def refuse_constant(name):
    raise AssertionError(f"{name} is no JSON, and QuPath's reader takes no text where it expects a number")


def imported(path):
    """The features of a file that QuPath imports whole: every rule of its reader is asserted here."""
    collection = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse_constant)
    assert set(collection) == {"type", "features"}
    assert collection["type"] == "FeatureCollection"
    features = collection["features"]
    for feature in features:
        assert_feature(feature)
    assert len({feature["id"] for feature in features}) == len(features)
    return features


def assert_feature(feature):
    assert feature["type"] == "Feature"
    assert set(feature) <= {"type", "id", "geometry", "nucleusGeometry", "properties"}
    identifier = uuid.UUID(feature["id"])
    assert identifier.version == 5
    assert str(identifier) == feature["id"]
    properties = feature["properties"]
    assert properties["objectType"] == ("cell" if "nucleusGeometry" in feature else "detection")
    assert properties["isLocked"] is True
    name, colour = properties["classification"]["name"], properties["classification"]["color"]
    assert name and ":" not in name
    assert len(colour) == 3 and all(type(value) is int and 0 <= value <= 255 for value in colour)
    assert all(type(value) in (int, float) for value in properties["measurements"].values())
    assert_geometry(feature["geometry"])
    if "nucleusGeometry" in feature:
        assert_geometry(feature["nucleusGeometry"])
        assert polygon_of(feature).covers(polygon_of(feature, "nucleusGeometry"))


def assert_geometry(geometry):
    assert set(geometry) == {"type", "coordinates"}
    assert geometry["type"] == "Polygon"
    for ring in geometry["coordinates"]:
        assert ring[0] == ring[-1]
        assert len(ring) >= 5
        assert len(set(map(tuple, ring))) == len(ring) - 1  # nowhere does a ring come back to itself
        assert all(len(point) == 2 and all(type(value) is int for value in point) for point in ring)
    polygon = shapely.Polygon(geometry["coordinates"][0], geometry["coordinates"][1:])
    assert polygon.is_valid, shapely.is_valid_reason(polygon)
    assert polygon.area > 0
    assert polygon.exterior.is_ccw and not any(hole.is_ccw for hole in polygon.interiors)


def polygon_of(feature, key="geometry"):
    exterior, *holes = feature[key]["coordinates"]
    return shapely.Polygon(exterior, holes)


def written(result, path, bounds=(0, 0)):
    reader = blank()
    reader.bounds = bounds
    write_geojson(result, reader, path / "cells.geojson")
    return imported(path / "cells.geojson")


def one_cell(mask, path, x=100, y=200, bounds=(0, 0)):
    (feature,) = written(make_result([make_cell(1, np.asarray(mask, np.uint8), x, y)], 5000, 5000), path, bounds)
    return feature


def ragged(random):
    """A mask as no network makes it: noise of any density, smoothed or not, with a nucleus anywhere in it."""
    height, width = random.integers(1, 17, 2)
    noise, inner = random.random((2, height, width))
    if random.random() < 0.5:
        noise = ndimage.uniform_filter(noise, 3)
    inside = noise < np.quantile(noise, random.uniform(0.2, 0.95))
    inside.flat[random.integers(inside.size)] = True
    return np.where(inside, np.where(inner < random.random(), NUCLEUS, CYTOPLASM), 0).astype(np.uint8)


def filled(polygon, shape):
    """The pixels of a grid whose middles lie in a polygon, bool [h, w]."""
    rows, columns = np.mgrid[0 : shape[0], 0 : shape[1]] + 0.5
    return shapely.contains_xy(polygon, columns, rows)


# --- the file


def test_qupath_takes_the_cells_of_every_class(tmp_path):
    names = list(BY_NAME)
    cells = [make_cell(i + 1, disc(30 + i), 60 * i, 10 * i, name) for i, name in enumerate(names)]
    features = written(make_result(cells, 900, 200), tmp_path)
    assert [feature["properties"]["classification"]["name"] for feature in features] == [
        BY_NAME[name].label for name in names
    ]


def test_colours_are_those_of_the_legend(tmp_path):
    for name, kind in BY_NAME.items():
        result = make_result([make_cell(1, disc(30), 20, 20, name)], 100, 100)
        (feature,) = written(result, tmp_path)
        colour = feature["properties"]["classification"]["color"]
        assert colour == list(kind.colour)
        assert (legend(result, "title", 900, 20, 4.0) == colour).all(axis=2).any()


def test_ten_thousand_ragged_cells_are_all_valid_and_exact(tmp_path):
    random = np.random.default_rng(7)
    cells = [make_cell(i + 1, ragged(random), 20 * (i % 100), 20 * (i // 100)) for i in range(10_000)]
    features = written(make_result(cells, 2000, 2000), tmp_path)
    assert len(features) == len(cells)
    for cell, feature in zip(cells, features, strict=True):
        whole = largest_piece(cell.mask > 0)
        nucleus = largest_piece(whole & (cell.mask == NUCLEUS))
        assert polygon_of(feature).area == whole.sum()
        assert ("nucleusGeometry" in feature) == nucleus.any()
        if nucleus.any():
            assert polygon_of(feature, "nucleusGeometry").area == nucleus.sum()


def test_a_polygon_holds_exactly_the_pixels_of_the_mask():
    random = np.random.default_rng(3)
    for _ in range(500):
        piece = largest_piece(ragged(random) > 0)
        np.testing.assert_array_equal(filled(trace(piece, 0, 0), piece.shape), piece)


@pytest.mark.parametrize("side", [1, 3, 24, 120])
def test_the_area_of_a_cell_and_of_its_nucleus_is_that_of_its_pixels(tmp_path, side):
    mask = disc(side)
    feature = one_cell(mask, tmp_path)
    assert polygon_of(feature).area == pytest.approx((mask > 0).sum(), rel=0.01)
    assert polygon_of(feature, "nucleusGeometry").area == pytest.approx((mask == NUCLEUS).sum(), rel=0.01)
    measured = feature["properties"]["measurements"]
    assert measured["Area µm^2"] == pytest.approx(polygon_of(feature).area * 0.1**2, abs=0.005)


def test_a_disc_of_441_pixels_measures_441(tmp_path):
    v, u = np.mgrid[0:25, 0:25] - 12
    order = np.argsort((u**2 + v**2).ravel(), kind="stable")[:441]
    mask = np.zeros(625, np.uint8)
    mask[order] = CYTOPLASM
    assert polygon_of(one_cell(mask.reshape(25, 25), tmp_path)).area == 441


def test_a_cell_of_one_pixel_is_a_square_at_its_place(tmp_path):
    feature = one_cell([[NUCLEUS]], tmp_path, 7, 9)
    square = [[7, 9], [8, 9], [8, 10], [7, 10], [7, 9]]
    assert feature["geometry"]["coordinates"] == [square]
    assert feature["nucleusGeometry"]["coordinates"] == [square]


def test_straight_edges_have_no_points_between_their_ends(tmp_path):
    assert len(one_cell(np.full((40, 70), CYTOPLASM), tmp_path)["geometry"]["coordinates"][0]) == 5


@pytest.mark.parametrize(
    ("drawn", "area", "holes"),
    [
        (["##.", "##.", "..#"], 4, 0),  # joined at a corner only: the larger piece
        ([".##", ".##", "#.."], 4, 0),
        (["###", "#.#", "##."], 7, 0),  # a hole that touches the outside at a corner
        (["###", "#.#", ".##"], 7, 0),
        (["#####", "#.###", "##.##", "#####"], 18, 0),  # two holes that touch each other
        (["#####", "##.##", "#.###", "#####"], 18, 0),
        (["#.", ".#"], 1, 0),
        (["###", "#.#", "###"], 8, 1),
    ],
)
def test_cells_that_touch_themselves_at_a_corner_are_valid_and_keep_their_area(tmp_path, drawn, area, holes):
    mask = np.array([[CYTOPLASM if mark == "#" else 0 for mark in row] for row in drawn])
    polygon = polygon_of(one_cell(mask, tmp_path))
    assert polygon.area == area
    assert not holes or len(polygon.interiors) == holes


def test_a_cell_without_a_nucleus_is_a_detection(tmp_path):
    feature = one_cell(np.full((9, 9), CYTOPLASM), tmp_path)
    assert feature["properties"]["objectType"] == "detection"
    assert feature["properties"]["measurements"]["Nucleus: Area µm^2"] == 0


def test_a_nucleus_at_the_border_or_filling_the_cell_stays(tmp_path):
    mask = np.full((20, 20), CYTOPLASM)
    mask[:8, :8] = NUCLEUS
    assert polygon_of(one_cell(mask, tmp_path), "nucleusGeometry").area == 64
    assert polygon_of(one_cell(np.full((20, 20), NUCLEUS), tmp_path), "nucleusGeometry").area == 400


def test_a_nucleus_outside_the_drawn_piece_of_the_cell_is_left_out(tmp_path):
    mask = np.zeros((10, 30), np.uint8)
    mask[:, :15] = CYTOPLASM
    mask[2:8, 20:26] = NUCLEUS
    assert one_cell(mask, tmp_path)["properties"]["objectType"] == "detection"
    mask[4, 4] = NUCLEUS
    assert polygon_of(one_cell(mask, tmp_path), "nucleusGeometry").area == 1


def test_a_mask_without_pixels_is_left_out_and_a_slide_without_cells_is_an_empty_collection(tmp_path):
    cell = make_cell(1, disc(30), 10, 10)
    empty = replace(cell, id=2, mask=np.zeros_like(cell.mask))
    assert len(written(make_result([cell, empty], 100, 100), tmp_path)) == 1
    assert written(make_result([empty, replace(cell, id=3)], 100, 100), tmp_path)
    assert written(make_result([], 100, 100), tmp_path) == []


def test_measurements_are_the_figures_of_the_cell(tmp_path):
    cell = make_cell(12, disc(40), 20, 30, "monocyte", confidence=0.75)
    (feature,) = written(make_result([cell], 100, 100), tmp_path)
    measured = feature["properties"]["measurements"]
    assert measured["Cell id"] == 12
    assert measured["Probability"] == measured["Probability: Monocyte"] == 0.75
    assert sum(measured[f"Probability: {kind.label}"] for kind in CLASSES) == pytest.approx(1, abs=1e-3)
    assert measured["Area µm^2"] == pytest.approx(cell.area_um2, abs=0.005)
    assert measured["Nucleus: Area µm^2"] == pytest.approx(cell.nucleus_area_um2, abs=0.005)
    assert (measured["Saliency"], measured["Grad-CAM in cell"]) == (0.83, 0.71)


def test_figures_that_are_no_finite_numbers_are_left_out(tmp_path):
    probabilities = np.full(len(CLASS_NAMES), np.nan, np.float32)
    cell = replace(
        make_cell(1, disc(30), 9, 9),
        saliency=np.nan,
        cam_in_cell=np.inf,
        cam_saliency=np.nan,
        probabilities=probabilities,
    )
    (feature,) = written(make_result([cell], 100, 100), tmp_path)
    assert set(feature["properties"]["measurements"]) == {
        *("Cell id", "Probability", "Area µm^2", "Nucleus: Area µm^2")
    }


# --- where cells lie


@pytest.mark.parametrize("bounds", [(0, 0), (90, 170), (1000, 3000), (-40, -7)])
def test_coordinates_count_from_the_corner_of_the_scanned_area(tmp_path, bounds):
    feature = one_cell(np.full((10, 20), NUCLEUS), tmp_path, 100, 200, bounds)
    x, y = 100 - bounds[0], 200 - bounds[1]
    for key in ("geometry", "nucleusGeometry"):
        assert polygon_of(feature, key).bounds == (x, y, x + 20, y + 10)


def test_the_bounds_of_a_slide_reach_the_file(tmp_path):
    slide = blank()
    slide.bounds = (15, 25)
    RunFolder(tmp_path).commit(small_result(), FaultTolerantReader(slide, (64, 64)), frozenset({"geojson"}))
    first, _ = imported(tmp_path / "slides" / "slide" / "cells.geojson")
    assert polygon_of(first).bounds == (20 - 15, 30 - 25, 60 - 15, 70 - 25)


def test_readers_know_the_bounds_that_openslide_tells_and_have_none_where_it_tells_none(tmp_path, monkeypatch):
    path = tmp_path / "slide.tif"
    imwrite(path, np.full((200, 300, 3), 235, np.uint8), tile=(64, 64), photometric="rgb", metadata=None)
    assert open_slide(path).bounds == OpenSlideReader(path).bounds == ImageReader(path).bounds == (0, 0)
    told = {"openslide.bounds-x": "15", "openslide.bounds-y": "25"}
    monkeypatch.setattr(OpenSlide, "properties", told)
    assert OpenSlideReader(path).bounds == (15, 25)


# --- ids and bytes


def test_the_same_slide_gives_the_same_bytes_in_any_order_of_its_cells(tmp_path):
    result = small_result()
    for name, cells in (("a", result.cells), ("b", result.cells[::-1])):
        write_geojson(replace(result, cells=cells), blank(), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_an_id_stays_when_another_cell_is_found_and_differs_between_slides(tmp_path):
    cell = make_cell(1, disc(40), 120, 130)
    (alone,) = written(make_result([cell], 300, 300), tmp_path)
    _, second = written(make_result([make_cell(1, disc(30), 10, 10), replace(cell, id=2)], 300, 300), tmp_path)
    (elsewhere,) = written(make_result([cell], 300, 300, "another"), tmp_path)
    assert alone["id"] == second["id"] != elsewhere["id"]


def test_the_file_is_written_a_cell_at_a_time(tmp_path):
    cell = make_cell(1, disc(40), 0, 0)

    def most_memory(cells):
        result = make_result([replace(cell, id=i + 1) for i in range(cells)], 100, 100)
        tracemalloc.start()
        write_geojson(result, blank(), tmp_path / "cells.geojson")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    assert most_memory(500) < 1.5 * most_memory(20)  # though the file is 25 times as large


# --- the run folder


def test_write_geojson_yields_the_file_and_it_is_there_by_default(tmp_path):
    assert "geojson" in PRODUCT_NAMES
    run = RunFolder(tmp_path)
    run.commit(small_result("chosen"), blank(), frozenset({"geojson"}))
    run.commit(small_result("usual"), blank())
    run.commit(small_result("none"), blank(), frozenset({"mask"}))
    made = {path.name for path in (tmp_path / "slides" / "chosen").iterdir()}
    assert made == {"cells.csv", "slide.json", "result.npz", "cells.geojson"}
    assert len(imported(tmp_path / "slides" / "usual" / "cells.geojson")) == 2
    assert not (tmp_path / "slides" / "none" / "cells.geojson").exists()
    assert run.record("chosen")["products"]["cells.geojson"] > 0


def test_the_file_needs_no_pixels_of_the_slide(tmp_path):
    reader = blank()
    reader.broken = True
    with pytest.raises(SlideError):
        reader.read(0, 0, 1, 1)
    RunFolder(tmp_path).commit(small_result(), reader, frozenset({"geojson"}))
    assert imported(tmp_path / "slides" / "slide" / "cells.geojson")
