"""Of a container the right picture is read: the scan and not its label, each field, of a stack the sharpest plane."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from conftest import spots
from fakes import NO_PRODUCTS, blank, rows, small_result
from PIL import Image
from tiles import FIELD, TILE, picture

from wbc_cli.errors import SlideError
from wbc_cli.products.folder import RunFolder
from wbc_cli.run.plan import known_names
from wbc_cli.slides import open_slide
from wbc_cli.slides.discover import discover
from wbc_cli.slides.fields import contents_of

SCAN, OTHER = picture(480, 640), picture(482, 642)[:480, :640]
LABEL, OVERVIEW = picture(120, 100), cv2.resize(SCAN, (160, 120), interpolation=cv2.INTER_AREA)
UM = {"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25}


def read_whole(path: Path, field: int | None = None) -> np.ndarray:
    reader = open_slide(path, field)
    return reader.read(0, 0, reader.width, reader.height)


@pytest.mark.parametrize("tile", [None, (TILE, TILE)], ids=["plain", "tiled"])
@pytest.mark.parametrize("first", [LABEL, OVERVIEW, SCAN[:100]], ids=["label", "overview", "strip"])
def test_the_scan_is_the_largest_and_not_what_comes_first(
    first: np.ndarray, tile: tuple[int, int] | None, tmp_path: Path
) -> None:
    with tifffile.TiffWriter(tmp_path / "s.tif") as tiff:
        for image in (first, SCAN, LABEL):
            tiff.write(image, photometric="rgb", tile=tile, metadata=None)
    assert contents_of(tmp_path / "s.tif").fields == 1
    assert np.array_equal(read_whole(tmp_path / "s.tif"), SCAN)


def test_a_picture_that_is_called_label_or_macro_is_none(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "m.ome.tif", ome=True) as tiff:
        for name, image in (("macro image", OTHER), ("Image 1", SCAN)):
            tiff.write(image, photometric="rgb", metadata={"axes": "YXS", "Name": name})
    assert np.array_equal(read_whole(tmp_path / "m.ome.tif"), SCAN)


@pytest.mark.parametrize("tile", [None, (TILE, TILE)], ids=["plain", "tiled"])
def test_several_fields_are_several_slides(tile: tuple[int, int] | None, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "f.tif", np.stack([SCAN, OTHER]), photometric="rgb", tile=tile)
    found = discover([tmp_path])
    assert [slide.name for slide in found.slides] == ["f.tif+1", "f.tif+2"]
    for slide, image in zip(found.slides, (SCAN, OTHER), strict=True):
        assert np.array_equal(read_whole(slide.path, slide.field), image)
    with pytest.raises(SlideError, match=r"f\.tif: holds 2 fields"):
        open_slide(tmp_path / "f.tif")


def test_fields_with_results_keep_their_names_whatever_comes_beside_them(tmp_path: Path) -> None:
    first, second, run = tmp_path / "1" / "f.tif", tmp_path / "2" / "f.tif", RunFolder(tmp_path / "out")
    for path in (first, second):
        path.parent.mkdir()
        tifffile.imwrite(path, np.stack([SCAN, OTHER]), photometric="rgb")
    run.commit(small_result("f.tif+2"), blank(), NO_PRODUCTS, {"source": str(first)})
    found = discover([first, second], known_names(run.out))
    by_file = {path: [slide.name for slide in found.slides if slide.path == path] for path in (first, second)}
    assert by_file[first] == ["f.tif+1", "f.tif+2"]
    assert [re.sub("_[0-9a-f]{8}", "_HASH", name) for name in by_file[second]] == ["f_HASH.tif+1", "f_HASH.tif+2"]


def test_scenes_of_different_sizes_and_one_scale_are_fields(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "s.ome.tif", ome=True) as tiff:
        for image in (OTHER[:100, :90], SCAN):
            tiff.write(image, photometric="rgb", tile=(TILE, TILE), metadata={"axes": "YXS", **UM})
    assert contents_of(tmp_path / "s.ome.tif").fields == 2
    assert np.array_equal(read_whole(tmp_path / "s.ome.tif", 0), OTHER[:100, :90])
    assert open_slide(tmp_path / "s.ome.tif", 1).um_per_px == 0.25


@pytest.mark.parametrize("kind", ["ome", "imagej"])
def test_of_a_stack_the_sharpest_plane_is_read_and_said_so(kind: str, tmp_path: Path) -> None:
    planes = np.stack([cv2.GaussianBlur(SCAN, (0, 0), sigma) if sigma else SCAN for sigma in (8, 3, 0, 5)])
    tifffile.imwrite(tmp_path / "z.tif", planes, photometric="rgb", metadata={"axes": "ZYXS"}, **{kind: True})
    reader = open_slide(tmp_path / "z.tif")
    assert np.array_equal(reader.read(0, 0, 640, 480), SCAN)
    assert reader.flags == ("sharpest_plane",)


def test_times_of_a_stack_are_fields(tmp_path: Path) -> None:
    data = np.stack([np.stack([OTHER // 2 + 100, OTHER]), np.stack([SCAN, SCAN // 2 + 100])])
    tifffile.imwrite(tmp_path / "t.tif", data, imagej=True, metadata={"axes": "TZYXS"})
    assert contents_of(tmp_path / "t.tif").fields == 2
    assert np.array_equal(read_whole(tmp_path / "t.tif", 1), SCAN)


def test_channels_are_put_in_the_order_that_their_names_say(tmp_path: Path) -> None:
    channels = {"axes": "CYX", "Channel": {"Name": ["Blue", "Green", "Red"]}}
    data = np.moveaxis(SCAN[..., ::-1], 2, 0)
    tifffile.imwrite(tmp_path / "c.ome.tif", data, ome=True, photometric="minisblack", metadata=channels)
    assert np.array_equal(read_whole(tmp_path / "c.ome.tif"), SCAN)


def test_channels_that_make_no_colours_are_refused(tmp_path: Path) -> None:
    data = np.zeros((5, 60, 80), np.uint8)
    tifffile.imwrite(tmp_path / "c.ome.tif", data, photometric="minisblack", metadata={"axes": "CYX"})
    with pytest.raises(SlideError, match=r"c\.ome\.tif: has 5 channels.*Export it as RGB"):
        open_slide(tmp_path / "c.ome.tif")


def test_a_set_of_files_is_taken_once(tmp_path: Path) -> None:
    xml = "<?xml version='1.0'?><OME xmlns='http://www.openmicroscopy.org/Schemas/OME/2016-06' UUID='urn:uuid:{own}'>"
    xml += "<Image ID='Image:0'><Pixels ID='Pixels:0' DimensionOrder='XYCZT' Type='uint8' SizeX='640' SizeY='480' "
    xml += "SizeC='3' SizeZ='1' SizeT='2'><Channel ID='Channel:0:0' SamplesPerPixel='3'/>"
    for time in (0, 1):
        xml += f"<TiffData FirstT='{time}' IFD='0'><UUID FileName=\"t{time}.ome.tif\">urn:uuid:{time}</UUID></TiffData>"
    xml += "</Pixels></Image></OME>"
    for time, image in enumerate((SCAN, OTHER)):
        path = tmp_path / f"t{time}.ome.tif"
        tifffile.imwrite(path, image, photometric="rgb", description=xml.replace("{own}", str(time)), metadata=None)
    found = discover([tmp_path])
    assert [(slide.name, slide.path.name) for slide in found.slides] == [
        ("t0.ome.tif+1", "t0.ome.tif"),
        ("t0.ome.tif+2", "t0.ome.tif"),
    ]
    assert [reason for _, reason in found.skipped] == [f"part of {tmp_path / 't0.ome.tif'}"]
    assert found.slides[0].files == (tmp_path / "t0.ome.tif", tmp_path / "t1.ome.tif")
    later = discover([tmp_path], {str(tmp_path / "t1.ome.tif"): "t1.ome.tif"})
    assert [slide.name for slide in later.slides] == ["t1.ome.tif+1", "t1.ome.tif+2"]
    assert np.array_equal(read_whole(found.slides[1].path, 1), OTHER)
    (tmp_path / "t1.ome.tif").unlink()
    with pytest.raises(SlideError, match=r"t0\.ome\.tif: .*"):
        open_slide(tmp_path / "t0.ome.tif", 1)


@pytest.mark.parametrize("suffix", [".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".vms", ".dcm", ".czi", ".vsi"])
@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_what_is_named_as_a_slide_is_never_read_as_a_picture(suffix: str, kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"s{suffix}"
    Image.fromarray(FIELD).save(path, kind)
    with pytest.raises(SlideError, match=rf"s{suffix}: (?!damaged)"):
        open_slide(path)


def test_the_overview_beside_an_olympus_scan_is_no_slide(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "Image.tif", SCAN, photometric="rgb")
    (tmp_path / "_Image_" / "stack1").mkdir(parents=True)
    (tmp_path / "_Image_" / "stack1" / "frame_t.ets").write_bytes(b"SIS\0")
    with pytest.raises(SlideError, match=r"Olympus VSI.*Export it as"):
        open_slide(tmp_path / "Image.tif")


KINDS = {
    "b.png": (b"\xda\xce\xbe\x0a" + bytes(200), "Nikon ND2"),
    "c.jpg": (b"\0\0\0\x18ftypheic" + bytes(99), "HEIF"),
    "d.jpg": (b"RIFF\0\0\0\0WEBP", "WebP"),
    "e.tif": (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    "f.dcm": (bytes(128) + b"DICM" + b"\x08\x00\x60\x00CS\x02\0CT", "DICOM of modality CT"),
    "g.jpg": (b"\xff\xd8\xff\xc3\0\x0b\x08\0\x10\0\x10\x01\x01\x11\0" + bytes(30), "lossless"),
    "h.jpg": (b"\xff\xd8\xff\xc1\0\x0b\x0c\0\x10\0\x10\x01\x01\x11\0" + bytes(30), "JPEG of 12 bits"),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_kind_that_is_not_read_is_named_with_what_to_export(name: str, tmp_path: Path) -> None:
    content, kind = KINDS[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SlideError, match=rf"{name}: .*{kind}.*(Save|Export)") as error:
        open_slide(tmp_path / name)
    assert "damaged" not in str(error.value)


def test_a_czi_that_openslide_does_not_read_is_called_that(tmp_path: Path) -> None:
    (tmp_path / "a.czi").write_bytes(b"ZISRAWFILE" + bytes(200))
    with pytest.raises(SlideError, match=r"a\.czi: .*zeiss.*export it as pyramidal TIFF"):
        open_slide(tmp_path / "a.czi")


@pytest.mark.parametrize("compression", [6, 33003, 32_908])
def test_a_compression_that_is_not_read_is_named(compression: int, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "k.tif", FIELD, photometric="rgb")
    with tifffile.TiffFile(tmp_path / "k.tif", mode="r+b") as tiff:
        tiff.pages[0].tags["Compression"].overwrite(compression)
    with pytest.raises(SlideError, match=r"k\.tif: its pixels are in .*Save it with"):
        open_slide(tmp_path / "k.tif")


def test_fields_of_a_file_have_rows_of_their_own(toy_weights, sabotage, tmp_path, call):
    fields = [spots((100, 100)), spots((100, 100), (250, 100)), spots()]
    tifffile.imwrite(tmp_path / "f.tif", np.stack(fields), photometric="rgb")

    def analyze():
        common = ("--weights", toy_weights, "--mpp", 0.2, "--device", "cpu", "--write", "none")
        return call("analyze", tmp_path / "f.tif", "-o", tmp_path / "out", *common)

    # The run's fingerprint of the file is taken once for all of its fields.
    mark = tmp_path / "reads"
    sabotage(
        "import sys\nif 'wbc_cli.run.worker' in ' '.join(sys.orig_argv):\n"
        "    import wbc_cli.run.fingerprint as fingerprint\n    whole = fingerprint._content\n"
        "    def content(file, beat):\n"
        f"        with open({str(mark)!r}, 'a') as log: log.write('x')\n"
        "        return whole(file, beat)\n"
        "    fingerprint._content = content\n"
    )
    assert analyze().code == 0
    assert mark.read_text() == "x"
    table = rows(tmp_path / "out" / "differential.csv")
    assert [(row["slide"], row["cells"]) for row in table][:2] == [("f.tif+1", "1"), ("f.tif+2", "2")]
    assert len(table) == 3
    # Of a file that is written anew with fewer fields, none is left over.
    tifffile.imwrite(tmp_path / "f.tif", np.stack(fields[:2]), photometric="rgb")
    assert analyze().code == 0
    assert [row["slide"] for row in rows(tmp_path / "out" / "differential.csv")] == ["f.tif+1", "f.tif+2"]
