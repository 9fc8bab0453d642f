"""The masks of a slide as tiled, pyramidal OME-TIFFs, written tile by tile, and as a PNG."""

from __future__ import annotations

import uuid
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from tifffile import TiffWriter

from wbc_cli.cells import Cell, SlideResult
from wbc_cli.classes import BY_NAME
from wbc_cli.slides.marks import MARK
from wbc_cli.slides.reader import SlideReader

TILE = 512
LARGEST_TOP = 2048  # a viewer shows a level of this size at once
UM_PER_CM = 10_000.0
PNG_PIXELS = 100_000_000  # a PNG is held in memory as a whole

CLASS_VALUES: dict[str, int] = {name: value for value, name in enumerate(BY_NAME, start=1)}
"""What the class mask has for each class; 0 is background."""


def write_mask(result: SlideResult, _reader: SlideReader, path: Path) -> None:
    """Write `mask.ome.tif`: 0 is background, any other value the id of the cell there.

    Level 0 has the slide's size; uint16, or uint32 where an id is above 65,535. Slides above 2048 pixels get
    halved levels by nearest neighbour as SubIFDs, until one is no larger. Memory holds one tile at a time, whatever
    the slide's size.

    Raises:
        OSError: the disk is full or read-only.
    """
    _write(result, path, lambda cell: cell.id, _id_type(result), {"photometric": "minisblack"})


def write_class_mask(result: SlideResult, _reader: SlideReader, path: Path) -> None:
    """Write `classes.ome.tif`, like the mask, but uint8 and with the class of the cell there, see `CLASS_VALUES`.

    Viewers show the classes in their colours; the key is in the OME description.

    Raises:
        OSError: the disk is full or read-only.
    """
    colours = np.zeros((3, 256), np.uint16)
    for name, value in CLASS_VALUES.items():
        colours[:, value] = np.array(BY_NAME[name].colour) * 257  # of 8 bits in 16
    key = ", ".join(f"{value} {name}" for name, value in CLASS_VALUES.items())
    look = {"photometric": "palette", "colormap": colours}
    _write(result, path, lambda cell: CLASS_VALUES[cell.class_name], np.uint8, look, {"Description": key})


def write_png_mask(result: SlideResult, _reader: SlideReader, path: Path) -> None:
    """Write `mask.png`, 16-bit grey, the ids of the cells; for pictures of at most PNG_PIXELS, and none for slides.

    Raises:
        OSError: the disk is full or read-only.
    """
    if result.width * result.height > PNG_PIXELS or _id_type(result) != np.uint16:
        return
    mask = np.zeros((result.height, result.width), np.uint16)
    for cell in result.cells:
        x0, y0, x1, y1 = cell.box
        mask[y0:y1, x0:x1][cell.mask > 0] = cell.id
    made_by = PngInfo()
    made_by.add_text("Software", MARK)
    Image.fromarray(mask).save(path, pnginfo=made_by)


def _id_type(result: SlideResult) -> DTypeLike:
    largest = max((cell.id for cell in result.cells), default=0)
    return np.uint32 if largest > np.iinfo(np.uint16).max else np.uint16


def _write(
    result: SlideResult,
    path: Path,
    value: Callable[[Cell], int],
    dtype: DTypeLike,
    look: Mapping[str, Any],
    more: Mapping[str, str] = MappingProxyType({}),
) -> None:
    um_across, um_down = result.pixel_um
    factors = _pyramid_factors(max(result.width, result.height))
    with TiffWriter(path, ome=True) as tiff:
        for factor in factors:
            first = factor == 1
            tiff.write(
                _compressed_tiles(result, factor, value, dtype),
                shape=_level_shape(result, factor),
                dtype=dtype,
                tile=(TILE, TILE),
                compression="zlib",
                resolution=(UM_PER_CM / um_across / factor, UM_PER_CM / um_down / factor),
                resolutionunit="CENTIMETER",
                subifds=len(factors) - 1 if first else None,
                subfiletype=0 if first else 1,
                software=MARK,
                metadata={**_ome_metadata(result, path.name), **more} if first else None,
                **look,
            )


def _ome_metadata(result: SlideResult, product: str) -> dict[str, object]:
    # Not random: the same run gives the same bytes.
    um_across, um_down = result.pixel_um
    own = uuid.uuid5(uuid.uuid5(uuid.NAMESPACE_URL, result.name), product)
    return {
        "axes": "YX",
        "Name": result.name,
        "UUID": str(own),
        "PhysicalSizeX": um_across,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": um_down,
        "PhysicalSizeYUnit": "µm",
    }


def _pyramid_factors(longest: int) -> list[int]:
    factors = [1]
    while longest // factors[-1] > LARGEST_TOP:
        factors.append(2 * factors[-1])
    return factors


def _level_shape(result: SlideResult, factor: int) -> tuple[int, int]:
    return max(1, result.height // factor), max(1, result.width // factor)


def _compressed_tiles(
    result: SlideResult, factor: int, value: Callable[[Cell], int], dtype: DTypeLike
) -> Iterator[bytes]:
    """Yield the deflated tiles of one level, row by row.

    Compressed here, because nearly all tiles of a slide are empty: these cost one compression and about 500 bytes each.
    """
    height, width = _level_shape(result, factor)
    empty = _empty_tile(np.dtype(dtype).itemsize)
    cells_of = _cells_by_tile(result.cells, factor)
    for row in range(-(-height // TILE)):
        for column in range(-(-width // TILE)):
            here = cells_of.get((row, column))
            yield zlib.compress(_paint(here, row, column, factor, value, dtype).tobytes(), 1) if here else empty


@cache
def _empty_tile(value_bytes: int) -> bytes:
    return zlib.compress(bytes(TILE * TILE * value_bytes), 9)


def _cells_by_tile(cells: tuple[Cell, ...], factor: int) -> dict[tuple[int, int], list[Cell]]:
    side = TILE * factor
    index: dict[tuple[int, int], list[Cell]] = defaultdict(list)
    for cell in cells:
        x0, y0, x1, y1 = cell.box
        for row in range(y0 // side, (y1 - 1) // side + 1):
            for column in range(x0 // side, (x1 - 1) // side + 1):
                index[row, column].append(cell)
    return index


def _paint(
    cells: list[Cell], row: int, column: int, factor: int, value: Callable[[Cell], int], dtype: DTypeLike
) -> NDArray[np.unsignedinteger]:
    tile = np.zeros((TILE, TILE), dtype)
    for cell in cells:
        x0, y0, x1, y1 = cell.box
        rows, mask_rows = _samples(y0, y1, row * TILE, factor)
        columns, mask_columns = _samples(x0, x1, column * TILE, factor)
        inside = cell.mask[mask_rows, mask_columns] > 0
        tile[rows, columns][inside] = value(cell)
    return tile


def _samples(start: int, stop: int, origin: int, factor: int) -> tuple[slice, slice]:
    """Find the pixels of a tile that lie in a cell's box along one axis, and where the box has their values.

    Pixel i of a level shows the level-0 pixel in its middle, i * factor + factor // 2.

    Args:
        start: where the box starts in level-0 pixels.
        stop: where it ends.
        origin: the tile's first pixel, counted in pixels of its level.
        factor: level-0 pixels to one pixel of the level.
    """
    middle = factor // 2
    first = max(origin, -(-(start - middle) // factor))
    last = min(origin + TILE, -(-(stop - middle) // factor))
    last = max(first, last)
    offset = first * factor + middle - start
    return slice(first - origin, last - origin), slice(offset, offset + (last - first) * factor, factor)
