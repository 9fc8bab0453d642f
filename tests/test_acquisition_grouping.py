"""Which pictures are of one acquisition is told by folder, size and camera."""

from __future__ import annotations

import subprocess
import sys
from operator import attrgetter

import pytest
import tifffile
from conftest import spots, write_picture
from PIL import Image

from wbc_cli.acquisition.grouping import CROP, drawn, key_of, pictures_by_folder
from wbc_cli.slides.discover import discover
from wbc_cli.synthetic.fields import write_field


def test_pictures_of_one_folder_size_and_camera_are_of_one_acquisition(tmp_path):
    one, other, small = spots((60, 60)), spots((90, 90)), spots((60, 60), width=320)
    same = [key_of(write_picture(tmp_path / name, rgb), None) for name, rgb in (("a.png", one), ("b.png", other))]
    assert same[0] == same[1] is not None
    elsewhere = [write_picture(tmp_path / "more/a.png", one), write_picture(tmp_path / "c.png", small)]
    assert len({same[0], *(key_of(path, None) for path in elsewhere)}) == 3


def test_crops_of_one_folder_are_of_one_acquisition_whatever_their_sizes(tmp_path):
    sizes = {"a.png": (120, 96), "b.png": (88, 131), "c.tif": (320, 240), "d.png": (330, 240)}
    for name, (width, height) in sizes.items():
        write_picture(tmp_path / name, spots(width=width, height=height))
    a, b, c, field = (key_of(tmp_path / name, None) for name in sizes)
    assert a == b == c != field
    assert a.size == CROP
    assert field.size == (330, 240)


def test_cameras_and_stated_scales_tell_acquisitions_apart(tmp_path):
    for name, model in (("a.jpg", "One"), ("b.jpg", "One"), ("c.jpg", "Other")):
        exif = Image.Exif()
        exif[272] = model
        Image.fromarray(spots()).save(tmp_path / name, exif=exif)
    a, b, c = (key_of(tmp_path / name, None) for name in ("a.jpg", "b.jpg", "c.jpg"))
    assert a == b != c
    write_field(tmp_path / "d.png", spots(), 0.1)
    assert key_of(tmp_path / "d.png", None).um_per_px == pytest.approx(0.1)
    tifffile.imwrite(tmp_path / "e.tif", spots(), photometric="rgb", extratags=[(272, "s", 0, "Third", False)])
    assert key_of(tmp_path / "e.tif", None).camera == "Third"


def test_damaged_exif_data_tell_no_camera_and_nobody_is_warned(tmp_path):
    exif = Image.Exif()
    exif[272] = "A camera of a long name"
    Image.fromarray(spots()).save(tmp_path / "a.jpg", exif=exif)
    whole = (tmp_path / "a.jpg").read_bytes()
    start = whole.index(b"Exif\0\0") + 6
    (tmp_path / "b.jpg").write_bytes(whole[: start + 10] + b"\x01\x10\0\x02\xff\xff" + whole[start + 16 :])
    code = "import sys, pathlib, wbc_cli.acquisition.grouping as g; print(g.key_of(pathlib.Path(sys.argv[1]), None))"
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "b.jpg"], capture_output=True, text=True, check=True)
    assert "camera=''" in done.stdout
    assert done.stderr == ""


def test_whole_slides_and_what_cannot_be_read_are_of_none(tmp_path):
    tifffile.imwrite(tmp_path / "slide.tif", spots(width=512, height=512), photometric="rgb", tile=(64, 64))
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert key_of(tmp_path / "slide.tif", None) is key_of(tmp_path / "broken.png", None) is None


def test_all_pictures_of_a_shards_folders_and_of_those_beside_them_are_known_and_drawn_in_one_order(tmp_path):
    for name in ("in/a/1.png", "in/a/2.png", "in/b/3.png", "in/a/slide.svs", "elsewhere/c/4.png"):
        write_picture(tmp_path / name.replace(".svs", ".png"), spots()).rename(tmp_path / name)
    slides = discover([tmp_path]).slides
    first = next(slide for slide in slides if slide.name.endswith("1.png"))
    found = pictures_by_folder(slides, [first], {})
    assert {folder: [picture.name for picture in pictures] for folder, pictures in found.items()} == {
        str(tmp_path / "in/a"): ["in__a__1.png", "in__a__2.png"],
        str(tmp_path / "in/b"): ["in__b__3.png"],
    }
    pictures = found[str(tmp_path / "in/a")]
    name_of = attrgetter("name")
    assert drawn(pictures, name_of) == drawn(pictures[::-1], name_of)
