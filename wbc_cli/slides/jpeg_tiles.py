"""JPEG tiles inside TIFF, decoded whole or at a half, a fourth or an eighth of their size."""

from __future__ import annotations

import struct
from typing import NamedTuple

from wbc_cli.slides import jpeg
from wbc_cli.slides.reader import RGBImage

REDUCTIONS = (1, 2, 4, 8)
"""By how much a tile can be shrunk while it is decoded."""

_JFIF, _ADOBE = 0xFFE0, 0xFFEE
_FRAME = struct.Struct(">BHHB")


class JpegTiles:
    """The JPEG tiles of a TIFF page, each a stream without the tables that they share; threads may share it."""

    def __init__(self, tables: bytes, *, ycbcr: bool, width: int, height: int) -> None:
        """Prepare what goes in front of each tile.

        Args:
            tables: the page's JPEGTables, empty if the tiles have their own.
            ycbcr: the page's photometric interpretation is YCbCr, and not RGB.
            width, height: pixels of a tile.

        Raises:
            ValueError: the tables are no JPEG.
        """
        if tables and not (tables.startswith(jpeg.SOI) and tables.endswith(jpeg.EOI)):
            raise ValueError("the JPEG tables are damaged")
        self._frame = (8, height, width, 3)
        self._ycbcr = ycbcr
        # Without a marker a decoder guesses the colours, and takes the RGB of Aperio's tiles for YCbCr.
        self._transform = int(ycbcr)
        adobe = struct.pack(">HH5sHHHB", _ADOBE, 14, b"Adobe", 100, 0, 0, self._transform)
        self._start = jpeg.SOI + adobe + tables[2:-2]

    def decode(self, tile: bytes, reduction: int) -> RGBImage:
        """Decode a tile to uint8 [height / reduction, width / reduction, 3].

        Shrinking costs less than decoding the whole, and comes near to the average of the area.

        Args:
            tile: what the file holds of it.
            reduction: one of `REDUCTIONS`; width and height are multiples of it.

        Raises:
            ValueError, LookupError, struct.error: it is damaged or cut short, of another size than the page's tiles,
                or contradicts the page about its colours.
        """
        stream = self._start + tile[2:]
        header = _parse(stream)
        if header.frame != self._frame:
            raise ValueError("it is no JPEG of a tile's size")
        if header.transforms != {self._transform} or (header.is_jfif and not self._ycbcr):
            raise ValueError("its JPEG markers contradict the TIFF about the colours")
        _, height, width, _ = self._frame
        return jpeg.decode(stream, "RGB", width // reduction, height // reduction)


class _Header(NamedTuple):
    frame: tuple[int, ...]  # bits, height, width, components
    is_jfif: bool
    transforms: set[int]  # of the Adobe markers


def _parse(stream: bytes) -> _Header:
    frame: tuple[int, ...] = ()
    transforms: set[int] = set()
    is_jfif = False
    for marker, start, _ in jpeg.segments(stream):
        if marker in jpeg.FRAMES:
            frame = _FRAME.unpack_from(stream, start)
        elif marker == _JFIF:
            is_jfif |= stream.startswith(b"JFIF\0", start)
        elif marker == _ADOBE and stream.startswith(b"Adobe", start):
            transforms.add(stream[start + 11])
    return _Header(frame, is_jfif, transforms)
