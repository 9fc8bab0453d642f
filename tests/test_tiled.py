"""Tiled TIFF and SVS are read without OpenSlide and look the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from tiles import APERIO, FIELD, FILES, TILE, most_apart, opened, picture, whole, write, write_jpeg

from wbc_cli.slides import pixels
from wbc_cli.slides.reader import SlideReader
from wbc_cli.slides.slide import OpenSlideReader
from wbc_cli.slides.tiled import TileGridReader
from wbc_cli.synthetic.slide import write_slide

CMU = Path(__file__).parents[2] / "shared" / "data" / "slides" / "CMU-1-Small-Region.svs"
JPEG_ROUNDING = 2  # grey levels between two builds of libjpeg


@pytest.mark.parametrize("kind", FILES)
def test_a_tiled_tiff_looks_as_in_openslide(kind: str, tmp_path: Path) -> None:
    path = FILES[kind](tmp_path / "f.tif")
    reader = opened(path)
    image, reference = whole(reader), whole(OpenSlideReader(path))
    lossy = kind.startswith("jpeg")
    assert most_apart(image, reference) <= (JPEG_ROUNDING if lossy else 0)
    assert np.abs(image.astype(float) - FIELD).mean() <= (5 if lossy else 0)


def test_jpeg_2000_is_read_that_openslide_does_not_know(tmp_path: Path) -> None:
    assert most_apart(whole(opened(write(tmp_path / "f.tif", FIELD, compression="jpeg2000"))), FIELD) <= 1


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("demo") / "slide.svs"
    write_slide(path, 1024, 0.25, 20, 1)
    return path


@pytest.mark.parametrize("downsample", [1, 4, 5.3, 16])
def test_a_synthetic_slide_looks_as_in_openslide_at_each_level(demo: Path, downsample: float) -> None:
    reader, reference = opened(demo), OpenSlideReader(demo)
    regions = [(0, 0, 1024, 1024), (208, 512, 320, 256)]
    for region in regions:
        assert most_apart(reader.read(*region, downsample), reference.read(*region, downsample)) <= JPEG_ROUNDING
    assert reader.um_per_px == reference.um_per_px == 0.25


@pytest.mark.skipif(not CMU.exists(), reason=f"no vendor file {CMU}")
def test_an_aperio_slide_looks_as_in_openslide() -> None:
    reader, reference = opened(CMU), OpenSlideReader(CMU)
    for region in ((0, 0, 2220, 600), (1901, 2403, 319, 564)):
        assert most_apart(reader.read(*region), reference.read(*region)) <= JPEG_ROUNDING
    coarse = [each.read(480, 240, 960, 960, 8).astype(int) for each in (reader, reference)]
    assert np.abs(coarse[0] - coarse[1]).mean() <= 0.5
    assert reader.um_per_px == reference.um_per_px == pytest.approx(0.499)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"resolution": (40_000, 40_000), "resolutionunit": "CENTIMETER"},
        {"resolution": (101_600, 101_600), "resolutionunit": "INCH"},
        {"resolution": (300, 300), "resolutionunit": "INCH"},
        {"resolution": (4, 4), "resolutionunit": "NONE"},
        {"description": "<OME><Image><Pixels PhysicalSizeX='0.3'/></Image></OME>"},
        {"description": APERIO},
        {"description": "Aperio\r\n|AppMag = 20|MPP = 0,25", "resolution": (1, 1), "resolutionunit": "INCH"},
        {"description": "Aperio\r\n|MPP = 99"},
        {"description": "Aperio\r\n|AppMag = 20", "resolution": (40_000, 40_000), "resolutionunit": "CENTIMETER"},
    ],
)
def test_the_scale_is_that_of_openslide(options: dict[str, object], tmp_path: Path) -> None:
    path = write(tmp_path / "f.tif", FIELD, **options)
    expected = OpenSlideReader(path).um_per_px
    assert opened(path).um_per_px == (None if expected is None else pytest.approx(expected))


# Regions


@pytest.fixture(scope="module", params=["lzw", "jpeg_420"])
def field(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TileGridReader:
    return opened(FILES[request.param](tmp_path_factory.mktemp("field") / "f.tif"))


@st.composite
def regions(draw: st.DrawFn, smallest: int = 1) -> tuple[int, int, int, int]:
    height, width = FIELD.shape[:2]
    w, h = draw(st.integers(smallest, width)), draw(st.integers(smallest, height))
    return draw(st.integers(0, width - w)), draw(st.integers(0, height - h)), w, h


@settings(max_examples=60)
@given(region=regions())
def test_any_region_is_that_part_of_the_picture(field: TileGridReader, region: tuple[int, int, int, int]) -> None:
    x, y, w, h = region
    assert np.array_equal(field.read(*region), whole(field)[y : y + h, x : x + w])


@settings(max_examples=60)
@given(region=regions(), downsample=st.floats(1, 500))
def test_the_size_of_a_region_is_as_promised(
    field: TileGridReader, region: tuple[int, int, int, int], downsample: float
) -> None:
    image = field.read(*region, downsample)
    assert image.shape == (max(1, round(region[3] / downsample)), max(1, round(region[2] / downsample)), 3)
    assert image.flags.c_contiguous


def test_a_region_is_the_callers_own(field: TileGridReader) -> None:
    before = whole(field)
    for region in ((0, 0, TILE, TILE), (0, 0, 407, 301)):
        field.read(*region)[:] = 0
    assert np.array_equal(whole(field), before)


@pytest.mark.parametrize("downsample", [2, 4, 8])
def test_without_a_coarse_level_jpeg_is_shrunk_close_to_the_average(downsample: int, tmp_path: Path) -> None:
    image = picture(320, 448)
    reader = opened(write_jpeg(tmp_path / "f.tif", image, rgb=False, marked=True, tables=False, subsampling=2))
    shape = (320 // downsample, downsample, 448 // downsample, downsample, 3)
    difference = np.abs(whole(reader, downsample) - whole(reader).reshape(shape).mean(axis=(1, 3)))
    assert difference.max() <= 8
    assert difference.mean() <= 1


@settings(max_examples=60)
@given(region=regions(smallest=20), downsample=st.floats(1, 20))
@pytest.mark.parametrize("axis", [0, 1])
def test_a_coarse_region_shows_its_place_within_half_a_pixel(
    axis: int, region: tuple[int, int, int, int], downsample: float, ramps: list[TileGridReader]
) -> None:
    x, y, w, h = region
    seen = ramps[axis].read(*region, downsample)[..., 0].mean(axis=axis) * 2
    pixel = (w, h)[axis] / len(seen)
    places = (x, y)[axis] + (np.arange(len(seen)) + 0.5) * pixel
    assert np.abs(seen - places).max() <= pixel / 2 + 3  # pixels of the full picture; a grey level is two of them


@pytest.fixture(scope="module")
def ramps(tmp_path_factory: pytest.TempPathFactory) -> list[TileGridReader]:
    """The grey level tells the place: half of x, half of y."""
    y, x = np.mgrid[:301, :407]
    folder = tmp_path_factory.mktemp("ramps")
    levels = [np.repeat((place // 2).astype(np.uint8)[..., None], 3, axis=2) for place in (x, y)]
    options = {"rgb": False, "marked": True, "tables": False, "padding": 0}
    return [opened(write_jpeg(folder / f"{i}.tif", level, **options)) for i, level in enumerate(levels)]


@pytest.mark.parametrize("downsample", [1, 2, 3.3, 4, 8, 30])
def test_what_lies_beyond_the_edge_of_the_picture_is_not_mixed_in(downsample: float, tmp_path: Path) -> None:
    grey = np.full((301, 407, 3), 200, np.uint8)
    options = {"rgb": False, "marked": True, "tables": False, "padding": 0}
    image = whole(opened(write_jpeg(tmp_path / "f.tif", grey, **options)), downsample)
    assert np.abs(image.astype(int) - 200).max() <= 10  # JPEG's own ringing


@pytest.mark.parametrize("kind", ["lzw", "jpeg_420"])
@pytest.mark.parametrize("downsample", [1, 4, 2.7])
def test_a_region_too_large_to_hold_is_read_in_bands_without_seams(
    kind: str, downsample: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = opened(FILES[kind](tmp_path / "f.tif"))
    at_once = reader.read(1, 1, 400, 300, downsample)
    monkeypatch.setattr(pixels, "_BAND_PIXELS", 400 * 16)
    in_bands = reader.read(1, 1, 400, 300, downsample)
    assert np.abs(in_bands.astype(float) - at_once).mean() <= (1.5 if downsample == 2.7 else 0)


# Levels


def flat(*sizes: tuple[int, int]) -> list[np.ndarray]:
    """Pictures of these heights and widths, the first of grey level 50, the second of 100, and so on."""
    return [np.full((*size, 3), 50 * (i + 1), np.uint8) for i, size in enumerate(sizes)]


def seen(reader: SlideReader) -> dict[float, float]:
    return {downsample: reader.read(0, 0, 1024, 1000, downsample).mean() for downsample in (1, 3.5, 4, 15, 16, 40)}


EACH_LEVEL = pytest.approx({1: 50, 3.5: 50, 4: 100, 15: 100, 16: 150, 40: 150}, abs=1)


@pytest.mark.parametrize("compression", ["none", "jpeg"])
def test_the_coarsest_level_that_is_fine_enough_is_read(compression: str, tmp_path: Path) -> None:
    levels = flat((1024, 1030), (257, 258), (66, 64))  # rounded as other programs do
    assert seen(opened(write(tmp_path / "p.tif", *levels, compression=compression))) == EACH_LEVEL


def test_levels_in_sub_directories_of_ome_tiff_are_read(tmp_path: Path) -> None:
    path = tmp_path / "p.ome.tif"
    full, *smaller = flat((1000, 1024), (250, 256), (63, 64))
    with tifffile.TiffWriter(path, bigtiff=True, ome=True) as tiff:
        options = {"tile": (TILE, TILE), "photometric": "rgb", "compression": "jpeg"}
        scale = {"axes": "YXS", "PhysicalSizeX": 0.2, "PhysicalSizeXUnit": "µm"}
        tiff.write(full, subifds=2, metadata=scale, **options)
        for level in smaller:
            tiff.write(level, subfiletype=1, **options)
    reader = opened(path)
    assert reader.um_per_px == 0.2
    assert seen(reader) == EACH_LEVEL


def test_what_is_no_smaller_copy_of_the_slide_is_no_level(tmp_path: Path) -> None:
    levels = flat((1000, 1024), (256, 300), (63, 64))
    with tifffile.TiffWriter(tmp_path / "p.svs") as tiff:
        tiff.write(levels[0], tile=(TILE, TILE), photometric="rgb", description=APERIO, metadata=None)
        tiff.write(levels[1], tile=(TILE, TILE), photometric="rgb", metadata=None)  # a label
        tiff.write(levels[2], rowsperstrip=16, photometric="rgb", metadata=None)  # a thumbnail
    assert set(seen(opened(tmp_path / "p.svs")).values()) == {50}
