"""What the first bytes of PNG, JPEG and BMP files say, read before any pixel is decoded."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from wbc_cli.errors import SlideError
from wbc_cli.slides.formats import HEAD_BYTES, PICTURES, recognise
from wbc_cli.slides.jpeg import FRAMES
from wbc_cli.slides.pixel_size import UM_PER_CM, UM_PER_INCH, UM_PER_METRE, PixelSize, from_density

_JPEG_SIZE_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_BARE_MARKERS = frozenset({0x01, *range(0xD0, 0xD9)})  # have no length and no content
_JPEG_UNITS = {1: UM_PER_INCH, 2: UM_PER_CM}


@dataclass(frozen=True)
class Header:
    """What a file is, going by its content.

    Attributes:
        kind: the format; a TIFF's size is left to tifffile.
        width, height: pixels, 0 for TIFF.
        pixel_um: a pixel's size if it is plausible, or None.
        end: offset in bytes from which on the pixels are.
    """

    kind: Literal["png", "jpeg", "bmp", "tiff"]
    width: int = 0
    height: int = 0
    pixel_um: PixelSize | None = None
    end: int = 0


def read_header(path: Path) -> Header:
    """Read size and scale of an image file.

    Raises:
        SlideError: the file cannot be opened, is empty, cut short in its header, or of no known format.
    """
    try:
        with path.open("rb") as file:
            return _parse(path, file)
    except OSError as error:
        raise SlideError(
            f"{path}: cannot be read: {error.strerror}. Check the path and that you may read it."
        ) from error
    except EOFError as error:
        raise SlideError(f"{path}: cut short or damaged in its header. Copy it again from its source.") from error


def _parse(path: Path, file: BinaryIO) -> Header:
    start = file.read(HEAD_BYTES)
    file.seek(0)
    if not start:
        raise SlideError(f"{path}: the file is empty. Copy it again from its source.")
    own = recognise(start)
    if own and own.name in _PARSERS:
        return _PARSERS[own.name](path, file)
    raise SlideError(
        f"{path}: not a {', '.join(picture.name for picture in PICTURES)} or slide that OpenSlide knows "
        f"(it begins with {start!r}). Convert it to one of these, or leave it out."
    )


def _png(_path: Path, file: BinaryIO) -> Header:
    _take(file, 8)
    width = height = 0
    pixel_um = None
    while True:
        length, chunk = struct.unpack(">I4s", _take(file, 8))
        if chunk == b"IHDR":
            width, height = struct.unpack(">II", _take(file, 8))
            length -= 8
        elif chunk == b"pHYs":
            across, down, unit = struct.unpack(">IIB", _take(file, 9))
            length -= 9
            pixel_um = from_density(across, down, UM_PER_METRE) if unit == 1 else None
        elif chunk == b"IDAT":
            return Header("png", width, height, pixel_um, file.tell())
        file.seek(length + 4, 1)  # and its checksum, which the decoder looks at


def _jpeg(path: Path, file: BinaryIO) -> Header:
    _take(file, 2)
    pixel_um = None
    while True:
        if _take(file, 1) != b"\xff":
            raise EOFError
        marker = _take(file, 1)[0]
        while marker == 0xFF:  # may be padded
            marker = _take(file, 1)[0]
        if marker in _JPEG_BARE_MARKERS:
            continue
        length = struct.unpack(">H", _take(file, 2))[0] - 2
        content = _take(file, length)
        if marker == 0xE0 and content[:5] == b"JFIF\0" and length >= 12:
            unit, across, down = struct.unpack(">BHH", content[7:12])
            pixel_um = from_density(across, down, _JPEG_UNITS[unit]) if unit in _JPEG_UNITS else None
        elif marker in _JPEG_SIZE_MARKERS and length >= 6:
            bits, height, width = struct.unpack(">BHH", content[:5])
            if 0xFF00 | marker not in FRAMES or bits != 8:
                kind = "a lossless or hierarchical JPEG" if bits == 8 else f"a JPEG of {bits} bits"
                raise SlideError(f"{path}: {kind}, which is not read. Save it as PNG, TIFF or JPEG of 8 bits.")
            return Header("jpeg", width, height, pixel_um, file.tell())


def _bmp(_path: Path, file: BinaryIO) -> Header:
    _take(file, 14)
    (size,) = struct.unpack("<I", _take(file, 4))
    if size == 12:  # OS/2
        width, height = struct.unpack("<HH", _take(file, 4))
        return Header("bmp", width, height, end=file.tell())
    width, height, _, _, _, _, across, down = struct.unpack("<iiHHIIii", _take(file, 28))
    return Header("bmp", abs(width), abs(height), from_density(across, down, UM_PER_METRE), file.tell())


def _tiff(_path: Path, _file: BinaryIO) -> Header:
    return Header("tiff")


_PARSERS = {"PNG": _png, "JPEG": _jpeg, "BMP": _bmp, "TIFF": _tiff}


def _take(file: BinaryIO, length: int) -> bytes:
    content = file.read(max(length, 0))
    if len(content) < length or length < 0:
        raise EOFError
    return content
