"""Tiled TIFFs as many programs write them, with a picture that is known."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import tifffile
from PIL import Image

from wbc_cli.slides import open_slide
from wbc_cli.slides.fault_tolerant import FaultTolerantReader
from wbc_cli.slides.reader import SlideReader
from wbc_cli.slides.tiled import TileGridReader

TILE = 64
APERIO = "Aperio Image Library\r\n407x301 (64x64)|AppMag = 20|MPP = 0.4990|Left = 1.5"


def picture(height: int, width: int, sigma: float = 5) -> np.ndarray:
    """Smooth as far as sigma says, different in its channels, with the full range of grey levels."""
    noise = np.random.default_rng(height * width).normal(size=(height, width, 3))
    smooth = cv2.GaussianBlur(noise, (0, 0), sigma)
    low, high = smooth.min(axis=(0, 1)), smooth.max(axis=(0, 1))
    return np.rint((smooth - low) / (high - low) * 255).astype(np.uint8)


LOSSY = 6  # grey levels that JPEG may move a pixel of a smooth picture
FIELD = picture(301, 407)  # its sides are no multiples of anything


def write(path: Path, *levels: np.ndarray, **options: object) -> Path:
    """A tiled TIFF with the levels in pages of their own."""
    with tifffile.TiffWriter(path, bigtiff=bool(options.pop("bigtiff", False))) as tiff:
        for i, level in enumerate(levels):
            plain = {"tile": (TILE, TILE), "photometric": "rgb", "subfiletype": int(i > 0), "metadata": None}
            tiff.write(level, **plain | options)
    return path


def write_jpeg(
    path: Path, image: np.ndarray, *, rgb: bool, marked: bool, tables: bool, padding: int | None = None, **options: int
) -> Path:
    """A tiled TIFF of JPEG tiles as other programs write it.

    Marked: the tiles say what their colours are. Tables: these are apart, in the page's directory. The tiles at the
    edges are filled up with the grey level `padding`, or with the pixels at the border.
    """

    def encode(tile: np.ndarray, stream: int) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(tile).save(buffer, "JPEG", quality=90, keep_rgb=rgb, streamtype=stream, **options)
        content = buffer.getvalue()
        for marker in (b"\xff\xe0\x00\x10JFIF", b"\xff\xee\x00\x0eAdobe"):
            if not marked and (at := content.find(marker)) >= 0:
                content = content[:at] + content[at + 2 + marker[3] :]
        return content

    def tiles() -> Iterator[bytes]:
        for y in range(0, image.shape[0], TILE):
            for x in range(0, image.shape[1], TILE):
                tile = image[y : y + TILE, x : x + TILE]
                edges = (0, TILE - tile.shape[0], 0, TILE - tile.shape[1])
                kind = cv2.BORDER_REPLICATE if padding is None else cv2.BORDER_CONSTANT
                yield encode(cv2.copyMakeBorder(tile, *edges, kind, value=[padding or 0] * 3), 2 if tables else 0)

    shared = encode(image[:TILE, :TILE], 1)
    return write(
        path,
        tiles(),
        shape=image.shape,
        dtype=np.uint8,
        photometric="rgb" if rgb else "ycbcr",
        subsampling=(2, 2) if options.get("subsampling") == 2 else (1, 1),
        compression="jpeg",
        compressionargs={"outcolorspace": "rgb"} if rgb else {},
        extratags=[(347, 7, len(shared), shared, True)] if tables else [],
    )


FULL = {"subsampling": 0}
FILES = {
    "none": lambda path, image=FIELD: write(path, image),
    "lzw": lambda path, image=FIELD: write(path, image, compression="lzw"),
    "lzw_predictor": lambda path, image=FIELD: write(path, image, compression="lzw", predictor=True),
    "deflate": lambda path, image=FIELD: write(path, image, compression="zlib", predictor=True),
    "jpeg_2000": lambda path, image=FIELD: write(path, image, compression="APERIO_JP2000_RGB", description=APERIO),
    "bigtiff": lambda path, image=FIELD: write(path, image, compression="lzw", bigtiff=True),
    "jpeg": lambda path, image=FIELD: write(path, image, compression="jpeg"),
    "jpeg_rgb": lambda path, image=FIELD: write_jpeg(path, image, rgb=True, marked=True, tables=False, **FULL),
    "jpeg_rgb_aperio": lambda path, image=FIELD: write_jpeg(path, image, rgb=True, marked=False, tables=True, **FULL),
    "jpeg_ycbcr": lambda path, image=FIELD: write_jpeg(path, image, rgb=False, marked=True, tables=False, **FULL),
    "jpeg_420": lambda path, image=FIELD: write_jpeg(path, image, rgb=False, marked=False, tables=True, subsampling=2),
    "jpeg_progressive": lambda path, image=FIELD: write_jpeg(
        path, image, rgb=False, marked=True, tables=False, subsampling=2, progressive=1
    ),
}


def opened(path: Path) -> TileGridReader:
    slide = open_slide(path)
    assert isinstance(slide, FaultTolerantReader)
    assert isinstance(slide.reader, TileGridReader)
    return slide.reader


def whole(reader: SlideReader, downsample: float = 1) -> np.ndarray:
    return reader.read(0, 0, reader.width, reader.height, downsample)


def most_apart(first: np.ndarray, second: np.ndarray) -> int:
    assert first.shape == second.shape
    assert first.dtype == second.dtype == np.uint8
    return int(np.abs(first.astype(int) - second).max())


def assert_close(image: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    if expected.ndim == 2:
        expected = np.repeat(expected[..., None], 3, axis=2)
    assert image.dtype == np.uint8
    assert image.shape == expected.shape
    difference = int(np.abs(image.astype(int) - expected.astype(int)).max())
    assert difference <= tolerance
