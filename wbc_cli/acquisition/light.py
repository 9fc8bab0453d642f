"""The light field that the pictures of an acquisition share: how bright each place is, and in which tint."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wbc_cli.acquisition.file import Light
from wbc_cli.inference.field_of_view import find_field
from wbc_cli.slides.pixels import map_over_region, shrink, shrunk_size
from wbc_cli.slides.reader import UNEVEN, ReaderWrapper, RGBImage, SlideReader

_SIDE, _BLOCK = 256, 16  # pixels of the longer side of the picture that is measured, and of its blocks
_BACKGROUND_PERCENTILE = 85  # of a block's pixels
_BRIGHT_PERCENTILE = 70  # of a place over the pictures: in most of them there is some background
_DEGREE = 4  # of the polynomial
_ROUNDS = 5
_MIN_PICTURES = 8
_MIN_DEVIATION = 0.03  # deviation (root mean square of the logarithm) from which on light is divided out
_MAX_APART, _MAX_RESIDUE = 0.25, 0.4  # of it: between two halves of the pictures, and of what the polynomial leaves
_MIN_SEEN_SHARE = 0.5  # share of the places inside the field of view
_NUCLEI_PERCENTILE = 99  # of the density in red, in which hardly anything but nuclei is dense
_GRID = 64  # places of the longer side at which the field is worked out

Floats = NDArray[np.float32]


class Lighting(NamedTuple):
    """A lighting holds what one picture tells of light and stain.

    Attributes:
        background: float32 [rows, columns, 3], natural logarithm of the background's colour in each block, white being
            0; not a number outside the field of view of an eyepiece.
        nuclei: float32 [3], optical density of what is densest in red.
    """

    background: Floats
    nuclei: Floats


def measure_light(reader: SlideReader) -> Lighting:
    """Measure the light of one picture in blocks.

    Raises:
        SlideError: the picture cannot be read.
    """
    downsample = max(1.0, max(reader.width, reader.height) / _SIDE)
    rgb = reader.read(0, 0, reader.width, reader.height, downsample)
    field = find_field(reader)
    height, width = rgb.shape[:2]
    inside = np.ones((height, width), bool) if field is None else field
    rows, columns = max(1, round(height / _BLOCK)), max(1, round(width / _BLOCK))
    background = np.full((rows, columns, 3), np.nan, np.float32)
    ys, xs = np.linspace(0, height, rows + 1).astype(int), np.linspace(0, width, columns + 1).astype(int)
    for row in range(rows):
        for column in range(columns):
            block = slice(ys[row], ys[row + 1]), slice(xs[column], xs[column + 1])
            if inside[block].mean() > 0.5:
                background[row, column] = np.percentile(rgb[block][inside[block]], _BACKGROUND_PERCENTILE, axis=0)
    background = np.log(np.maximum(background, 1) / 255)
    density = np.nanmedian(background, axis=(0, 1)) - np.log(np.maximum(rgb[inside], 1) / np.float32(255))
    nuclei = density[density[:, 0] >= np.percentile(density[:, 0], _NUCLEI_PERCENTILE)].mean(axis=0)
    return Lighting(background, nuclei.astype(np.float32))


def background_of(pictures: list[Lighting]) -> tuple[float, ...]:
    """Return the median red, green and blue of the background in pictures, 0 to 255."""
    colours = [255 * np.exp(np.nanmedian(picture.background, axis=(0, 1))) for picture in pictures]
    return tuple(round(float(value), 1) for value in np.median(colours, axis=0))


def nuclei_of(pictures: list[Lighting]) -> tuple[float, ...]:
    """Return the median optical density of the nuclei of pictures in red, green and blue."""
    return tuple(round(float(value), 3) for value in np.median([picture.nuclei for picture in pictures], axis=0))


def pool_light(pictures: list[Lighting]) -> Light | None:
    """Estimate the light field that pictures of one size share.

    A place is as bright as it is in the brighter of the pictures, since it shows background in some of them; a
    polynomial goes through the places.

    Returns:
        Coefficients of the logarithm of the field, see `field_of`; None where the light is even, where there are too
        few pictures, where these do not agree, or where what they share is no smooth field (as a cell in the middle).
    """
    if len(pictures) < _MIN_PICTURES:
        return None
    background = np.stack([picture.background for picture in pictures])
    seen = np.isfinite(background).all(axis=(0, 3))
    if seen.mean() < _MIN_SEEN_SHARE:
        return None
    relative = background[:, seen] - np.nanpercentile(background, 80, axis=(1, 2))[:, None]
    terms = _terms(*seen.shape)[seen]
    coefficients, field, residue = _fit(terms, relative)
    halves = [_fit(terms, relative[start::2])[1] for start in (0, 1)]
    uneven = _rms(field)
    agreed = _rms(halves[0] - halves[1]) <= _MAX_APART * uneven and residue <= _MAX_RESIDUE * uneven
    if uneven < _MIN_DEVIATION or not agreed:
        return None
    return tuple(tuple(round(float(value), 5) for value in channel) for channel in coefficients.T)


def field_of(light: Light, height: int, width: int) -> Floats:
    """Compute the light field of a picture, float32 [h, w, 3]: about 1, and less where the picture is too dark.

    Args:
        light: from `pool_light`.
        height, width: how many places to work it out at.
    """
    field: Floats = np.exp(_terms(height, width) @ np.array(light).T).astype(np.float32)
    return field


def even(reader: SlideReader, light: Light | None) -> SlideReader:
    """Divide a light field out of a picture; the picture as it is where there is none."""
    return reader if light is None else EvenReader(reader, light)


class EvenReader(ReaderWrapper):
    """A picture as a `SlideReader` whose light field is divided out; flagged `UNEVEN`.

    Args:
        reader: the picture; closed with this one.
        light: its light field.
    """

    def __init__(self, reader: SlideReader, light: Light) -> None:
        super().__init__(reader)
        self.flags = (*reader.flags, UNEVEN)
        grid = _GRID / max(self.width, self.height)
        self._gain = 1 / field_of(light, max(2, round(self.height * grid)), max(2, round(self.width * grid)))

    def read(self, x: int, y: int, width: int, height: int, downsample: float = 1.0) -> RGBImage:
        """Read a region, see `SlideReader.read`."""
        columns, rows = shrunk_size(width, height, downsample)
        region = shrink(self.reader.read(x, y, width, height, downsample), columns, rows)
        gain = map_over_region(self._gain, self, x, y, width, height, (columns, rows))
        evened: RGBImage = np.clip(np.rint(region * gain), 0, 255).astype(np.uint8)
        return evened


def _terms(rows: int, columns: int) -> NDArray[np.float64]:
    """Compute powers of x and y, -1 to 1 over the picture, at the middles of places, [rows, columns, terms]."""
    x, y = np.meshgrid((2 * np.arange(columns) + 1) / columns - 1, (2 * np.arange(rows) + 1) / rows - 1)
    powers = [(i, j) for i in range(_DEGREE + 1) for j in range(_DEGREE + 1 - i)]
    return np.stack([x**i * y**j for i, j in powers], axis=-1)


def _fit(terms: NDArray[np.float64], relative: Floats) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Fit a polynomial to the brightness of places, in which those count little that lie far off it.

    Args:
        terms: float64 [places, terms].
        relative: float32 [pictures, places, 3].

    Returns:
        coefficients [terms, 3] of a field whose median is 0, that field [places, 3], and the root mean square of what
        it leaves.
    """
    bright = np.percentile(relative, _BRIGHT_PERCENTILE, axis=0).astype(np.float64)
    coefficients = np.zeros((terms.shape[1], 3))
    for channel in range(3):
        weights = np.ones(len(terms))
        for _ in range(_ROUNDS):
            solved = np.linalg.lstsq(terms * weights[:, None], bright[:, channel] * weights, rcond=None)[0]
            off = bright[:, channel] - terms @ solved
            width = 2 * 1.48 * np.median(np.abs(off)) + 1e-4
            weights = 1 / np.sqrt(1 + (off / width) ** 2)
        coefficients[:, channel] = solved
    field = terms @ coefficients
    residue = _rms(bright - field)
    middle = np.median(field, axis=0)
    coefficients[0] -= middle  # the first term is 1 everywhere
    return coefficients, field - middle, residue


def _rms(values: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(values**2)))
