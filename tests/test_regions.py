"""Regions of pictures and slides are read as they lie in the file, at any size."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from tiles import FIELD, LOSSY, assert_close, write

from wbc_cli.errors import SlideError
from wbc_cli.slides import pixels
from wbc_cli.slides.image import ImageReader
from wbc_cli.slides.slide import OpenSlideReader


@pytest.fixture(scope="module", params=["plain", "slide"])
def field(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ImageReader | OpenSlideReader:
    folder = tmp_path_factory.mktemp("field")
    if request.param == "slide":
        return OpenSlideReader(write(folder / "field.tif", FIELD))
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
    path = write(tmp_path / "f.tif", FIELD, compression="jpeg", compressionargs={"level": 95})
    plain, through_openslide = ImageReader(path), OpenSlideReader(path)
    for downsample in (1, 2, 3.7):
        images = [reader.read(33, 7, 300, 250, downsample) for reader in (plain, through_openslide)]
        assert_close(images[0], images[1], LOSSY)


def test_a_coarse_read_uses_the_coarsest_level_that_is_fine_enough(tmp_path: Path) -> None:
    levels = [np.full((1024 // 4**i + i, 1030 // 4**i, 3), 50 * (i + 1), np.uint8) for i in range(3)]
    reader = OpenSlideReader(write(tmp_path / "p.tif", *levels))
    seen = {downsample: reader.read(100, 50, 800, 900, downsample).mean() for downsample in (1, 3.5, 4, 15, 16, 40)}
    assert seen == pytest.approx({1: 50, 3.5: 50, 4: 100, 15: 100, 16: 150, 40: 150}, abs=0.1)


def test_a_region_too_large_to_hold_is_read_in_bands_without_seams(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = OpenSlideReader(write(tmp_path / "f.tif", FIELD))
    for downsample, tolerance in ((1, 0), (4, 0), (2.7, 1)):  # odd factors: bands begin on whole pixels
        monkeypatch.setattr(pixels, "_BAND_PIXELS", 10**9)
        at_once = reader.read(1, 1, 400, 300, downsample)
        monkeypatch.setattr(pixels, "_BAND_PIXELS", 400 * 16)
        in_bands = reader.read(1, 1, 400, 300, downsample)
        assert np.abs(in_bands.astype(float) - at_once).mean() <= tolerance


def damaged_slide(path: Path) -> Path:
    """A tiled slide, the last tile of which is no JPEG."""
    write(path, FIELD, compression="jpeg")
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
