"""What decoders pass over in silence is damage here: no picture is half grey, half green or half black."""

from __future__ import annotations

import io
import random
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from fuzz import judge
from PIL import Image
from tiles import FILES, TILE, picture

from wbc_cli.errors import SlideError
from wbc_cli.slides import open_slide
from wbc_cli.slides.damage import refuse_hole

RGB = np.asarray(
    np.clip(picture(240, 320).astype(int) + np.random.default_rng(0).integers(0, 9, (240, 320, 3)), 1, 255)
)
RGB = RGB.astype(np.uint8)


def read_whole(path: Path) -> np.ndarray:
    reader = open_slide(path)
    return reader.read(0, 0, reader.width, reader.height)


def jpeg(**options: object) -> bytes:
    out = io.BytesIO()
    Image.fromarray(RGB).save(out, "JPEG", **{"quality": 90} | options)
    return out.getvalue()


def hole(content: bytes, start: float, end: float) -> bytes:
    first, last = int(len(content) * start), int(len(content) * end)
    return content[:first] + bytes(last - first) + content[last:]


LOSSES = {
    "hole": lambda content: hole(content, 0.4, 0.6),
    "small hole": lambda content: hole(content, 0.5, 0.5 + 100 / len(content)),
    "cut and closed": lambda content: content[: len(content) // 2] + b"\xff\xd9",
    "middle missing": lambda content: content[: len(content) // 3] + content[len(content) // 2 :],
    "middle doubled": lambda content: content[: len(content) // 2] + content[len(content) // 3 :],
    "tail of zeros": lambda content: hole(content, 0.6, 1),
}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("kind", ["baseline", "optimize", "progressive", "restart_marker_rows", "grey", "cmyk"])
def test_a_jpeg_with_a_part_lost_and_its_end_intact_fails_with_its_name(kind: str, loss: str, tmp_path: Path) -> None:
    mode = {"grey": "L", "cmyk": "CMYK"}.get(kind, "RGB")
    options = {kind: 1} if kind in {"optimize", "progressive", "restart_marker_rows"} else {}
    out = io.BytesIO()
    Image.fromarray(RGB).convert(mode).save(out, "JPEG", quality=90, **options)
    (tmp_path / "whole.jpg").write_bytes(out.getvalue())
    assert read_whole(tmp_path / "whole.jpg").shape == RGB.shape
    if (kind, loss) == ("optimize", "small hole"):
        pytest.skip("zeros may be empty blocks there, and the decoder finds its way again")
    (tmp_path / "lost.jpg").write_bytes(LOSSES[loss](out.getvalue()))
    with pytest.raises(SlideError, match=r"lost\.jpg: damaged or cut short JPEG"):
        open_slide(tmp_path / "lost.jpg")


def test_one_colour_is_no_hole_in_a_jpeg(tmp_path: Path) -> None:
    Image.new("RGB", (2000, 2000), (236, 224, 216)).save(tmp_path / "blank.jpg", optimize=True)
    assert (read_whole(tmp_path / "blank.jpg") > 200).all()


@pytest.mark.parametrize("loss", ["hole", "cut and closed", "middle missing"])
@pytest.mark.parametrize("kind", ["jpeg", "jpeg_rgb_aperio", "jpeg_420", "jpeg_progressive"])
def test_a_damaged_jpeg_tile_is_unreadable_area_and_not_grey(kind: str, loss: str, tmp_path: Path) -> None:
    path = tmp_path / "s.svs"
    FILES[kind](path, np.tile(RGB, (4, 4, 1)))
    with tifffile.TiffFile(path) as tiff:
        start, size = tiff.pages[0].dataoffsets[30], tiff.pages[0].databytecounts[30]
    content = bytearray(path.read_bytes())
    content[start : start + size] = LOSSES[loss](bytes(content[start : start + size])).ljust(size, b"\0")[:size]
    path.write_bytes(content)
    reader = open_slide(path)
    x, y = 30 % 20 * TILE, 30 // 20 * TILE
    assert (reader.read(x, y, TILE, TILE) == 255).all()
    assert reader.gaps.share == pytest.approx(TILE * TILE / (reader.width * reader.height))


@pytest.mark.parametrize("options", [{"rowsperstrip": 32}, {"tile": (80, 80)}, {"planarconfig": "separate"}], ids=str)
@pytest.mark.parametrize("compression", ["jpeg", "lzw", "zlib", "packbits", None], ids=str)
def test_a_tiff_with_a_hole_fails_whatever_its_compression(
    compression: str | None, options: dict[str, object], tmp_path: Path
) -> None:
    path, pixels = tmp_path / "h.tif", np.moveaxis(RGB, 2, 0) if "planarconfig" in options else RGB
    if compression == "packbits" and "tile" in options:
        pytest.skip("OpenSlide reads it")
    tifffile.imwrite(path, pixels, photometric="rgb", compression=compression, **options)
    read_whole(path)
    path.write_bytes(hole(path.read_bytes(), 0.31, 0.62))
    with pytest.raises(SlideError, match=r"h\.tif"):
        read_whole(path)


@pytest.mark.parametrize("end", [0.7, 1.0])
@pytest.mark.parametrize("suffix", ["bmp", "tif"])
def test_a_picture_that_is_still_being_copied_fails(suffix: str, end: float, tmp_path: Path) -> None:
    path = tmp_path / f"c.{suffix}"
    if suffix == "tif":
        tifffile.imwrite(path, RGB, photometric="rgb")
    else:
        Image.fromarray(RGB).save(path)
    read_whole(path)
    path.write_bytes(hole(path.read_bytes(), 0.4, end))
    with pytest.raises(SlideError, match=rf"c\.{suffix}: .*zeros.*Copy it again"):
        open_slide(path)


def test_black_shapes_are_no_damage() -> None:
    shapes = {
        "frame": lambda image: cv2.rectangle(image, (0, 0), (319, 239), (0, 0, 0), 20),
        "bar": lambda image: cv2.rectangle(image, (20, 220), (300, 226), (0, 0, 0), -1),
        "below": lambda image: cv2.rectangle(image, (0, 180), (319, 239), (0, 0, 0), -1),
        "eyepiece": lambda image: np.where(cv2.circle(np.zeros_like(image), (160, 120), 110, (1, 1, 1), -1), image, 0),
        "wide eyepiece": lambda image: np.where(
            cv2.circle(np.zeros_like(image), (160, 120), 170, (1, 1, 1), -1), image, 0
        ),
        "turned": lambda image: cv2.warpAffine(image, cv2.getRotationMatrix2D((160, 120), 5, 1), (320, 240)),
        "line": lambda image: cv2.line(image, (0, 100), (319, 100), (0, 0, 0), 1),
        "all": lambda image: image * 0,
    }
    for draw in shapes.values():
        refuse_hole(np.asarray(draw(RGB.copy()), np.uint8))


def test_noise_where_pixels_were_is_damage(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "n.bmp")
    content = (tmp_path / "n.bmp").read_bytes()
    noise = random.Random(0).randbytes(50_000)
    (tmp_path / "n.bmp").write_bytes(content[:90_000] + noise + content[140_000:])
    with pytest.raises(SlideError, match="noise"):
        open_slide(tmp_path / "n.bmp")


def test_the_fuzz_calls_another_count_without_a_flag_silent() -> None:
    whole = {"status": "done", "flags": "few", "cells": "7", "reason": ""}
    assert judge({**whole, "cells": "3"}, whole) == "silent"
    assert judge({**whole, "cells": "3", "flags": "few;unreadable_tiles"}, whole) == "flagged"
    assert judge({**whole, "status": "failed", "reason": "damaged"}, whole) == "failed"
    assert judge(whole, whole) == "intact"
