"""Write a picture and its scale the way cameras do: PNG `pHYs`, JFIF density."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2

from wbc_cli.slides.reader import RGBImage

JPEG_QUALITY = 94
PNG_HEADER = 33  # signature and IHDR: pHYs may follow at once
JFIF_UNITS = 13  # offset of units and densities


def write_field(path: Path, image: RGBImage, um_per_px: float | None) -> None:
    """Write a PNG or JPEG, by the suffix of its name.

    Args:
        path: file to write, `.png` or `.jpg`.
        image: uint8 [h, w, 3], sRGB.
        um_per_px: scale to note in the file, or None to leave it out. JFIF holds no scale below 0.153.
    """
    quality = [] if path.suffix == ".png" else [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    data = cv2.imencode(path.suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), quality)[1].tobytes()
    if um_per_px is not None:
        data = _png_with_scale(data, um_per_px) if path.suffix == ".png" else _jpeg_with_scale(data, um_per_px)
    path.write_bytes(data)


def _png_with_scale(data: bytes, um_per_px: float) -> bytes:
    per_metre = round(1e6 / um_per_px)
    body = b"pHYs" + struct.pack(">IIB", per_metre, per_metre, 1)
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return data[:PNG_HEADER] + chunk + data[PNG_HEADER:]


def _jpeg_with_scale(data: bytes, um_per_px: float) -> bytes:
    per_cm = round(1e4 / um_per_px)
    return data[:JFIF_UNITS] + struct.pack(">BHH", 2, per_cm, per_cm) + data[JFIF_UNITS + 5 :]
