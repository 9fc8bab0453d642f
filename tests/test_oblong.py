"""Pixels that are not square are shown square, and what is laid over the file fits it."""

from __future__ import annotations

import json
from inspect import get_annotations
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from fakes import blank, disc, make_cell, make_result, rows
from PIL import Image
from tiles import picture

from wbc_cli.evaluation.background import CutOutReader
from wbc_cli.inference.field_of_view import FieldReader, within_field
from wbc_cli.products.file_pixels import in_file_pixels
from wbc_cli.products.folder import RunFolder
from wbc_cli.products.masks import write_mask
from wbc_cli.products.registry import USUAL_PRODUCTS
from wbc_cli.products.slide_folders import CELLS
from wbc_cli.resources.heartbeat import Heartbeat
from wbc_cli.run.watched import WatchedReader
from wbc_cli.slides import open_slide
from wbc_cli.slides.fault_tolerant import FaultTolerantReader, gaps_of
from wbc_cli.slides.reader import SlideReader

SQUARE = cv2.GaussianBlur(picture(480, 640), (0, 0), 3)


def write(path: Path, across: float, down: float, tile: tuple[int, int] | None) -> Path:
    size = round(640 / across), round(480 / down)
    tifffile.imwrite(
        path,
        cv2.resize(SQUARE, size, interpolation=cv2.INTER_AREA),
        photometric="rgb",
        tile=tile,
        resolution=(1e4 / (0.2 * across), 1e4 / (0.2 * down)),
        resolutionunit="CENTIMETER",
    )
    return path


@pytest.mark.parametrize("tile", [None, (64, 64)], ids=["plain", "tiled"])
@pytest.mark.parametrize(("across", "down"), [(1, 2), (2, 1), (1, 1.25)])
def test_a_picture_of_oblong_pixels_is_shown_as_it_was(
    across: float, down: float, tile: tuple[int, int] | None, tmp_path: Path
) -> None:
    reader = open_slide(write(tmp_path / "o.tif", across, down, tile))
    assert isinstance(reader, FaultTolerantReader) == bool(tile)
    assert (reader.width, reader.height) == (640, 480)
    assert reader.um_per_px == pytest.approx(0.2)
    assert reader.pixel_um == pytest.approx((0.2 * across, 0.2 * down))
    assert reader.flags == ("oblong_pixels",)
    for x, y, width, height, downsample in ((0, 0, 640, 480, 1), (101, 203, 333, 271, 1), (100, 200, 400, 200, 4)):
        cut = SQUARE[y : y + height, x : x + width]
        size = round(width / downsample), round(height / downsample)
        expected = cv2.resize(cut, size, interpolation=cv2.INTER_AREA).astype(int)
        assert np.abs(reader.read(x, y, width, height, downsample) - expected).mean() < 1


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.jpg"])
def test_both_sides_of_a_pixel_are_taken_from_every_format(name: str, tmp_path: Path) -> None:
    Image.fromarray(SQUARE).save(tmp_path / name, dpi=(60_000, 30_000))
    reader = open_slide(tmp_path / name)
    assert reader.pixel_um == pytest.approx((25_400 / 60_000, 25_400 / 30_000), rel=1e-3)
    assert (reader.width, reader.height) == (640, 960)


@pytest.mark.parametrize("tile", [None, (64, 64)], ids=["plain", "tiled"])
def test_whatever_wraps_a_slide_says_the_same_of_it(tile: tuple[int, int] | None, tmp_path: Path) -> None:
    reader = open_slide(write(tmp_path / "o.tif", 1, 2, tile))
    mask = tmp_path / "mask.png"
    Image.fromarray(np.zeros((480, 640), np.uint8)).save(mask)
    watched = WatchedReader(reader, Heartbeat())
    for wrapped in (watched, FieldReader(watched, np.ones((192, 256), np.bool_)), CutOutReader(reader, mask)):
        for what in get_annotations(SlideReader):
            assert getattr(wrapped, what) == getattr(reader, what)
    if tile:
        assert gaps_of(watched) is gaps_of(reader)


@pytest.mark.parametrize("tile", [None, (64, 64)], ids=["plain", "tiled"])
def test_a_photograph_is_looked_at_for_its_round_field_and_a_scan_is_not(
    tile: tuple[int, int] | None, tmp_path: Path
) -> None:
    field = cv2.circle(np.zeros((480, 640, 3), np.uint8), (320, 240), 230, (225, 220, 215), -1)
    tifffile.imwrite(tmp_path / "f.tif", field, photometric="rgb", tile=tile)
    reader = WatchedReader(open_slide(tmp_path / "f.tif"), Heartbeat())
    assert (within_field(reader) is reader) == bool(tile)


def test_tables_and_masks_of_a_run_have_the_pixels_of_the_file(tmp_path: Path) -> None:
    reader = open_slide(write(tmp_path / "o.tif", 1, 2, None))
    result = make_result([make_cell(1, disc(40), 101, 60, um_per_px=0.2)], 640, 480, um_per_px=0.2)
    beats: list[None] = []
    folder = RunFolder(tmp_path / "out")
    folder.commit(
        type(result)(**{**vars(result), "file_pixels": reader.file_pixels}), reader, beat=lambda: beats.append(None)
    )
    done = folder.slides / "slide"
    (row,) = rows(done / CELLS)
    assert (row["y0"], row["y1"]) == ("30", "50")
    assert tifffile.imread(done / "mask.ome.tif").shape == (240, 640)
    (feature,) = json.loads((done / "cells.geojson").read_text())["features"]
    assert max(y for _, y in feature["geometry"]["coordinates"][0]) == 50
    assert len(beats) == len(USUAL_PRODUCTS)


def test_masks_have_the_pixels_of_the_file_and_both_their_sizes(tmp_path: Path) -> None:
    cell = make_cell(1, disc(40), 101, 60, um_per_px=0.2)
    result = make_result([cell], 640, 480, um_per_px=0.2)
    own = in_file_pixels(type(result)(**{**vars(result), "file_pixels": (1.0, 0.5)}))
    assert (own.width, own.height) == (640, 240)
    assert own.cells[0].box == (101, 30, 141, 50)
    assert own.cells[0].y == pytest.approx(cell.y / 2)
    write_mask(own, blank(), tmp_path / "mask.ome.tif")
    with tifffile.TiffFile(tmp_path / "mask.ome.tif") as tiff:
        assert tiff.pages[0].shape == (240, 640)
        assert tiff.asarray().sum() == pytest.approx((cell.mask > 0).sum() / 2, rel=0.03)
        assert 'PhysicalSizeX="0.2"' in tiff.ome_metadata
        assert 'PhysicalSizeY="0.4"' in tiff.ome_metadata
