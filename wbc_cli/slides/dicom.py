"""DICOM slides, read on their own grid of tiles: each level is a file, and each of its frames a JPEG."""

from __future__ import annotations

import math
import os
import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset
from pydicom.encaps import parse_basic_offsets, parse_fragments
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_partial
from pydicom.uid import JPEGBaseline8Bit

from wbc_cli.slides.companions import DicomSeries
from wbc_cli.slides.jpeg_tiles import REDUCTIONS, JpegTiles
from wbc_cli.slides.openers import open_on_grid
from wbc_cli.slides.slide import OpenSlideReader
from wbc_cli.slides.tiff import DAMAGE
from wbc_cli.slides.tile_layout import Layout, Level, TileDecoder
from wbc_cli.slides.tiled import TileGridReader

_PLACES_OF_FRAMES, _PIXELS = 0x52009230, 0x7FE00010
_PIXELS_HEADER = 12  # bytes: tag, kind and length
_ITEM = struct.Struct("<HHI")
_DAMAGE = (*DAMAGE, EOFError, NotImplementedError, InvalidDicomError, BytesLengthException)
_IS_YCBCR = {"RGB": False, "YBR_FULL_422": True}


def open_dicom(path: Path, _field: int | None = None) -> OpenSlideReader | TileGridReader:
    """Open a DICOM slide, see `openers.open_on_grid`.

    Raises:
        SlideError: it cannot be opened.
    """
    return open_on_grid(path, read_layout(path))


def read_layout(path: Path) -> Layout | None:
    """Find the tiles of a DICOM slide in the files of its series.

    Returns:
        None where a level is in several files, lacks tiles or has them in an order of its own, or is not of JPEG in
        8 bits, and where a file is damaged.
    """
    try:
        files = (path, *DicomSeries().parts([path])[path])
        headers = [(file, header) for file, header in zip(files, map(_header, files), strict=True) if _is_level(header)]
        headers.sort(key=lambda each: each[1].TotalPixelMatrixColumns, reverse=True)
        if not headers or len({header.TotalPixelMatrixColumns for _, header in headers}) < len(headers):
            return None
        return Layout(tuple(_level(file, header, headers[0][1]) for file, header in headers))
    except _DAMAGE:
        return None


def _header(path: Path) -> FileDataset:
    with path.open("rb") as file:
        return _read_header(file)


def _read_header(file: BinaryIO) -> FileDataset:
    """Read what comes before the pixels, and stop where it says of each frame where it lies: that may be long."""
    return read_partial(file, lambda tag, _, __: tag in {_PLACES_OF_FRAMES, _PIXELS})


def _is_level(header: FileDataset) -> bool:
    return str(header.get("Modality")) == "SM" and list(header.ImageType)[1:3] == ["PRIMARY", "VOLUME"]


def _level(path: Path, header: FileDataset, first: FileDataset) -> Level:
    """Find the tiles of a level.

    Raises:
        ValueError, or another of tiff.DAMAGE: it is not plain, or damaged.
    """
    width, height = int(header.TotalPixelMatrixColumns), int(header.TotalPixelMatrixRows)
    tile_width, tile_height = int(header.Columns), int(header.Rows)
    columns, rows = math.ceil(width / tile_width), math.ceil(height / tile_height)
    if (
        header.file_meta.TransferSyntaxUID != JPEGBaseline8Bit
        or header.DimensionOrganizationType != "TILED_FULL"
        or (header.SamplesPerPixel, header.BitsStored, int(header.NumberOfFrames)) != (3, 8, columns * rows)
    ):
        raise ValueError("its tiles are not plain")
    offsets, sizes = _frames(path, columns * rows)
    return Level(
        width=width,
        height=height,
        tile_width=tile_width,
        tile_height=tile_height,
        columns=columns,
        downsample=(first.TotalPixelMatrixColumns / width + first.TotalPixelMatrixRows / height) / 2,
        path=path,
        offsets=offsets[:, np.newaxis],
        sizes=sizes[:, np.newaxis],
        reductions=tuple(r for r in REDUCTIONS if tile_width % r == 0 and tile_height % r == 0),
        decode=_decoder(_IS_YCBCR[header.PhotometricInterpretation], tile_width, tile_height),
    )


def _frames(path: Path, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find the frames of a file, each in an item of its own: int64 [frames], their offsets and sizes in bytes.

    Raises:
        ValueError, struct.error: there are not as many as wanted, or it is damaged.
    """
    with path.open("rb") as file:
        header = _read_header(file)
        file.seek(_PIXELS_HEADER, os.SEEK_CUR)
        stated = parse_basic_offsets(file)
        if "ExtendedOffsetTable" in header:
            stated = np.frombuffer(header.ExtendedOffsetTable, "<u8").tolist()
        items = np.array(stated, np.int64) + file.tell() if stated else np.array(parse_fragments(file)[1], np.int64)
        if len(items) != count:
            raise ValueError("a frame is missing, or in several pieces")
        file.seek(int(items[-1]))
        _, _, last = _ITEM.unpack(file.read(_ITEM.size))
    offsets = items + _ITEM.size
    sizes = np.append(np.diff(offsets) - _ITEM.size, last)
    if sizes.min() <= 0 or offsets[-1] + last > path.stat().st_size:
        raise ValueError("the file ends before its pixels do")
    return offsets, sizes


def _decoder(ycbcr: bool, width: int, height: int) -> TileDecoder:
    tiles = JpegTiles(b"", ycbcr=ycbcr, width=width, height=height)
    return lambda data, _, reduction: tiles.decode(data, reduction)
