"""Unusual tiled TIFFs are left to OpenSlide, damaged tiles are errors that tell the place, and threads do no harm."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tifffile
from tiles import APERIO, FIELD, FILES, TILE, most_apart, opened, whole, write

from wbc_cli.errors import SlideError
from wbc_cli.slides import open_slide, tiled
from wbc_cli.slides.fault_tolerant import FaultTolerantReader
from wbc_cli.slides.slide import OpenSlideReader
from wbc_cli.slides.tile_cache import TileCache
from wbc_cli.slides.tiled import TileGridReader

# What is left to OpenSlide


def with_an_empty_tile(path: Path) -> Path:
    write(path, FIELD, compression="jpeg", description=APERIO)
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        counts = tiff.pages[0].tags["TileByteCounts"]
        counts.overwrite([0, *counts.value[1:]])
    return path


def with_tag(path: Path, name: str, value: int) -> Path:
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        tiff.pages[0].tags[name].overwrite(value)
    return path


UNUSUAL = {
    "missing_tile": with_an_empty_tile,
    "16_bit": lambda path: write(path, FIELD.astype(np.uint16) * 257),
    "grey": lambda path: write(path, FIELD[..., 0], photometric="minisblack"),
    "alpha": lambda path: write(path, np.dstack([FIELD, FIELD[..., :1]]), extrasamples=["unassalpha"]),
    "planar": lambda path: write(path, np.moveaxis(FIELD, 2, 0), planarconfig="separate"),
    "stripped": lambda path: write(path, FIELD, tile=None),
    "packbits": lambda path: write(path, FIELD, compression="packbits"),
    "turned": lambda path: write(path, FIELD, extratags=[(274, 3, 1, 3, True)]),
    "thumbnail_first": lambda path: write(path, FIELD, subfiletype=1),
    "jfif_called_rgb": lambda path: with_tag(FILES["jpeg_ycbcr"](path), "PhotometricInterpretation", 2),
    "adobe_called_ycbcr": lambda path: with_tag(FILES["jpeg_rgb"](path), "PhotometricInterpretation", 6),
}


@pytest.mark.parametrize("kind", UNUSUAL)
def test_the_unusual_is_left_to_the_other_readers(kind: str, tmp_path: Path) -> None:
    path = UNUSUAL[kind](tmp_path / "u.tif")
    assert TileGridReader.open_plain(path) is None
    reader = open_slide(path)
    assert reader.read(0, 0, TILE, TILE).shape == (TILE, TILE, 3)
    assert (reader.width, reader.height) == (407, 301)


def test_levels_of_different_formats_are_left_to_openslide(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "p.tif") as tiff:
        for i, compression in enumerate(["jpeg", "lzw"]):
            level = FIELD[:300, :400][:: 1 + i, :: 1 + i]
            tiff.write(level, tile=(TILE, TILE), photometric="rgb", subfiletype=i, compression=compression)
    reader = open_slide(tmp_path / "p.tif")
    assert isinstance(reader, FaultTolerantReader)
    assert isinstance(reader.reader, OpenSlideReader)


def test_a_tile_beyond_the_end_of_the_file_is_an_error(tmp_path: Path) -> None:
    path = FILES["jpeg_rgb"](tmp_path / "b.tif")
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        offsets = tiff.pages[0].tags["TileOffsets"]
        offsets.overwrite([*offsets.value[:-1], path.stat().st_size - 50])
    assert TileGridReader.open_plain(path) is None
    with pytest.raises(SlideError, match=r"b\.tif"):
        whole(open_slide(path))


# Sizes that cannot be true


def with_sizes(path: Path, side: int, tile: int) -> Path:
    """A small slide whose header claims other sizes."""
    write(path, FIELD, compression="jpeg")
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        tags = tiff.pages[0].tags
        for name, value in (("ImageWidth", side), ("ImageLength", side), ("TileWidth", tile), ("TileLength", tile)):
            tags[name].overwrite(value)
    return path


@pytest.mark.parametrize("side", [5_000, 100_000, 1_000_000])
def test_a_slide_with_fewer_tiles_than_its_size_takes_is_refused_and_not_shown_blank(side: int, tmp_path: Path) -> None:
    with pytest.raises(SlideError, match=r"b\.tif: lists 35 tiles, and its .* pixels take \d+\. Copy it again"):
        open_slide(with_sizes(tmp_path / "b.tif", side, TILE))


def test_a_slide_of_one_tile_too_large_to_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SlideError, match=r"b\.tif: says that it has .* in tiles of up to 100000 x 100000, which no"):
        open_slide(with_sizes(tmp_path / "b.tif", 100_000, 100_000))


def test_a_slide_larger_than_any_glass_is_refused(tmp_path: Path) -> None:
    path, side, tile = tmp_path / "b.tif", 1_000_000, 4096
    write(path, np.full((tile, tile, 3), 200, np.uint8), tile=(tile, tile), compression="jpeg")
    for name in ("ImageWidth", "ImageLength", "TileOffsets", "TileByteCounts"):  # all tiles are the first one
        with tifffile.TiffFile(path, mode="r+b") as tiff:
            tag = tiff.pages[0].tags[name]
            tag.overwrite(side if name.startswith("Image") else [tag.value[0]] * (-(-side // tile)) ** 2)
    with pytest.raises(SlideError, match=r"b\.tif: says that it has 1000000 x 1000000 pixels"):
        open_slide(path)


@pytest.mark.parametrize("content", [b"", b"II*\0\x08\0\0\0", b"\x89PNG\r\n\x1a\n", b"a text"])
def test_what_is_no_tiff_is_left_to_the_other_readers(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.tif").write_bytes(content)
    assert TileGridReader.open_plain(tmp_path / "x.tif") is None
    assert TileGridReader.open_plain(tmp_path / "missing.tif") is None


# Damage


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("kind", ["lzw", "deflate", "jpeg_2000", "jpeg", "jpeg_rgb_aperio", "jpeg_420"])
def test_a_damaged_tile_is_an_error_that_tells_the_place_and_the_rest_can_be_read(
    kind: str, share: float, tmp_path: Path
) -> None:
    path = FILES[kind](tmp_path / "d.tif")
    with tifffile.TiffFile(path) as tiff:
        start, size = (values[8] for values in (tiff.pages[0].dataoffsets, tiff.pages[0].databytecounts))
    content = bytearray(path.read_bytes())
    kept = start + int(size * share)
    content[kept : start + size] = bytes(start + size - kept)
    path.write_bytes(content)
    reader = opened(path)
    for downsample in (1, 4):
        with pytest.raises(SlideError, match=r"d\.tif: the region of 64 x 64 pixels at \(64, 64\) .*Copy the slide"):
            reader.read(60, 60, 20, 20, downsample)
        assert most_apart(reader.read(128, 64, 64, 64), FIELD[64:128, 128:192]) <= 20


def test_a_file_that_is_cut_short_meanwhile_is_an_error(tmp_path: Path) -> None:
    path = FILES["jpeg"](tmp_path / "c.tif")
    reader = opened(path)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    with pytest.raises(SlideError, match=r"c\.tif: the region .*the file ends before its pixels do"):
        whole(reader)


def test_padding_behind_a_tile_is_no_damage(tmp_path: Path) -> None:
    path = FILES["jpeg"](tmp_path / "p.tif")
    expected = whole(opened(path))
    with tifffile.TiffFile(path) as tiff:
        places = list(zip(tiff.pages[0].dataoffsets, tiff.pages[0].databytecounts, strict=True))
    content = path.read_bytes()
    padded = (content[start : start + size] + bytes(7) for start, size in places)
    options = {"shape": FIELD.shape, "dtype": np.uint8, "compression": "jpeg", "subsampling": (2, 2)}
    assert np.array_equal(whole(opened(write(path, padded, **options))), expected)


# Threads and memory


def test_threads_that_share_a_reader_see_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiled, "_CACHE_BYTES", 5 * TILE * TILE * 3)  # tiles come and go
    reader = opened(FILES["jpeg_420"](tmp_path / "f.tif"))
    rng = np.random.default_rng(0)
    places = [(int(rng.integers(0, 300)), int(rng.integers(0, 200)), downsample) for downsample in (1, 1, 2) * 40]

    def read(place: tuple[int, int, int]) -> np.ndarray:
        x, y, downsample = place
        return reader.read(x, y, 100, 100, downsample)

    expected = [read(place) for place in places]
    with ThreadPoolExecutor(8) as pool:
        assert all(map(np.array_equal, pool.map(read, places), expected))


def test_the_tiles_used_last_are_kept_within_the_limit() -> None:
    tiles = [np.full((10, 10, 3), i, np.uint8) for i in range(4)]
    cache = TileCache(3 * 300)
    for i in range(3):
        cache.put(i, tiles[i])
    assert cache.get(0) is tiles[0]
    cache.put(3, tiles[3])
    assert [cache.get(i) is not None for i in range(4)] == [True, False, True, True]
