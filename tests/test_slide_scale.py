"""Files that state their micrometres per pixel are read with them, vendor slides included."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from wbc_cli.slides import open_slide
from wbc_cli.slides.fault_tolerant import FaultTolerantReader
from wbc_cli.slides.image import ImageReader

VENDOR_FILES = Path(__file__).parents[2] / "shared" / "data" / "slides"
needs_vendor_files = pytest.mark.skipif(not VENDOR_FILES.is_dir(), reason=f"no vendor files in {VENDOR_FILES}")
RGB = np.random.default_rng(0).integers(0, 256, (96, 130, 3), dtype=np.uint8)


def resolution(value: float, unit: str) -> dict[str, object]:
    return {"resolution": (value, value), "resolutionunit": unit}


def ome(size: float, unit: str) -> dict[str, object]:
    return {"ome": True, "metadata": {"axes": "YXS", "PhysicalSizeX": size, "PhysicalSizeXUnit": unit}}


TIFF_SCALES = [
    (resolution(40_000, "CENTIMETER"), 0.25),
    (resolution(101_600, "INCH"), 0.25),
    (resolution(300, "INCH"), None),
    (resolution(72, "INCH"), None),
    (resolution(4, "NONE"), None),
    (ome(0.22, "µm"), 0.22),
    (ome(220, "nm"), 0.22),
    (ome(0.22, "mm"), None),
    (ome(0.22, "pixel"), None),
    ({"description": "<OME><Image><Pixels PhysicalSizeX='0.3'/></Image></OME>"}, 0.3),
    ({"description": "<OME><Image><Pixels PhysicalSizeX='NaN'/></Image></OME>"}, None),
    ({"description": "<OME><Image><Pixels PhysicalSizeX='-0.3'/></Image></OME>"}, None),
    ({"description": "<OME><Image><Pixels Physic"}, None),
]


@pytest.mark.parametrize(("options", "expected"), TIFF_SCALES)
@pytest.mark.parametrize("tile", [None, (64, 64)], ids=["plain", "slide"])
def test_a_tiffs_scale_is_taken_where_a_microscope_can_have_it(
    options: dict[str, object], expected: float | None, tile: tuple[int, int] | None, tmp_path: Path
) -> None:
    tifffile.imwrite(tmp_path / "s.tif", RGB, photometric="rgb", tile=tile, **({"metadata": None} | options))
    reader = open_slide(tmp_path / "s.tif")
    assert isinstance(reader, FaultTolerantReader if tile else ImageReader)
    assert reader.um_per_px == (None if expected is None else pytest.approx(expected, rel=1e-3))


@pytest.mark.parametrize(("unit", "expected"), [("micron", 0.2), ("\\u00B5m", 0.2), ("mm", None), ("pixel", None)])
def test_imagejs_scale_is_understood(unit: str, expected: float | None, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "i.tif", RGB, imagej=True, resolution=(5, 5), metadata={"unit": unit})
    assert open_slide(tmp_path / "i.tif").um_per_px == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    ("name", "dpi", "expected"),
    [
        ("a.png", 101_600, 0.25),
        ("a.png", 96, None),
        ("a.jpg", 50_800, 0.5),
        ("a.jpg", 300, None),
        ("a.bmp", 101_600, 0.25),
        ("a.bmp", 0, None),
    ],
)
def test_an_images_density_is_taken_where_a_microscope_can_have_it(
    name: str, dpi: int, expected: float | None, tmp_path: Path
) -> None:
    Image.fromarray(RGB).save(tmp_path / name, dpi=(dpi, dpi))
    assert open_slide(tmp_path / name).um_per_px == (None if expected is None else pytest.approx(expected, rel=1e-3))


@needs_vendor_files
@pytest.mark.parametrize(
    ("name", "size", "um_per_px"),
    [
        ("CMU-1-Small-Region.svs", (2220, 2967), 0.499),
        ("fluorescence.ndpi", (3968, 4864), 0.2282),
        ("boxes_0.dcm", (16, 16), 0.499),
    ],
)
def test_vendor_slides_are_read_with_their_scale(name: str, size: tuple[int, int], um_per_px: float) -> None:
    reader = open_slide(VENDOR_FILES / name)
    assert (reader.width, reader.height) == size
    assert reader.um_per_px == pytest.approx(um_per_px, rel=1e-3)
    downsample = max(1.0, size[0] / 300)
    image = reader.read(0, 0, *size, downsample)
    assert image.shape == (round(size[1] / downsample), round(size[0] / downsample), 3)
    assert image.std() > 1  # shows something
    reader.close()


@needs_vendor_files
def test_levels_of_a_vendor_slide_show_the_same_place() -> None:
    reader = open_slide(VENDOR_FILES / "fluorescence.ndpi")
    x, y, side = 1001, 1503, 1024
    fine = cv2.resize(reader.read(x, y, side, side), (128, 128), interpolation=cv2.INTER_AREA).astype(float)
    coarse = reader.read(x, y, side, side, 8.0)
    assert np.corrcoef(fine.ravel(), coarse.ravel())[0, 1] > 0.98
