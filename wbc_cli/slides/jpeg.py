"""JPEG streams, decoded only where they are whole: what other decoders merely warn of is an error here."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import simplejpeg
from numpy.typing import NDArray

SOI, EOI = b"\xff\xd8", b"\xff\xd9"
SCAN, HUFFMAN_TABLES = 0xFFDA, 0xFFC4
_PADDING = 0xFFFF
_SEGMENT = struct.Struct(">HH")
_SEQUENTIAL = frozenset({0xFFC0, 0xFFC1})
FRAMES = _SEQUENTIAL | {0xFFC2, 0xFFC9, 0xFFCA}
"""The markers of the frames that are decoded: sequential and progressive, by Huffman or arithmetic codes."""

_FIRST_AC_TABLE = 0x10
_HOLE = bytes(64)  # one of these in a scan is seen in no picture of a camera, see `_may_be_zeros`


class Segment(NamedTuple):
    """A part of a JPEG's header.

    Attributes:
        marker: its two bytes as a number.
        start, end: offsets of its content in bytes.
    """

    marker: int
    start: int
    end: int


def segments(stream: bytes) -> Iterator[Segment]:
    """Yield the segments of the header, of which the first scan's is the last.

    Raises:
        ValueError, struct.error: it is no JPEG, or cut short.
    """
    at, marker = len(SOI), 0
    while marker != SCAN:
        marker, length = _SEGMENT.unpack_from(stream, at)
        if marker == _PADDING:
            at += 1
            continue
        if marker < 0xFF00:
            raise ValueError("it is no JPEG")
        yield Segment(marker, at + _SEGMENT.size, at + 2 + length)
        at += 2 + length


def decode(stream: bytes, colours: str = "RGB", width: int = 0, height: int = 0) -> NDArray[np.uint8]:
    """Decode a JPEG that has no damage.

    Args:
        stream: a whole JPEG.
        colours: those of the answer, as `simplejpeg.decode_jpeg` calls them; CMYK can only stay so.
        width, height: where given, the picture is shrunk while it is decoded, by 2, 4 or 8, but not below these.

    Returns:
        uint8 [H, W, colours].

    Raises:
        ValueError: the decoder had to guess, or warned; or a stretch of the pixels was overwritten with zeros.
        struct.error: the header is cut short.
    """
    parts = list(segments(stream))
    # A lossless one, decoded smaller, would make the library write beyond its memory.
    if not any(part.marker in FRAMES and stream[part.start] == 8 for part in parts):
        raise ValueError("Unsupported JPEG: lossless, hierarchical or of more than 8 bits")
    image: NDArray[np.uint8] = simplejpeg.decode_jpeg(stream, colours, min_width=width, min_height=height, strict=True)
    if stream.find(_HOLE, parts[-1].end) >= 0 and not _may_be_zeros(stream, parts):
        raise ValueError("Corrupt JPEG data: a stretch of zeros")
    return image


def check(stream: bytes) -> None:
    """Refuse a JPEG of whatever colours that has damage, see `decode`, at less cost.

    Raises:
        ValueError, struct.error: it has.
    """
    colours = {"Gray": "GRAY", "CMYK": "CMYK", "YCCK": "CMYK"}
    if not stream.startswith(SOI):
        raise ValueError("it is no JPEG")
    *_, own, _ = simplejpeg.decode_jpeg_header(stream, strict=True)
    decode(stream, colours.get(own, "RGB"), 1, 1)


def _may_be_zeros(stream: bytes, parts: list[Segment]) -> bool:
    """Tell whether a scan may hold many zeros in a row: each codes an empty block, as where the picture is one colour.

    With the usual tables a row of zeros codes blocks full of the finest detail, which the decoder takes for pixels.
    """
    if not any(part.marker in _SEQUENTIAL for part in parts):
        return False
    for part in parts:
        at = part.start
        while part.marker == HUFFMAN_TABLES and at < part.end:
            if stream[at] == _FIRST_AC_TABLE:
                return stream[at + 17] == 0  # the symbol whose code is all zeros: the end of a block
            at += 17 + sum(stream[at + 1 : at + 17])
    return False
