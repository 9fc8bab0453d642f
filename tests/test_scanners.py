"""NDPI, SCN and DICOM are read on their own grid of tiles and look as through OpenSlide, which has what is unusual."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
import tifffile
from scanners import FIELD, pyramid, write_dicom, write_ndpi, write_scn
from tiles import most_apart, opened, whole

from wbc_cli.errors import SlideError
from wbc_cli.slides import open_slide
from wbc_cli.slides.fault_tolerant import FaultTolerantReader
from wbc_cli.slides.slide import OpenSlideReader

FLUORESCENCE = Path(__file__).parents[2] / "shared" / "data" / "slides" / "fluorescence.ndpi"
LEVELS = pyramid(FIELD, 2, 4)
SCAN = pyramid(FIELD[:600, :760], 4)

PLAIN: dict[str, Callable[[Path], Path]] = {
    "ndpi": lambda folder: write_ndpi(folder / "a.ndpi", LEVELS[:2]),
    "ndpi_whole_rows": lambda folder: write_ndpi(folder / "a.ndpi", LEVELS[:1], blocks=96),
    "ndpi_422": lambda folder: write_ndpi(folder / "a.ndpi", LEVELS[:1], subsampling=1),
    "ndpi_of_three_planes": lambda folder: write_ndpi(folder / "a.ndpi", LEVELS[:1], depths=(-2000, 0, 2000)),
    "dicom": lambda folder: write_dicom(folder, LEVELS),
    "dicom_rgb": lambda folder: write_dicom(folder, LEVELS, rgb=True),
    "dicom_extended_table": lambda folder: write_dicom(folder, LEVELS, table="extended"),
    "dicom_no_table": lambda folder: write_dicom(folder, LEVELS, table="none"),
    "scn": lambda folder: write_scn(folder / "a.scn", SCAN, (100, 60), size=(1500, 1200)),
}


@pytest.mark.parametrize("kind", PLAIN)
def test_a_slide_on_its_own_grid_looks_as_in_openslide(kind: str, tmp_path: Path) -> None:
    path = PLAIN[kind](tmp_path)
    reader, reference = opened(path), OpenSlideReader(path)
    assert (reader.width, reader.height, reader.bounds) == (reference.width, reference.height, reference.bounds)
    assert (reader.um_per_px, reader.tile_size) == (reference.um_per_px, reference.tile_size)
    for region in ((0, 0, reader.width, reader.height), (96, 48, 208, 336), (reader.width - 80, 0, 80, 64)):
        assert most_apart(reader.read(*region), reference.read(*region)) <= 2
        for downsample in (2, 4, 5.3):
            coarse = [each.read(*region, downsample).astype(int) for each in (reader, reference)]
            assert np.abs(coarse[0] - coarse[1]).mean() <= 1


@pytest.mark.skipif(not FLUORESCENCE.exists(), reason=f"no vendor file {FLUORESCENCE}")
@pytest.mark.parametrize("downsample", [1, 2, 7])
def test_a_hamamatsu_slide_looks_as_in_openslide(downsample: float) -> None:
    assert most_apart(whole(opened(FLUORESCENCE), downsample), whole(OpenSlideReader(FLUORESCENCE), downsample)) <= 2


# What is left to OpenSlide


def ndpi_with_wrong_places(folder: Path) -> Path:
    path = write_ndpi(folder / "a.ndpi", LEVELS[:1])
    with tifffile.TiffFile(path) as tiff:
        places = tiff.pages.first.tags[65426]
        content = bytearray(path.read_bytes())
        shifted = (
            np.frombuffer(content, "<u4", places.count, places.valueoffset) + np.arange(places.count, dtype="u4") % 2
        )
        content[places.valueoffset : places.valueoffset + 4 * places.count] = shifted.astype("<u4").tobytes()
    path.write_bytes(content)
    return path


def dicom_of_other_colours(folder: Path) -> Path:
    path = write_dicom(folder, LEVELS)
    dataset = pydicom.dcmread(path)
    dataset.PhotometricInterpretation = "RGB"
    dataset.save_as(path)
    return path


UNUSUAL: dict[str, Callable[[Path], Path]] = {
    "ndpi_without_markers": lambda folder: write_ndpi(folder / "a.ndpi", LEVELS[:1], blocks=0),
    "ndpi_with_wrong_places_of_markers": ndpi_with_wrong_places,
    "dicom_of_other_colours": dicom_of_other_colours,
    "dicom_with_the_place_of_each_frame": lambda folder: write_dicom(folder, LEVELS, sparse=True),
    "scn_of_two_scans": lambda folder: write_scn(folder / "a.scn", SCAN, (100, 60), (300, 800), size=(1500, 1500)),
}


@pytest.mark.parametrize("kind", UNUSUAL)
def test_what_is_unusual_is_left_to_openslide(kind: str, tmp_path: Path) -> None:
    reader = open_slide(UNUSUAL[kind](tmp_path))
    assert isinstance(reader, FaultTolerantReader)
    assert isinstance(reader.reader, OpenSlideReader)


# Damage


def test_a_slide_whose_xml_is_damaged_is_refused_by_name(tmp_path: Path) -> None:
    path = PLAIN["scn"](tmp_path)
    path.write_bytes(path.read_bytes().replace(b"<collection", b"<collection<", 1))
    with pytest.raises(SlideError, match=r"a\.scn: named as a slide \(\.scn\), and OpenSlide does not know it as one"):
        open_slide(path)


def damage(path: Path) -> None:
    """Overwrite the third tile with zeros, of which the place is known."""
    level = opened(path)._levels[0]
    content = bytearray(path.read_bytes())
    start, size = int(level.offsets[2, 0]), int(level.sizes[2, 0])
    content[start + size // 2 : start + size] = bytes(size - size // 2)
    path.write_bytes(content)


@pytest.mark.parametrize("kind", PLAIN)
def test_a_damaged_tile_alone_is_white(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wbc_cli.slides.fault_tolerant.MAX_UNREADABLE_SHARE", 0.5)
    path = PLAIN[kind](tmp_path)
    before = whole(opened(path))
    level = opened(path)._levels[0]
    damage(path)
    reader = open_slide(path)
    assert isinstance(reader, FaultTolerantReader)
    after = whole(reader)
    left, top = (
        level.margins[0] + 2 % level.columns * level.tile_width,
        level.margins[1] + 2 // level.columns * level.tile_height,
    )
    tile = np.s_[top : top + level.tile_height, left : left + level.tile_width]
    assert (after[tile] == 255).all()
    elsewhere = (after != before).any(axis=2)
    elsewhere[tile] = False
    marked = [reader.gaps.hold(x, y) for y, x in np.argwhere(elsewhere)]
    assert all(marked)
    assert reader.gaps.share > 0


@pytest.mark.parametrize("kind", ["dicom", "scn"])
def test_what_is_marked_as_damaged_is_the_same_as_through_openslide(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wbc_cli.slides.fault_tolerant.MAX_UNREADABLE_SHARE", 0.5)
    path = PLAIN[kind](tmp_path)
    damage(path)
    through_openslide = OpenSlideReader(path)
    slides = opened(path), through_openslide
    readers = [FaultTolerantReader(slide, through_openslide.tile_size) for slide in slides]
    pictures = [whole(reader) for reader in readers]
    assert most_apart(*pictures) <= 2
    assert readers[0].gaps._tiles == readers[1].gaps._tiles != set()
