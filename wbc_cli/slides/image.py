"""Plain images, decoded once into memory."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from wbc_cli.errors import SlideError
from wbc_cli.slides.header import Header, read_header
from wbc_cli.slides.pixels import shrink, shrunk_size, to_rgb, to_uint8
from wbc_cli.slides.reader import RGBImage
from wbc_cli.slides.tiff import read_tiff, too_large

MAX_PIXELS = 400_000_000  # 1.2 GB as RGB, and up to three times that while decoding
_END_OF_JPEG = b"\xff\xd9"


class ImageReader:
    """A PNG, JPEG, BMP or TIFF as a `SlideReader`; its pixels stay in memory, and threads may share it.

    JPEGs are turned as their EXIF orientation says, and width and height are those after the turn. Deeper samples are
    brought to 8 bits by the range they use (see `pixels.to_uint8`), the transparent is laid on white.
    """

    path: Path
    width: int
    height: int
    um_per_px: float | None
    bounds = (0, 0)

    def __init__(self, path: Path) -> None:
        """Decode the file.

        Raises:
            SlideError: it is missing, empty, damaged, of no known format, or has more than `MAX_PIXELS`.
        """
        self.path = path
        header = read_header(path)
        if header.width * header.height > MAX_PIXELS:
            raise too_large(path, header.width, header.height)
        if header.kind == "tiff":
            self._pixels, self.um_per_px = read_tiff(path, MAX_PIXELS)
        else:
            self._pixels, self.um_per_px = _decode(path, header), header.um_per_px
        self.height, self.width = self._pixels.shape[:2]

    def read(self, x: int, y: int, width: int, height: int, downsample: float = 1.0) -> RGBImage:
        """Cut out a region, see `SlideReader.read`."""
        region = self._pixels[y : y + height, x : x + width]
        return shrink(region, *shrunk_size(width, height, downsample))

    def close(self) -> None:
        """Let go of the pixels; the reader is of no more use."""
        self._pixels = np.empty((0, 0, 3), np.uint8)


def _decode(path: Path, header: Header) -> RGBImage:
    damaged = SlideError(f"{path}: damaged or cut short {header.kind.upper()}. Copy it again from its source.")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SlideError(f"{path}: cannot be read: {error.strerror}. Check the disk or network it is on.") from error
    # Some versions of OpenCV fill what is missing of a JPEG with grey and say nothing.
    if header.kind == "jpeg" and content.find(_END_OF_JPEG, header.end) < 0:
        raise damaged
    # Only UNCHANGED keeps 16 bits and alpha, and only COLOR turns by EXIF, makes RGB of CMYK and knows that the fourth
    # byte of a BMP's pixel is mostly unused.
    mode = cv2.IMREAD_UNCHANGED if header.kind == "png" else cv2.IMREAD_COLOR
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), mode)
    except cv2.error as error:
        raise damaged from error
    if image is None:
        raise damaged
    if image.ndim == 3:
        image = cv2.cvtColor(image, cv2.COLOR_BGRA2RGBA if image.shape[2] == 4 else cv2.COLOR_BGR2RGB)
    return to_rgb(to_uint8(image))
