"""Images and slides are read as they are meant, and bad files say what is wrong with them."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from wbc_cli.errors import SlideError
from wbc_cli.slides import open_slide, slide
from wbc_cli.slides.fields import contents_of
from wbc_cli.slides.image import ImageReader
from wbc_cli.slides.pixels import to_rgb, to_uint8
from wbc_cli.slides.slide import OpenSlideReader

LOSSY = 6  # grey levels that JPEG may move a pixel of a smooth picture


def picture(height: int, width: int) -> np.ndarray:
    """A smooth one, different in its channels and not symmetric, with the full range of grey levels."""
    noise = np.random.default_rng(height * width).normal(size=(height, width, 3))
    smooth = cv2.GaussianBlur(noise, (0, 0), 5)
    low, high = smooth.min(axis=(0, 1)), smooth.max(axis=(0, 1))
    return np.rint((smooth - low) / (high - low) * 255).astype(np.uint8)


RGB = picture(96, 130)
GREY = RGB[..., 0]
ALPHA = np.tile(np.linspace(0, 255, 130).astype(np.uint8), (96, 1))
ON_WHITE = np.rint(RGB * (ALPHA[..., None] / 255) + 255.0 - ALPHA[..., None]).astype(np.uint8)


def whole(path: Path, field: int | None = None) -> np.ndarray:
    reader = open_slide(path, field)
    image = reader.read(0, 0, reader.width, reader.height)
    reader.close()
    return image


def assert_close(image: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    if expected.ndim == 2:
        expected = np.repeat(expected[..., None], 3, axis=2)
    assert image.dtype == np.uint8
    assert image.shape == expected.shape
    difference = int(np.abs(image.astype(int) - expected.astype(int)).max())
    assert difference <= tolerance


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


# Bad files


def png_header(width: int, height: int) -> bytes:
    header = struct.pack(">4sIIBBBBB", b"IHDR", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I4s", 0, b"IDAT") + bytes(4)


BAD_FILES = {
    "text.png": (b"this is no picture, it is a text", "not a PNG"),
    "empty.png": (b"", "empty"),
    "empty.tif": (b"", "empty"),
    "empty.svs": (b"", "empty"),
    "signature_only.tif": (b"II*\0\x08\0\0\0", "damaged"),
    "signature_only.png": (b"\x89PNG\r\n\x1a\n", "cut short"),
    "signature_only.jpg": (b"\xff\xd8\xff", "cut short"),
    "signature_only.bmp": (b"BM", "cut short"),
    "header_only.png": (png_header(10, 10), "cut short"),
    "bomb.png": (png_header(60_000, 60_000), "too many"),
    "bomb.jpg": (b"\xff\xd8\xff\xc0\0\x11\x08" + struct.pack(">HH", 65_000, 65_000) + bytes(30), "too many"),
    "bomb.bmp": (b"BM" + bytes(12) + struct.pack("<IiiHHIIii", 40, 99_999, -99_999, 1, 24, 0, 0, 0, 0), "too many"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_named_with_the_reason(name: str, tmp_path: Path) -> None:
    content, reason = BAD_FILES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SlideError, match=reason) as error:
        open_slide(tmp_path / name)
    assert str(tmp_path / name) in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SlideError, match=r"gone\.svs.*No such file"):
        open_slide(tmp_path / "gone.svs")


def test_a_tiff_too_large_to_hold_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "bomb.tif", RGB, photometric="rgb")
    with tifffile.TiffFile(tmp_path / "bomb.tif", mode="r+b") as tiff:
        tiff.pages[0].tags["ImageWidth"].overwrite(60_000)
        tiff.pages[0].tags["ImageLength"].overwrite(60_000)
    with pytest.raises(SlideError, match=r"too many.*pyramidal"):
        open_slide(tmp_path / "bomb.tif")


@pytest.mark.parametrize("share", [0.3, 0.7, 0.99])
@pytest.mark.parametrize("zeros", [False, True], ids=["cut", "zeros"])
@pytest.mark.parametrize("suffix", ["jpg", "progressive.jpg", "png", "bmp", "jpeg.tif", "lzw.tif"])
def test_a_half_copied_picture_is_an_error_and_never_half_grey(
    suffix: str, zeros: bool, share: float, tmp_path: Path
) -> None:
    if zeros and suffix in {"bmp", "jpeg.tif", "lzw.tif"}:
        pytest.skip("zeros are valid pixels, or the directory at the end is lost")
    path = tmp_path / f"x.{suffix}"
    if suffix.endswith("tif"):
        tifffile.imwrite(path, RGB, photometric="rgb", compression=suffix.removesuffix(".tif"))
    else:
        Image.fromarray(RGB).save(path, progressive="progressive" in suffix)
    content = path.read_bytes()
    kept = int(len(content) * share)
    path.write_bytes(content[:kept] + (bytes(len(content) - kept) if zeros else b""))
    with pytest.raises(SlideError, match="cut short"):
        open_slide(path)


def test_a_thumbnail_does_not_hide_that_a_jpeg_is_cut_short(tmp_path: Path) -> None:
    thumbnail = cv2.imencode(".jpg", RGB[::4, ::4])[1].tobytes()  # has an end-of-image marker of its own
    content = cv2.imencode(".jpg", RGB)[1].tobytes()
    with_thumbnail = content[:2] + b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail + content[2:]
    path = tmp_path / "t.jpg"
    path.write_bytes(with_thumbnail)
    assert whole(path).shape == RGB.shape
    path.write_bytes(with_thumbnail[: -len(content) // 2])
    with pytest.raises(SlideError, match="cut short"):
        open_slide(path)


# Regions


def tiled(path: Path, *levels: np.ndarray, **options: object) -> Path:
    with tifffile.TiffWriter(path) as tiff:
        for i, level in enumerate(levels):
            tiff.write(level, tile=(64, 64), photometric="rgb", subfiletype=int(i > 0), metadata=None, **options)
    return path


FIELD = picture(301, 407)


@pytest.fixture(scope="module", params=["plain", "slide"])
def field(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ImageReader | OpenSlideReader:
    folder = tmp_path_factory.mktemp("field")
    if request.param == "slide":
        return OpenSlideReader(tiled(folder / "field.tif", FIELD))
    Image.fromarray(FIELD).save(folder / "field.png")
    return ImageReader(folder / "field.png")


@st.composite
def regions(draw: st.DrawFn, multiple: int = 1) -> tuple[int, int, int, int]:
    height, width = FIELD.shape[:2]
    w = draw(st.integers(1, width // multiple)) * multiple
    h = draw(st.integers(1, height // multiple)) * multiple
    return draw(st.integers(0, width - w)), draw(st.integers(0, height - h)), w, h


relaxed = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@relaxed
@given(region=regions())
def test_a_region_at_full_resolution_is_that_part_of_the_picture(
    field: ImageReader | OpenSlideReader, region: tuple[int, int, int, int]
) -> None:
    x, y, w, h = region
    assert np.array_equal(field.read(x, y, w, h), FIELD[y : y + h, x : x + w])


@relaxed
@given(data=st.data(), downsample=st.sampled_from([2, 4]))
def test_a_smaller_picture_is_the_average_of_what_it_stands_for(
    field: ImageReader | OpenSlideReader, data: st.DataObject, downsample: int
) -> None:
    x, y, w, h = data.draw(regions(downsample))
    cut = FIELD[y : y + h, x : x + w].astype(float)
    average = cut.reshape(h // downsample, downsample, w // downsample, downsample, 3).mean(axis=(1, 3))
    assert np.abs(field.read(x, y, w, h, downsample) - average).max() <= 0.5


@relaxed
@given(region=regions(), downsample=st.floats(1.0, 500.0))
def test_the_size_of_a_region_is_as_promised(
    field: ImageReader | OpenSlideReader, region: tuple[int, int, int, int], downsample: float
) -> None:
    x, y, w, h = region
    image = field.read(x, y, w, h, downsample)
    assert image.shape == (max(1, round(h / downsample)), max(1, round(w / downsample)), 3)
    assert image.flags.c_contiguous


def test_a_region_is_the_callers_own(field: ImageReader | OpenSlideReader) -> None:
    field.read(0, 0, field.width, field.height)[:] = 0
    assert np.array_equal(field.read(0, 0, 50, 50), FIELD[:50, :50])


def test_plain_and_slide_readers_agree(tmp_path: Path) -> None:
    path = tiled(tmp_path / "f.tif", FIELD, compression="jpeg", compressionargs={"level": 95})
    plain, through_openslide = ImageReader(path), OpenSlideReader(path)
    for downsample in (1, 2, 3.7):
        images = [reader.read(33, 7, 300, 250, downsample) for reader in (plain, through_openslide)]
        assert_close(images[0], images[1], LOSSY)


def test_a_coarse_read_uses_the_coarsest_level_that_is_fine_enough(tmp_path: Path) -> None:
    levels = [np.full((1024 // 4**i + i, 1030 // 4**i, 3), 50 * (i + 1), np.uint8) for i in range(3)]
    reader = OpenSlideReader(tiled(tmp_path / "p.tif", *levels))
    seen = {downsample: reader.read(100, 50, 800, 900, downsample).mean() for downsample in (1, 3.5, 4, 15, 16, 40)}
    assert seen == pytest.approx({1: 50, 3.5: 50, 4: 100, 15: 100, 16: 150, 40: 150}, abs=0.1)


def test_a_region_too_large_to_hold_is_read_in_bands_without_seams(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = OpenSlideReader(tiled(tmp_path / "f.tif", FIELD))
    for downsample, tolerance in ((1, 0), (4, 0), (2.7, 1)):  # odd factors: bands begin on whole pixels
        monkeypatch.setattr(slide, "_BAND_PIXELS", 10**9)
        at_once = reader.read(1, 1, 400, 300, downsample)
        monkeypatch.setattr(slide, "_BAND_PIXELS", 400 * 16)
        in_bands = reader.read(1, 1, 400, 300, downsample)
        assert np.abs(in_bands.astype(float) - at_once).mean() <= tolerance


def damaged_slide(path: Path) -> Path:
    """A tiled slide, the last tile of which is no JPEG."""
    tiled(path, FIELD, compression="jpeg")
    with tifffile.TiffFile(path) as tiff:
        start, size = tiff.pages[0].dataoffsets[-1], tiff.pages[0].databytecounts[-1]
    content = bytearray(path.read_bytes())
    content[start : start + size] = bytes(size)
    path.write_bytes(content)
    return path


def test_an_unreadable_region_is_an_error_and_the_rest_can_be_read(tmp_path: Path) -> None:
    reader = OpenSlideReader(damaged_slide(tmp_path / "d.tif"))
    for _ in range(2):
        with pytest.raises(SlideError, match=r"d\.tif: the region"):
            reader.read(380, 280, 20, 20)
        assert_close(reader.read(0, 0, 64, 64), FIELD[:64, :64], 20)


def test_an_unreadable_region_harms_no_other_thread(tmp_path: Path) -> None:
    reader = OpenSlideReader(damaged_slide(tmp_path / "d.tif"))

    def read(i: int) -> bool:
        bad = i % 3 == 0
        try:
            reader.read(*((380, 280) if bad else (0, 0)), 20, 20)
        except SlideError:
            return bad
        return not bad

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(300)))


def test_names_that_are_no_utf8_can_be_opened(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.png")
    try:
        odd = (tmp_path / "a.png").rename(tmp_path / "\udcff\udce9.png")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    assert_close(whole(odd), RGB, 0)


def test_importing_the_package_loads_no_heavy_library() -> None:
    code = "import sys, wbc_cli.slides, wbc_cli.slides.discover as d; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "wbc_cli.slides.discover" in loaded
    assert not {"cv2", "openslide", "tifffile", "numpy", "PIL"} & set(loaded)
