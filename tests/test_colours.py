"""Odd samples and colours do not pass without a word."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from fakes import make_cell
from PIL import Image

from wbc_cli.cells import NUCLEUS
from wbc_cli.inference.quality import judge
from wbc_cli.inference.quality_metrics import measure_quality
from wbc_cli.slides import open_slide
from wbc_cli.slides.pixels import to_uint8
from wbc_cli.synthetic.smear import Smear
from wbc_cli.synthetic.stains import CREAM

RGB = Smear(480, 360, 0.2, 4, 1, CREAM, 0.05).render(0, 0, 480, 360)


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_hot_pixels_do_not_darken_a_picture(bits: int) -> None:
    deep = np.rint(RGB / 255 * (2**bits - 1)).astype(np.uint16)
    deep[10:12, 20:25] = 65_535
    assert np.abs(to_uint8(deep).astype(int) - RGB)[20:].max() <= 1


@pytest.mark.parametrize("most", [1.0004, 1.08])
def test_floats_a_little_above_one_do_not_darken_a_picture(most: float) -> None:
    samples = RGB.astype(np.float32) / 255
    samples[:40] *= most
    assert np.abs(to_uint8(samples).astype(int) - RGB)[40:].max() <= 1


def test_a_grey_picture_and_a_negative_are_flagged_and_a_right_one_is_not(tmp_path: Path) -> None:
    pictures = {"right": RGB, "grey": RGB[..., 1], "equal": np.repeat(RGB[..., 1:2], 3, axis=2), "negative": 255 - RGB}
    flags = {}
    for name, image in pictures.items():
        Image.fromarray(image).save(tmp_path / f"{name}.png")
        flags[name] = open_slide(tmp_path / f"{name}.png").flags
    assert flags == {"right": (), "grey": ("no_colour",), "equal": ("no_colour",), "negative": ("inverted",)}


@pytest.mark.parametrize(("order", "odd"), [([0, 1, 2], False), ([2, 1, 0], True)])
def test_channels_in_the_wrong_order_are_flagged(order: list[int], odd: bool, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "o.tif", np.ascontiguousarray(RGB[..., order]), photometric="rgb")
    dark = cv2.GaussianBlur(RGB[..., 1], (0, 0), 3)
    y, x = np.unravel_index(dark.argmin(), dark.shape)
    cell = make_cell(1, np.full((9, 9), NUCLEUS, np.uint8), int(x) - 4, int(y) - 4, um_per_px=0.2)
    background = np.quantile(RGB[..., order].reshape(-1, 3), 0.9, axis=0).astype(np.uint8)
    quality = measure_quality(open_slide(tmp_path / "o.tif"), [cell], [], 0.2, background)
    assert ("odd_colours" in judge(quality)[0]) == odd
