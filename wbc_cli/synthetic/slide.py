"""Write a smear as a pyramidal slide, a band of tiles at a time."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from tifffile import TiffWriter

from wbc_cli.errors import UsageError
from wbc_cli.slides.reader import RGBImage
from wbc_cli.synthetic.smear import Smear, TrueCell

TILE = 256
STEP = 4
"""The step from one level of the pyramid to the next: levels 1, 4, 16."""
JPEG_QUALITY = 88


def write_slide(path: Path, size: int, um_per_px: float, white_cells: int, seed: int) -> tuple[TrueCell, ...]:
    """Write a square slide: tiled JPEG TIFF laid out as Aperio does, levels downsampled by 1, 4 and 16.

    One band of tiles is held in memory; the second level waits in a temporary file.

    Args:
        path: file to write; `.svs` by custom.
        size: width and height in pixels, a multiple of 256.
        um_per_px: micrometres a pixel.
        white_cells: how many.
        seed: of every random choice.

    Returns:
        The white cells and platelets that the slide holds.

    Raises:
        UsageError: the size is no multiple of 256, or so many cells do not fit.
    """
    if size < TILE or size % TILE:
        raise UsageError(f"{path.name}: a slide of {size} px cannot be tiled: choose a multiple of {TILE}")
    smear = Smear(size, size, um_per_px, white_cells, seed)
    description = (
        f"Aperio format, synthetic smear by wbc-cli\r\n{size}x{size} ({TILE}x{TILE}) JPEG/RGB Q={JPEG_QUALITY}"
        f"|AppMag = {round(10 / um_per_px)}|MPP = {um_per_px:g}"
    )
    with tempfile.TemporaryFile() as spill, TiffWriter(path, bigtiff=True) as tiff:
        second = np.memmap(spill, np.uint8, "w+", shape=(size // STEP, size // STEP, 3))
        _write_level(tiff, _render_bands(smear, second), size, description)
        _write_level(tiff, (second[y : y + TILE] for y in range(0, len(second), TILE)), len(second), description)
        third = cv2.resize(second, (size // STEP**2, size // STEP**2), interpolation=cv2.INTER_AREA)
        _write_level(tiff, (third[y : y + TILE] for y in range(0, len(third), TILE)), len(third), description)
    return smear.truth


def _render_bands(smear: Smear, second: RGBImage) -> Iterator[RGBImage]:
    """Yield the smear in bands one tile high, and fill the second level on the way."""
    width = smear.width // STEP
    for y in range(0, smear.height, TILE):
        band = smear.render(0, y, smear.width, TILE)
        second[y // STEP : (y + TILE) // STEP] = cv2.resize(band, (width, TILE // STEP), interpolation=cv2.INTER_AREA)
        yield band


def _write_level(tiff: TiffWriter, bands: Iterator[RGBImage], size: int, description: str) -> None:
    tiff.write(
        (_padded(band[:, x : x + TILE]) for band in bands for x in range(0, size, TILE)),
        shape=(size, size, 3),
        dtype=np.uint8,
        tile=(TILE, TILE),
        photometric="rgb",
        compression="jpeg",
        compressionargs={"level": JPEG_QUALITY},
        description=description,
        metadata=None,
    )


def _padded(tile: RGBImage) -> RGBImage:
    """Return the tile at its full size; those at the lower and right edges may lack pixels."""
    height, width = tile.shape[:2]
    if (height, width) == (TILE, TILE):
        return tile
    return np.asarray(cv2.copyMakeBorder(tile, 0, TILE - height, 0, TILE - width, cv2.BORDER_REPLICATE), np.uint8)
