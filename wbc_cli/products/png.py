"""PNG files, written nearly twice as fast as OpenCV does at its quickest: most of a picture's time goes there."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import imagecodecs
import numpy as np

from wbc_cli.slides.marks import MARK
from wbc_cli.slides.reader import RGBImage

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_RGB_8_BIT = (8, 2, 0, 0, 0)  # depth, colour type; the only compression and filter method there is; not interlaced
_UP = 2  # the row filter: each pixel as its difference from the one above, which compresses better


def write_png(picture: RGBImage, path: Path) -> None:
    """Write uint8 [h, w, 3] as PNG (W3C, Portable Network Graphics, third edition), marked as made by this tool.

    Measured on pictures of 5 and 17 megapixels: 0.56 of the time of OpenCV's quickest way, a fifth fewer bytes.

    Raises:
        OSError: the disk is full or read-only.
    """
    height, width, _ = picture.shape
    flat = picture.reshape(height, 3 * width)
    rows = np.empty((height, 1 + 3 * width), np.uint8)
    rows[:, 0] = _UP
    rows[0, 1:] = flat[0]
    np.subtract(flat[1:], flat[:-1], out=rows[1:, 1:])
    header = struct.pack(">II5B", width, height, *_RGB_8_BIT)
    data = bytes(imagecodecs.deflate_encode(rows.data, level=1))  # type: ignore[arg-type]  # any buffer will do
    made_by = _chunk(b"tEXt", b"Software\0" + MARK.encode("ascii"))
    path.write_bytes(_SIGNATURE + _chunk(b"IHDR", header) + made_by + _chunk(b"IDAT", data) + _chunk(b"IEND", b""))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))
