"""Whole slides, read region by region through OpenSlide."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from openslide import (
    PROPERTY_NAME_BACKGROUND_COLOR,
    PROPERTY_NAME_BOUNDS_X,
    PROPERTY_NAME_BOUNDS_Y,
    PROPERTY_NAME_COMMENT,
    PROPERTY_NAME_MPP_X,
    PROPERTY_NAME_MPP_Y,
    OpenSlide,
    OpenSlideError,
)

from wbc_cli.errors import SlideError
from wbc_cli.slides.pixel_size import from_ome, plausible
from wbc_cli.slides.pixels import LEVEL_TOLERANCE, shrink_in_bands, shrunk_size, to_rgb
from wbc_cli.slides.reader import RGBImage, TiledReader
from wbc_cli.slides.tiff import MAX_SLIDE_PIXELS, refuse_missing_tiles

_MAX_TILE_PIXELS = 1 << 28  # 1 GB as RGBA; where memory for a tile is lacking, the library ends the process
_USUAL_TILE = 256  # where the file does not say, as in MRXS, whose tiles overlap


class OpenSlideReader(TiledReader):
    """A slide that OpenSlide opens as a `SlideReader`; threads may share it.

    Level-0 coordinates are OpenSlide's own: (0, 0) is the corner of the whole level 0, also where the scanned area
    begins further in (`openslide.bounds-x`, `-y`). What was not scanned has the slide's background colour.

    Attributes:
        level_sizes: width and height of each level in its own pixels, the full picture first.
    """

    def __init__(self, path: Path) -> None:
        """Open the slide.

        Raises:
            SlideError: OpenSlide cannot open it, or it claims a size that cannot be true.
        """
        self.path = path
        refuse_missing_tiles(path)
        self._slide = self._open()
        self.level_sizes = self._slide.level_dimensions
        self.width, self.height = self.level_sizes[0]
        self.tile_size = self._tile_size(0)
        self._refuse_absurd_sizes()
        self._downsamples = self._slide.level_downsamples  # kept: after an error the handle would not tell any more
        properties = self._slide.properties
        across, down = (float(properties.get(name, "nan")) for name in (PROPERTY_NAME_MPP_X, PROPERTY_NAME_MPP_Y))
        self.pixel_um = plausible(across, down) or from_ome(properties.get(PROPERTY_NAME_COMMENT, ""))
        self.um_per_px = self.pixel_um and min(self.pixel_um)
        self.bounds = int(properties.get(PROPERTY_NAME_BOUNDS_X, 0)), int(properties.get(PROPERTY_NAME_BOUNDS_Y, 0))
        red, green, blue = bytes.fromhex(properties.get(PROPERTY_NAME_BACKGROUND_COLOR, "FFFFFF"))
        self._background = (red, green, blue)

    def read(self, x: int, y: int, width: int, height: int, downsample: float = 1.0) -> RGBImage:
        """Read a region, see `SlideReader.read`.

        It comes from the coarsest level that is fine enough, in bands where that is large. Positions are rounded to
        whole pixels of that level, so that edges are right within half of one; at level 0 they are exact.
        """
        out_width, out_height = shrunk_size(width, height, downsample)
        level = self._level(downsample)
        step = self._downsamples[level]
        columns, rows = max(1, round(width / step)), max(1, round(height / step))

        def read_rows(first: int, last: int) -> RGBImage:
            return self._read_level(x, y + round(first * step), level, columns, last - first)

        return shrink_in_bands(read_rows, columns, rows, out_width, out_height)

    def close(self) -> None:
        """Close the slide; the reader is of no more use."""
        self._slide.close()

    def _tile_size(self, level: int) -> tuple[int, int]:
        width, height = (
            int(self._slide.properties.get(f"openslide.level[{level}].tile-{side}", _USUAL_TILE))
            for side in ("width", "height")
        )
        return width, height

    def _refuse_absurd_sizes(self) -> None:
        width, height = max(map(self._tile_size, range(self._slide.level_count)), key=math.prod)
        if self.width * self.height > MAX_SLIDE_PIXELS or width * height > _MAX_TILE_PIXELS:
            raise SlideError(
                f"{self.path}: says that it has {self.width} x {self.height} pixels, in tiles of up to "
                f"{width} x {height}, which no slide has. Copy it again from its source, or leave it out."
            )

    def _level(self, downsample: float) -> int:
        fine_enough = [i for i, own in enumerate(self._downsamples) if own <= downsample * LEVEL_TOLERANCE]
        return max(fine_enough, default=0)

    def _read_level(self, x: int, y: int, level: int, columns: int, rows: int) -> RGBImage:
        try:
            image = self._slide.read_region((x, y), level, (columns, rows))
        except OpenSlideError:
            # A handle repeats its first error for ever, and that may have been another region's: a fresh one, which no
            # other thread knows yet, tells. The old one is closed when the last thread that reads from it lets go.
            fresh = self._open()
            try:
                image = fresh.read_region((x, y), level, (columns, rows))
            except OpenSlideError as error:
                raise SlideError(
                    f"{self.path}: the region of {columns} x {rows} pixels at ({x}, {y}) cannot be decoded ({error}). "
                    "Copy the slide again from its source."
                ) from error
            self._slide = fresh
        rgba: NDArray[np.uint8] = np.asarray(image)
        return to_rgb(rgba, self._background)

    def _open(self) -> OpenSlide:
        try:
            return OpenSlide(self.path)
        except (OpenSlideError, OSError) as error:
            raise SlideError(
                f"{self.path}: OpenSlide cannot open this slide ({OpenSlide.detect_format(self.path)}: {error}). "
                "Copy it again from its source; if it is whole, it is of a form that OpenSlide does not read: export "
                "it as pyramidal TIFF or OME-TIFF."
            ) from error
