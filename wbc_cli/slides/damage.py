"""Damage that no decoder notices: stretches of zeros, as unfinished copies and bad sectors leave them."""

from __future__ import annotations

import zlib
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from tifffile import COMPRESSION

_SECTOR = 512  # bytes: what disks lose at once, or a multiple
_STRETCH = 64
_NEIGHBOURS = 32  # pixels
_NOISE = 0.2  # of the range, on average between neighbours: of random ones they are a third of it apart
_MOSTLY = 0.9
_EMPTY_PACKETS = 512  # zeros in a row that JPEG 2000 may have
_JPEG2000 = frozenset({COMPRESSION.JPEG2000, COMPRESSION.JPEG_2000_LOSSY, COMPRESSION.APERIO_JP2000_RGB})
_DEFLATE = frozenset({COMPRESSION.DEFLATE, COMPRESSION.ADOBE_DEFLATE})
_UNCHECKED = _JPEG2000 | {COMPRESSION.LZW, COMPRESSION.PACKBITS}
_STRAY = 0.01  # share of pixels that are black by themselves


def refuse_lost(compression: int, data: bytes, row: int) -> None:
    """Refuse compressed pixels of which a stretch was overwritten with zeros, or of which some are missing.

    Neither LZW, PackBits nor JPEG 2000 makes such a stretch. Those that are not compressed may be black, see
    `refuse_hole`; deflate has a sum, which imagecodecs does not look at; JPEG has a module of its own.

    Args:
        compression: as TIFF numbers it.
        data: a tile or strip as the file holds it.
        row: bytes of one of its rows.

    Raises:
        ValueError: it is damaged.
    """
    if compression in _UNCHECKED and bytes(_EMPTY_PACKETS if compression in _JPEG2000 else _STRETCH) in data:
        raise ValueError("a stretch of it is zeros")
    if compression in _DEFLATE:
        try:
            zlib.decompress(data)
        except zlib.error as error:
            raise ValueError(str(error)) from error
    if compression == COMPRESSION.LZW and len(imagecodecs.lzw_decode(data)) % row:
        raise ValueError("its last row is not whole")


def refuse_hole(pixels: NDArray[Any]) -> None:
    """Refuse uncompressed pixels of which a stretch was overwritten, with zeros or with what was on the disk before.

    Black pixels alone are no damage: a frame, a letter, background that was not scanned. A lost stretch shows by its
    ends: it begins or ends within a row, beside pixels that are not black above or below it.

    Args:
        pixels: [rows, columns, samples] in the order of the file.

    Raises:
        ValueError: there is one.
    """
    _refuse_noise(pixels)
    black: NDArray[np.bool_] = np.asarray(~pixels.any(axis=2), np.bool_)
    flat = np.concatenate(([False], black.ravel(), [False]))
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    starts, ends = edges[::2], edges[1::2]
    long = (ends - starts) * pixels.itemsize * pixels.shape[2] >= _SECTOR
    if any(_is_hole(black, start, end) for start, end in zip(starts[long], ends[long], strict=True)):
        raise ValueError("a stretch of its pixels is zeros")


def _refuse_noise(pixels: NDArray[Any]) -> None:
    """Refuse rows in which neighbours have nothing to do with each other, where in most of the picture they do."""
    if pixels.dtype.itemsize > 2 or pixels.shape[1] <= _NEIGHBOURS:
        return
    values = pixels.astype(np.int32)
    apart = np.abs(np.diff(values, axis=1))[:, : (pixels.shape[1] - 1) // _NEIGHBOURS * _NEIGHBOURS]
    stretches = apart.reshape(len(pixels), -1, _NEIGHBOURS * pixels.shape[2]).mean(axis=2)
    if 0 < np.mean(stretches > _NOISE * max(1, int(values.max()))) < _MOSTLY:
        raise ValueError("a stretch of its pixels is noise")


def _is_hole(black: NDArray[np.bool_], start: int, end: int) -> bool:
    """Tell whether a run of black pixels, which are counted row by row, is no shape in the picture."""
    rows, columns = black.shape
    (first, left), (last, right) = divmod(start, columns), divmod(end, columns)
    if first == last or (left == 0 and right == 0):
        return False
    above = black[first - 1, left:] if first and left else np.empty(0)
    below = black[last + 1, :right] if last + 1 < rows and right else np.empty(0)
    return bool((not above.size or above.mean() <= _STRAY) and (not below.size or below.mean() <= _STRAY))
