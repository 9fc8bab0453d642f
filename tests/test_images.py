"""Every kind of picture is read as it is meant, whatever its format, depth and colours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tiles import LOSSY, assert_close, picture

from wbc_cli.errors import SlideError
from wbc_cli.slides import open_slide
from wbc_cli.slides.fields import contents_of
from wbc_cli.slides.pixels import to_rgb, to_uint8

RGB = picture(96, 130)
GREY = RGB[..., 0]
ALPHA = np.tile(np.linspace(0, 255, 130).astype(np.uint8), (96, 1))
ON_WHITE = np.rint(RGB * (ALPHA[..., None] / 255) + 255.0 - ALPHA[..., None]).astype(np.uint8)


def whole(path: Path, field: int | None = None) -> np.ndarray:
    reader = open_slide(path, field)
    image = reader.read(0, 0, reader.width, reader.height)
    reader.close()
    return image


PILLOW_MODES = {
    "rgb.png": (Image.fromarray(RGB), RGB, 0),
    "rgb.bmp": (Image.fromarray(RGB), RGB, 0),
    "rgb.JPG": (Image.fromarray(RGB), RGB, LOSSY),
    "grey.png": (Image.fromarray(GREY), GREY, 0),
    "grey.jpeg": (Image.fromarray(GREY), GREY, LOSSY),
    "grey16.png": (Image.fromarray(GREY.astype(np.uint16) * 257), GREY, 0),
    "grey12_in_16.png": (Image.fromarray((GREY / 255 * 4095).round().astype(np.uint16)), GREY, 1),
    "bilevel.png": (Image.fromarray(GREY > 99), (GREY > 99) * 255, 0),
    "rgba.png": (Image.fromarray(np.dstack([RGB, ALPHA])), ON_WHITE, 1),
    "grey_alpha.png": (Image.fromarray(np.dstack([GREY, ALPHA])), ON_WHITE[..., :1].repeat(3, axis=2), 1),
    "unused_alpha.bmp": (Image.fromarray(np.dstack([RGB, 0 * GREY])), RGB, 0),
    "cmyk.jpg": (Image.fromarray(RGB).convert("CMYK"), RGB, LOSSY + 2),
    "rgb.tif": (Image.fromarray(RGB), RGB, 0),
    "rgba.tif": (Image.fromarray(np.dstack([RGB, ALPHA])), ON_WHITE, 1),
    "cmyk.tif": (Image.fromarray(RGB).convert("CMYK"), RGB, 1),
    "bilevel.tif": (Image.fromarray(GREY > 99), (GREY > 99) * 255, 0),
}


@pytest.mark.parametrize("name", PILLOW_MODES)
def test_every_kind_of_image_becomes_rgb(name: str, tmp_path: Path) -> None:
    image, expected, tolerance = PILLOW_MODES[name]
    image.save(tmp_path / name, quality=97, subsampling=0)
    assert_close(whole(tmp_path / name), np.asarray(expected), tolerance)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif"])
def test_a_palette_is_resolved(suffix: str, tmp_path: Path) -> None:
    image = Image.fromarray(RGB).quantize(32)
    image.save(tmp_path / f"p.{suffix}")
    assert_close(whole(tmp_path / f"p.{suffix}"), np.asarray(image.convert("RGB")), 0)


RGB12 = (RGB / 255 * 4095).round().astype(np.uint16)
TIFFS = {
    "rgb16": (RGB.astype(np.uint16) * 257, {"photometric": "rgb"}, RGB, 0),
    "rgb12_in_16": (RGB12, {"photometric": "rgb"}, RGB, 1),
    "rgb12_in_16_tiled": (RGB12, {"photometric": "rgb", "tile": (32, 32)}, RGB, 1),
    "float": (RGB.astype(np.float32) / 255, {"photometric": "rgb"}, RGB, 0),
    "float_tiled": (RGB.astype(np.float32) / 255, {"photometric": "rgb", "tile": (32, 32)}, RGB, 0),
    "planes": (np.moveaxis(RGB, 2, 0), {"photometric": "rgb", "planarconfig": "separate"}, RGB, 0),
    "jpeg": (RGB, {"photometric": "rgb", "compression": "jpeg", "compressionargs": {"level": 97}}, RGB, LOSSY + 2),
    "lzw": (RGB, {"photometric": "rgb", "compression": "lzw", "predictor": True}, RGB, 0),
    "white_is_zero": (255 - GREY, {"photometric": "miniswhite"}, GREY, 0),
    "unassociated": (np.dstack([RGB, ALPHA]), {"photometric": "rgb", "extrasamples": ["unassalpha"]}, ON_WHITE, 1),
    "associated": (
        np.dstack([np.rint(RGB * (ALPHA[..., None] / 255)).astype(np.uint8), ALPHA]),
        {"photometric": "rgb", "extrasamples": ["assocalpha"]},
        ON_WHITE,
        1,
    ),
    "fourth_channel_of_no_meaning": (
        np.dstack([RGB, ALPHA]),
        {"photometric": "rgb", "extrasamples": ["unspecified"]},
        RGB,
        0,
    ),
    "channels_in_pages": (np.moveaxis(RGB, 2, 0), {"photometric": "minisblack", "metadata": {"axes": "CYX"}}, RGB, 0),
    "stack": (np.stack([GREY, 255 - GREY]), {"photometric": "minisblack", "metadata": {"axes": "ZYX"}}, GREY, 0),
}


@pytest.mark.parametrize("kind", TIFFS)
@pytest.mark.parametrize("suffix", ["tif", "ome.tif"])
def test_every_kind_of_tiff_becomes_rgb(kind: str, suffix: str, tmp_path: Path) -> None:
    data, options, expected, tolerance = TIFFS[kind]
    path = tmp_path / f"{kind}.{suffix}"
    tifffile.imwrite(path, data, **({"metadata": {"axes": "CYX"}} if kind == "planes" else {}) | options)
    assert_close(whole(path), expected, tolerance)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_is_turned_as_its_exif_says(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x112] = orientation
    Image.fromarray(RGB).save(tmp_path / "e.jpg", quality=97, subsampling=0, exif=exif)
    turned = {1: RGB, 2: RGB[:, ::-1], 3: RGB[::-1, ::-1], 4: RGB[::-1]}
    transposed = RGB.transpose(1, 0, 2)
    turned |= {5: transposed, 6: transposed[:, ::-1], 7: transposed[::-1, ::-1], 8: transposed[::-1]}
    assert_close(whole(tmp_path / "e.jpg"), turned[orientation], LOSSY)


def test_of_several_pages_each_full_one_is_a_field(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "pages.tif") as tiff:
        tiff.write(RGB[::4, ::4], photometric="rgb", subfiletype=1)  # a thumbnail in front
        tiff.write(RGB, photometric="rgb")
        tiff.write(255 - RGB, photometric="rgb")
    assert contents_of(tmp_path / "pages.tif").fields == 2
    assert_close(whole(tmp_path / "pages.tif", 0), RGB, 0)
    assert_close(whole(tmp_path / "pages.tif", 1), 255 - RGB, 0)
    with pytest.raises(SlideError, match="holds 2 fields"):
        open_slide(tmp_path / "pages.tif")


def test_the_content_decides_and_not_the_extension(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "really.png")
    renamed = (tmp_path / "really.png").rename(tmp_path / "claims.jpg")
    assert_close(whole(renamed), RGB, 0)


@given(st.sampled_from([8, 10, 12, 14, 16]), st.integers(0, 255))
def test_samples_are_scaled_by_the_range_they_use(bits: int, grey: int) -> None:
    full = 2**bits - 1
    samples = np.array([[full, round(grey / 255 * full)]], np.uint16)
    white, scaled = to_uint8(samples)[0].tolist()
    assert white == 255
    assert abs(scaled - grey) <= 1


def test_samples_below_zero_or_not_numbers_are_black() -> None:
    samples = np.array([[np.nan, -1.0, 0.5, 1.0, -np.inf]], np.float32)
    assert to_uint8(samples).tolist() == [[0, 0, 128, 255, 0]]
    assert to_uint8(np.array([[-5, 255]], np.int16)).tolist() == [[0, 255]]


def test_the_transparent_shows_the_background() -> None:
    pixel = np.array([[[10, 20, 30, 0]], [[10, 20, 30, 255]]], np.uint8)
    assert to_rgb(pixel, (200, 210, 220)).tolist() == [[[200, 210, 220]], [[10, 20, 30]]]


def test_names_that_are_no_utf8_can_be_opened(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.png")
    try:
        odd = (tmp_path / "a.png").rename(tmp_path / "\udcff\udce9.png")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    assert_close(whole(odd), RGB, 0)
