"""Plain images, decoded once into memory."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
from numpy.typing import NDArray

from wbc_cli.errors import SlideError
from wbc_cli.slides import jpeg
from wbc_cli.slides.colours import colour_flags
from wbc_cli.slides.damage import refuse_hole
from wbc_cli.slides.fields import fields_of, open_tiff
from wbc_cli.slides.header import Header, read_header
from wbc_cli.slides.pixels import shrink, shrunk_size, to_rgb, to_uint8
from wbc_cli.slides.planes import read_field
from wbc_cli.slides.reader import SHARPEST, RGBImage, SlideReader
from wbc_cli.slides.tiff import DAMAGE, too_large

cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # an error here names the file

MAX_PIXELS = 400_000_000  # 1.2 GB as RGB, and up to three times that while decoding


class ImageReader(SlideReader):
    """A PNG, JPEG, BMP or TIFF as a `SlideReader`; its pixels stay in memory, and threads may share it.

    JPEGs are turned as their EXIF orientation says, and width and height are those after the turn. Deeper samples are
    brought to 8 bits by the range they use (see `pixels.to_uint8`), the transparent is laid on white.
    """

    def __init__(self, path: Path, field: int = 0) -> None:
        """Decode the file.

        Args:
            path: the file.
            field: which of the fields of a TIFF.

        Raises:
            SlideError: it is missing, empty, damaged, of no known format, or has more than `MAX_PIXELS`.
        """
        self.path = path
        header = read_header(path)
        _refuse_size(path, header.width, header.height)
        if header.kind == "tiff":
            self._read_tiff(field)
        else:
            self._pixels, self.pixel_um = _decode(path, header), header.pixel_um
        self.um_per_px = self.pixel_um and min(self.pixel_um)
        self.flags += colour_flags(self._pixels)
        self.height, self.width = self._pixels.shape[:2]

    def _read_tiff(self, number: int) -> None:
        try:
            with open_tiff(self.path) as tiff:
                field = fields_of(tiff)[number]
                _refuse_size(self.path, field.series.keyframe.imagewidth, field.series.keyframe.imagelength)
                self._pixels, is_one_of_several = read_field(self.path, field)
        except DAMAGE as error:
            raise SlideError(
                f"{self.path}: damaged or cut short TIFF ({error}). Copy it again from its source."
            ) from error
        self.pixel_um = field.pixel_um
        self.flags = (SHARPEST,) if is_one_of_several else ()

    def read(self, x: int, y: int, width: int, height: int, downsample: float = 1.0) -> RGBImage:
        """Cut out a region, see `SlideReader.read`."""
        region = self._pixels[y : y + height, x : x + width]
        return shrink(region, *shrunk_size(width, height, downsample))

    def close(self) -> None:
        """Let go of the pixels; the reader is of no more use."""
        self._pixels = np.empty((0, 0, 3), np.uint8)


def _refuse_size(path: Path, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise too_large(path, width, height)


def _decode(path: Path, header: Header) -> RGBImage:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SlideError(f"{path}: cannot be read: {error.strerror}. Check the disk or network it is on.") from error
    try:
        match header.kind:
            case "png":
                image = imagecodecs.png_decode(content)
            case "jpeg":
                jpeg.check(content)
                image = _decode_colours(content)
            case _:
                image = _decode_colours(content)
                refuse_hole(image[::-1])  # the lowest row comes first in the file
    except (cv2.error, imagecodecs.PngError, ValueError, struct.error) as error:
        raise SlideError(
            f"{path}: damaged or cut short {header.kind.upper()} ({error}). Copy it again from its source."
        ) from error
    return to_rgb(to_uint8(image))


def _decode_colours(content: bytes) -> NDArray[np.uint8]:
    """Decode to RGB; OpenCV turns by EXIF, makes RGB of CMYK and knows that the 4th byte of BMPs is mostly unused."""
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError("it cannot be decoded")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
