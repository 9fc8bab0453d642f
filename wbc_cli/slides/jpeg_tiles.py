"""JPEG tiles inside TIFF, decoded whole or at a half, a fourth or an eighth of their size."""

from __future__ import annotations

import struct
from typing import NamedTuple

import cv2
import numpy as np

from wbc_cli.slides.reader import RGBImage

REDUCTIONS = (1, 2, 4, 8)
"""By how much a tile can be shrunk while it is decoded."""

_MODES = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
_SOI, _EOI = b"\xff\xd8", b"\xff\xd9"
_JFIF, _ADOBE, _SCAN, _PADDING = 0xFFE0, 0xFFEE, 0xFFDA, 0xFFFF
_FRAMES = frozenset({0xFFC0, 0xFFC1, 0xFFC2, 0xFFC9, 0xFFCA})  # what libjpeg decodes
_SEGMENT = struct.Struct(">HH")
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
        if tables and not (tables.startswith(_SOI) and tables.endswith(_EOI)):
            raise ValueError("the JPEG tables are damaged")
        self._frame = (8, height, width, 3)
        self._ycbcr = ycbcr
        # Without a marker a decoder guesses the colours, and takes the RGB of Aperio's tiles for YCbCr.
        self._transform = int(ycbcr)
        adobe = struct.pack(">HH5sHHHB", _ADOBE, 14, b"Adobe", 100, 0, 0, self._transform)
        self._start = _SOI + adobe + tables[2:-2]

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
        if stream.rfind(_EOI, header.scan) < 0:  # OpenCV would fill what is missing with grey; padding may follow
            raise ValueError("its JPEG is cut short")
        try:
            bgr = cv2.imdecode(np.frombuffer(stream, np.uint8), _MODES[reduction] | cv2.IMREAD_IGNORE_ORIENTATION)
        except cv2.error as error:
            raise ValueError("its JPEG is damaged") from error
        if bgr is None:
            raise ValueError("its JPEG is damaged")
        return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)


class _Header(NamedTuple):
    frame: tuple[int, ...]  # bits, height, width, components
    is_jfif: bool
    transforms: set[int]  # of the Adobe markers
    scan: int  # offset in bytes


def _parse(stream: bytes) -> _Header:
    frame: tuple[int, ...] = ()
    transforms: set[int] = set()
    is_jfif, at = False, len(_SOI)
    while True:
        marker, length = _SEGMENT.unpack_from(stream, at)
        content = at + _SEGMENT.size
        if marker == _PADDING:
            at += 1
            continue
        if marker < 0xFF00:
            raise ValueError("it is no JPEG")
        if marker == _SCAN:
            return _Header(frame, is_jfif, transforms, at)
        if marker in _FRAMES:
            frame = _FRAME.unpack_from(stream, content)
        elif marker == _JFIF:
            is_jfif |= stream.startswith(b"JFIF\0", content)
        elif marker == _ADOBE and stream.startswith(b"Adobe", content):
            transforms.add(stream[content + 11])
        at += 2 + length
