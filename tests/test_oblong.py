"""Pixels that are not square are shown square, and what is laid over the file fits it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from fakes import disc, make_cell, make_result
from PIL import Image
from tiles import picture

from wbc_cli.products.file_pixels import in_file_pixels
from wbc_cli.products.masks import write_mask
from wbc_cli.slides import open_slide
from wbc_cli.slides.patchy import PatchyReader

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
    assert isinstance(reader, PatchyReader) == bool(tile)
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


def test_masks_have_the_pixels_of_the_file_and_both_their_sizes(tmp_path: Path) -> None:
    cell = make_cell(1, disc(40), 101, 60, um_per_px=0.2)
    result = make_result([cell], 640, 480, um_per_px=0.2)
    own = in_file_pixels(type(result)(**{**vars(result), "file_pixels": (1.0, 0.5)}))
    assert (own.width, own.height) == (640, 240)
    assert own.cells[0].box == (101, 30, 141, 50)
    assert own.cells[0].y == pytest.approx(cell.y / 2)
    write_mask(own, tmp_path / "mask.ome.tif")
    with tifffile.TiffFile(tmp_path / "mask.ome.tif") as tiff:
        assert tiff.pages[0].shape == (240, 640)
        assert tiff.asarray().sum() == pytest.approx((cell.mask > 0).sum() / 2, rel=0.03)
        assert 'PhysicalSizeX="0.2"' in tiff.ome_metadata
        assert 'PhysicalSizeY="0.4"' in tiff.ome_metadata
