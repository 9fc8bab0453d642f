"""A cell counts once, wherever the borders of tiles, blocks and windows fall."""

from __future__ import annotations

import numpy as np
import pytest
from fakes import ArrayReader
from tifffile import TiffWriter

from wbc_cli.classes import BY_NAME
from wbc_cli.inference import coarse_strips
from wbc_cli.run.loading import ComputeOptions, load_analyser
from wbc_cli.slides import open_slide
from wbc_cli.synthetic.smear import Smear

SIDE, UM_PER_PX = 2048, 0.25
BORDER = 120  # pixels: cells this near to the rim may be cut by another crop
SHIFTS = [(0, 0), (1, 0), (37, 53), (100, 251)]


@pytest.fixture(scope="module")
def smear():
    """A smear with touching pairs."""
    return Smear(SIDE + 256, SIDE + 256, UM_PER_PX, 48, seed=4)


@pytest.fixture(scope="module")
def analyser():
    found, _ = load_analyser(ComputeOptions(device="cpu", precision="fp32"))
    with found.stream:
        yield found


def white_cells(result, dx=0, dy=0):
    """Where the white cells of a crop lie on the smear, those near its rim left out: int [n, 2], sorted."""
    inside = [
        (round(cell.x) + dx, round(cell.y) + dy)
        for cell in result.cells
        if BY_NAME[cell.class_name].white_cell
        and all(256 + BORDER <= place + d < SIDE - BORDER for place, d in ((cell.x, dx), (cell.y, dy)))
    ]
    return np.array(sorted(inside)).reshape(-1, 2)


def true_cells(smear):
    places = [(cell.x, cell.y) for cell in smear.truth if BY_NAME[cell.class_name].white_cell]
    return [place for place in places if all(256 + BORDER <= p < SIDE - BORDER for p in place)]


def test_there_are_touching_cells_to_tell_apart(smear):
    places = np.array(true_cells(smear))
    apart = np.linalg.norm(places[:, None] - places, axis=2) + np.eye(len(places)) * 1e9
    assert len(places) >= 8
    assert apart.min() * UM_PER_PX < 20


@pytest.mark.parametrize("shift", SHIFTS, ids=str)
def test_where_the_grid_begins_changes_no_count(smear, analyser, shift):
    dx, dy = shift
    reader = ArrayReader(smear.render(dx, dy, SIDE, SIDE), um_per_px=UM_PER_PX)
    found = white_cells(analyser.analyse(reader, "crop"), dx, dy)
    truth = np.array(true_cells(smear))
    assert len(found) == len(truth)
    assert np.linalg.norm(truth[:, None] - found, axis=2).min(axis=1).max() * UM_PER_PX < 3


@pytest.mark.parametrize("block", [640, 1024])
def test_the_blocks_of_the_coarse_pass_change_no_count(smear, analyser, monkeypatch, block):
    reader = ArrayReader(smear.render(0, 0, SIDE, SIDE), um_per_px=UM_PER_PX)
    whole = white_cells(analyser.analyse(reader, "crop"))
    monkeypatch.setattr(coarse_strips, "BLOCK_PX", block)
    assert len(whole) > 10
    assert np.abs(white_cells(analyser.analyse(reader, "crop")) - whole).max() <= 1


@pytest.mark.parametrize("tile", [128, 512])
def test_the_tiles_of_the_file_change_nothing(smear, analyser, tmp_path, tile):
    pixels = smear.render(0, 0, SIDE, SIDE)
    with TiffWriter(tmp_path / "slide.tif") as tiff:
        resolution = (1e4 / UM_PER_PX, 1e4 / UM_PER_PX)
        tiff.write(pixels, tile=(tile, tile), photometric="rgb", resolution=resolution, resolutionunit="CENTIMETER")
    reader = open_slide(tmp_path / "slide.tif")
    assert reader.um_per_px == pytest.approx(UM_PER_PX)
    found = analyser.analyse(reader, "tiled")
    reader.close()
    whole = analyser.analyse(ArrayReader(pixels, um_per_px=UM_PER_PX), "array")
    assert len(found.cells) > 10
    assert [(cell.box, cell.class_name) for cell in found.cells] == [(c.box, c.class_name) for c in whole.cells]


def test_an_exhaustive_search_counts_the_same(smear, analyser):
    part = ArrayReader(smear.render(256, 256, 1024, 1024), um_per_px=UM_PER_PX)
    exhaustive = type(analyser)(analyser.stream, analyser.min_confidence, exhaustive=True)
    searched, pointed = (a.analyse(part, "part") for a in (exhaustive, analyser))
    assert searched.windows > 5 * pointed.windows
    # What the border cuts is in the middle of a window here and at the end of one there, and may be taken for none.
    places = [
        {(round(c.x), round(c.y)) for c in r.cells if BY_NAME[c.class_name].white_cell and "edge" not in c.flags}
        for r in (searched, pointed)
    ]
    assert len(places[0]) == len(places[1]) > 0
