"""A bad file is an error that names it and says what is wrong with it, never a picture that is half grey."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import pytest
import tifffile
from PIL import Image
from tiles import picture, whole

from wbc_cli.errors import SlideError
from wbc_cli.slides import open_slide

RGB = picture(96, 130)


def png_header(width: int, height: int) -> bytes:
    header = struct.pack(">4sIIBBBBB", b"IHDR", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I4s", 0, b"IDAT") + bytes(4)


BAD_FILES = {
    "text.png": (b"this is no picture, it is a text", "not a PNG"),
    "empty.png": (b"", "empty"),
    "empty.tif": (b"", "empty"),
    "empty.svs": (b"", "empty"),
    "signature_only.tif": (b"II*\0\x08\0\0\0", "damaged"),
    "signature_only.png": (b"\x89PNG\r\n\x1a\n", "cut short"),
    "signature_only.jpg": (b"\xff\xd8\xff", "cut short"),
    "signature_only.bmp": (b"BM", "cut short"),
    "header_only.png": (png_header(10, 10), "cut short"),
    "bomb.png": (png_header(60_000, 60_000), "too many"),
    "bomb.jpg": (b"\xff\xd8\xff\xc0\0\x11\x08" + struct.pack(">HH", 65_000, 65_000) + bytes(30), "too many"),
    "bomb.bmp": (b"BM" + bytes(12) + struct.pack("<IiiHHIIii", 40, 99_999, -99_999, 1, 24, 0, 0, 0, 0), "too many"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_named_with_the_reason(name: str, tmp_path: Path) -> None:
    content, reason = BAD_FILES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SlideError, match=reason) as error:
        open_slide(tmp_path / name)
    assert str(tmp_path / name) in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SlideError, match=r"gone\.svs.*No such file"):
        open_slide(tmp_path / "gone.svs")


def test_a_tiff_too_large_to_hold_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "bomb.tif", RGB, photometric="rgb")
    with tifffile.TiffFile(tmp_path / "bomb.tif", mode="r+b") as tiff:
        tiff.pages[0].tags["ImageWidth"].overwrite(60_000)
        tiff.pages[0].tags["ImageLength"].overwrite(60_000)
    with pytest.raises(SlideError, match=r"too many.*pyramidal"):
        open_slide(tmp_path / "bomb.tif")


@pytest.mark.parametrize("share", [0.3, 0.7, 0.99])
@pytest.mark.parametrize("zeros", [False, True], ids=["cut", "zeros"])
@pytest.mark.parametrize("suffix", ["jpg", "progressive.jpg", "png", "bmp", "jpeg.tif", "lzw.tif"])
def test_a_half_copied_picture_is_an_error_and_never_half_grey(
    suffix: str, zeros: bool, share: float, tmp_path: Path
) -> None:
    if zeros and suffix in {"bmp", "jpeg.tif", "lzw.tif"}:
        pytest.skip("zeros are valid pixels, or the directory at the end is lost")
    path = tmp_path / f"x.{suffix}"
    if suffix.endswith("tif"):
        tifffile.imwrite(path, RGB, photometric="rgb", compression=suffix.removesuffix(".tif"))
    else:
        Image.fromarray(RGB).save(path, progressive="progressive" in suffix)
    content = path.read_bytes()
    kept = int(len(content) * share)
    path.write_bytes(content[:kept] + (bytes(len(content) - kept) if zeros else b""))
    with pytest.raises(SlideError, match="cut short"):
        open_slide(path)


def test_a_thumbnail_does_not_hide_that_a_jpeg_is_cut_short(tmp_path: Path) -> None:
    thumbnail = cv2.imencode(".jpg", RGB[::4, ::4])[1].tobytes()  # has an end-of-image marker of its own
    content = cv2.imencode(".jpg", RGB)[1].tobytes()
    with_thumbnail = content[:2] + b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail + content[2:]
    path = tmp_path / "t.jpg"
    path.write_bytes(with_thumbnail)
    assert whole(open_slide(path)).shape == RGB.shape
    path.write_bytes(with_thumbnail[: -len(content) // 2])
    with pytest.raises(SlideError, match="cut short"):
        open_slide(path)
