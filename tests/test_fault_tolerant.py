"""A few unreadable tiles do not fail a slide: they are counted and reported, and nothing is made up in their place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from conftest import spots
from fakes import rows
from hypothesis import given, settings
from hypothesis import strategies as st
from tiles import TILE, most_apart, picture, write

from wbc_cli.cells import Cell, SlideResult
from wbc_cli.errors import SlideError
from wbc_cli.inference.coarse import slide_background, slide_colours
from wbc_cli.inference.pipeline import Analyser
from wbc_cli.inference.search import Search
from wbc_cli.products.folder import RunFolder
from wbc_cli.resources.parallel import Tasks
from wbc_cli.run.loading import ComputeOptions, load_analyser
from wbc_cli.slides import open_slide
from wbc_cli.slides.fault_tolerant import FaultTolerantReader
from wbc_cli.slides.slide import OpenSlideReader
from wbc_cli.synthetic.slide import write_slide

HEIGHT, WIDTH = 1400, 1500  # 22 x 24 tiles: five are less than 1 %
FIELD = picture(HEIGHT, WIDTH)
COLUMNS = 24
BAD = [100, 300, 301]  # tiles, row by row
WHITE = 255


def unreadable(path: Path, *tiles: int, level: int = 0) -> Path:
    """Overwrite tiles with zeros, as a bad disk does."""
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[level]
        places = [(page.dataoffsets[tile], page.databytecounts[tile]) for tile in tiles]
    with path.open("r+b") as file:
        for start, size in places:
            file.seek(start)
            file.write(bytes(size))
    return path


def corner(tile: int) -> tuple[int, int]:
    return tile % COLUMNS * TILE, tile // COLUMNS * TILE


def holes(*tiles: int) -> np.ndarray:
    inside = np.zeros((HEIGHT, WIDTH), bool)
    for x, y in map(corner, tiles):
        inside[y : y + TILE, x : x + TILE] = True
    return inside


def on_own_grid(path: Path) -> FaultTolerantReader:
    reader = open_slide(path)
    assert isinstance(reader, FaultTolerantReader)
    assert not isinstance(reader.reader, OpenSlideReader)
    return reader


def through_openslide(path: Path) -> FaultTolerantReader:
    slide = OpenSlideReader(path)
    return FaultTolerantReader(slide, slide.tile_size)


Opened = Callable[[Path], FaultTolerantReader]
each_reader = pytest.mark.parametrize("opened", [on_own_grid, through_openslide])


@pytest.fixture(scope="module", params=[on_own_grid, through_openslide], ids=lambda function: function.__name__)
def damaged(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FaultTolerantReader:
    path = tmp_path_factory.mktemp("damaged") / "d.tif"
    return request.param(unreadable(write(path, FIELD, compression="lzw"), *BAD))


@settings(max_examples=25)
@given(data=st.data())
def test_what_can_be_read_is_read_and_the_rest_is_white(damaged: FaultTolerantReader, data: st.DataObject) -> None:
    w, h = data.draw(st.integers(1, WIDTH)), data.draw(st.integers(1, HEIGHT))
    x, y = data.draw(st.integers(0, WIDTH - w)), data.draw(st.integers(0, HEIGHT - h))
    expected = np.where(holes(*BAD)[..., None], np.uint8(WHITE), FIELD)
    assert np.array_equal(damaged.read(x, y, w, h), expected[y : y + h, x : x + w])


@pytest.mark.parametrize("downsample", [2, 4, 16])
def test_a_smaller_picture_is_white_there_and_the_same_elsewhere(
    damaged: FaultTolerantReader, downsample: int, tmp_path: Path
) -> None:
    region = (0, 0, 23 * TILE, 21 * TILE)  # so that tile borders are pixel borders
    expected = on_own_grid(write(tmp_path / "h.tif", FIELD, compression="lzw")).read(*region, downsample)
    expected[holes(*BAD)[: region[3] : downsample, : region[2] : downsample]] = WHITE
    assert np.array_equal(damaged.read(*region, downsample), expected)


@pytest.mark.parametrize("downsample", [1.7, 5.3, 30])
def test_at_any_downsample_everything_is_in_its_place(damaged: FaultTolerantReader, downsample: float) -> None:
    image = damaged.read(3, 5, WIDTH - 10, HEIGHT - 10, downsample)
    patched = np.where(holes(*BAD)[..., None], np.uint8(WHITE), FIELD)[5:-5, 3:-7]
    expected = cv2.resize(patched, image.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert image.shape == (round((HEIGHT - 10) / downsample), round((WIDTH - 10) / downsample), 3)

    def apart(dx: int, dy: int) -> float:
        moved = np.roll(expected, (dy, dx), axis=(0, 1))
        return float(np.abs(image.astype(int) - moved)[1:-1, 1:-1].mean())

    assert 2 * apart(0, 0) < min(apart(1, 0), apart(-1, 0), apart(0, 1), apart(0, -1))


def test_an_unreadable_tile_counts_once_however_often_it_is_met(damaged: FaultTolerantReader) -> None:
    def read(i: int) -> None:
        damaged.read(7 * i, 5 * i, WIDTH - 20 * i, HEIGHT - 20 * i, 1 + i)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(read, [0, 7, 3, 3, 0]))
    assert damaged.gaps.share == len(BAD) * TILE**2 / (WIDTH * HEIGHT)


def test_a_tile_at_the_edge_counts_as_far_as_the_slide_goes(tmp_path: Path) -> None:
    reader = on_own_grid(unreadable(write(tmp_path / "e.tif", FIELD, compression="jpeg"), 22 * COLUMNS - 1))
    reader.read(0, 0, WIDTH, HEIGHT, 8)
    assert reader.gaps.share == (WIDTH % TILE) * (HEIGHT % TILE) / (WIDTH * HEIGHT)


@each_reader
def test_too_many_unreadable_tiles_fail_the_slide_with_its_name_and_the_share(opened: Opened, tmp_path: Path) -> None:
    reader = opened(unreadable(write(tmp_path / "many.tif", FIELD, compression="jpeg"), *range(40, 46)))
    with pytest.raises(SlideError, match=r"many\.tif: 1\.2 % of the slide .*, more than 1%.*Copy the slide again"):
        reader.read(0, 0, WIDTH, HEIGHT, 4)
    assert most_apart(reader.read(0, 1000, 64, 64), FIELD[1000:1064, :64]) <= 20


@each_reader
def test_the_full_picture_stands_in_for_a_damaged_level(opened: Opened, tmp_path: Path) -> None:
    small = FIELD.reshape(HEIGHT // 4, 4, WIDTH // 4, 4, 3).mean(axis=(1, 3)).round().astype(np.uint8)
    path = write(tmp_path / "level.tif", FIELD, small, compression="lzw")
    expected = opened(path).read(0, 0, WIDTH, HEIGHT, 4)
    reader = opened(unreadable(path, 7, 8, 14, level=1))
    assert most_apart(reader.read(0, 0, WIDTH, HEIGHT, 4), expected) <= 1
    assert reader.gaps.share == 0


@each_reader
@pytest.mark.parametrize("lost", [3, 200], ids=["a_little", "much"])
def test_a_file_that_is_cut_short_meanwhile_is_as_one_with_unreadable_tiles(
    opened: Opened, lost: int, tmp_path: Path
) -> None:
    path = write(tmp_path / "cut.tif", FIELD)
    reader = opened(path)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - lost * TILE * TILE * 3)
    if lost > 5:
        with pytest.raises(SlideError, match=r"cut\.tif: .* of the slide cannot be decoded"):
            reader.read(0, 0, WIDTH, HEIGHT)
        return
    expected = FIELD.copy()
    expected[-(HEIGHT % TILE) :, (COLUMNS - lost) * TILE :] = WHITE
    assert np.array_equal(reader.read(0, 0, WIDTH, HEIGHT), expected)


# The analysis of a slide with unreadable tiles

SIDE, SLIDE_TILE, UM_PER_PX = 3840, 256, 0.25  # 15 x 15 tiles: two of them are less than 1 %
ACROSS = SIDE // SLIDE_TILE


@pytest.fixture(scope="module")
def smear(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("smear") / "smear.svs"
    write_slide(path, SIDE, UM_PER_PX, 50, 3)
    return path


@pytest.fixture(scope="module")
def analyser() -> Iterator[Analyser]:
    found, _ = load_analyser(ComputeOptions(device="cpu", precision="fp32"))
    with found.stream:
        yield found


@pytest.fixture(scope="module")
def healthy(smear: Path, analyser: Analyser) -> SlideResult:
    with closing(open_slide(smear)) as reader:
        return analyser.analyse(reader, "smear")


def tile_at(x: float, y: float) -> int:
    return int(y) // SLIDE_TILE * ACROSS + int(x) // SLIDE_TILE


def without(smear: Path, path: Path, *tiles: int) -> Path:
    """A copy of the slide with unreadable tiles in its full picture."""
    path.write_bytes(smear.read_bytes())
    return unreadable(path, *tiles)


def away_from(tile: int, cells: Iterable[Cell]) -> list[tuple[object, ...]]:
    """The cells that no window shows together with a part of the tile."""
    steps = (-200, 0, 200)
    return [
        (cell.box, cell.class_name)
        for cell in cells
        if all(tile_at(cell.x + dx, cell.y + dy) != tile for dx in steps for dy in steps)
    ]


def test_a_slide_with_an_unreadable_tile_is_counted_without_it_and_says_so(
    smear: Path, analyser: Analyser, healthy: SlideResult, tmp_path: Path
) -> None:
    lost = next(cell for cell in healthy.cells if min(cell.x, cell.y) > SLIDE_TILE)
    tile = tile_at(lost.x, lost.y)
    run = RunFolder(tmp_path / "out")
    with closing(open_slide(without(smear, tmp_path / "smear.svs", tile))) as reader:
        result = analyser.analyse(reader, "smear")
        run.commit(result, reader)
    assert not any(tile_at(cell.x, cell.y) == tile for cell in result.cells)
    assert away_from(tile, result.cells) == away_from(tile, healthy.cells)
    assert len(away_from(tile, result.cells)) > 30
    assert result.unreadable == pytest.approx(SLIDE_TILE**2 / SIDE**2)
    record = run.record("smear")
    assert record is not None
    assert record["unreadable_area"] == result.unreadable
    run.write_tables([record])
    (row,) = rows(tmp_path / "out" / "differential.csv")
    assert "unreadable_tiles" in row["flags"].split(";")
    assert healthy.unreadable == 0
    assert "unreadable_tiles" not in healthy.flags


def test_no_cell_lies_where_nothing_was_read_even_if_the_network_sees_one(toy_weights: Path, tmp_path: Path) -> None:
    """The toy network takes each window for one cell."""
    rgb = spots(*((x, y) for x in range(96, WIDTH, 256) for y in range(96, HEIGHT, 256)), width=WIDTH, height=HEIGHT)
    path = write(tmp_path / "spots.tif", rgb, cv2.resize(rgb, (WIDTH // 4, HEIGHT // 4)), compression="jpeg")
    unreadable(path, COLUMNS + 1)  # around (96, 96), which the coarser level still shows
    analyser, _ = load_analyser(ComputeOptions(device="cpu", precision="fp32", weights=toy_weights))
    with analyser.stream, closing(open_slide(path)) as reader:
        result = analyser.analyse(reader, "spots", 0.2)
    places = {(round(cell.x / 256 - 0.375), round(cell.y / 256 - 0.375)) for cell in result.cells}
    assert places == {(column, row) for column in range(6) for row in range(6)} - {(0, 0)}
    assert result.unreadable > 0


def test_unreadable_tiles_do_not_change_what_is_taken_for_background(tmp_path: Path) -> None:
    background, side = (236, 224, 216), 64 * TILE
    path = write(tmp_path / "glass.tif", np.full((side, side, 3), background, np.uint8), compression="lzw")
    lower_corners = [row * 64 + column for row in range(60, 64) for column in (*range(4), *range(60, 64))]
    with closing(on_own_grid(unreadable(path, *lower_corners))) as reader:
        assert tuple(slide_background(reader, 1.0)) == background
        assert reader.gaps.share > 0


def test_a_cell_that_an_unreadable_tile_cuts_is_flagged_as_one_that_the_border_cuts(
    smear: Path, analyser: Analyser, healthy: SlideResult, tmp_path: Path
) -> None:
    cut, tile = next(
        (cell, tile_at(x, cell.y))
        for cell in healthy.cells
        for x in (cell.box[0], cell.box[2])
        if tile_at(x, cell.y) not in {0, tile_at(cell.x, cell.y)} and abs(cell.x - round(cell.x / 256) * 256) > 12
    )
    with closing(open_slide(without(smear, tmp_path / "smear.svs", tile))) as reader:
        result = analyser.analyse(reader, "smear")
    (found,) = (cell for cell in result.cells if np.hypot(cell.x - cut.x, cell.y - cut.y) < 15)
    assert "edge" in found.flags
    assert "edge" not in cut.flags


def test_a_slide_whose_cells_lie_in_unreadable_tiles_fails_however_small_these_are(
    smear: Path, analyser: Analyser, tmp_path: Path
) -> None:
    with closing(open_slide(smear)) as reader, Tasks(analyser.stream.readers) as tasks:
        colours = slide_colours(reader, UM_PER_PX)
        windows = Search(analyser.stream, tasks, reader, UM_PER_PX, colours, lambda *_: None).salient()
    most = Counter(tile_at(*window.centre) for window in windows).most_common(2)
    assert sum(count for _, count in most) > 0.05 * len(windows)
    path = without(smear, tmp_path / "unlucky.svs", *(tile for tile, _ in most))
    with (
        closing(open_slide(path)) as reader,
        pytest.raises(SlideError, match=r"unlucky\.svs: \d of the \d+ places to look at cannot .* Copy the slide"),
    ):
        analyser.analyse(reader, "smear")
