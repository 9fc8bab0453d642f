"""A folder of everything that users' folders hold: each file is analysed or reported, and no run is lost to one."""

from __future__ import annotations

import csv
import os
import shutil
import struct
import subprocess
import sys

import cv2
import numpy as np
import pytest
import tifffile
from conftest import TOY_UM_PER_PX, spots, write_picture
from fuzz import fuzz
from PIL import Image
from runs_apart import ON_OPEN
from test_bad_files import BAD_FILES

RGB = spots((100, 100))


def sound(folder):
    """Odd files that are to be analysed, by name."""
    picture = Image.fromarray(RGB)
    turned = Image.Exif()
    turned[0x0112] = 6
    writers = {
        "16 bit.png": lambda path: cv2.imwrite(str(path), RGB[..., ::-1].astype(np.uint16) * 257),
        "grey.png": picture.convert("L").save,
        "alpha.png": picture.convert("RGBA").save,
        "palette.png": picture.convert("P").save,
        "cmyk.jpg": picture.convert("CMYK").save,
        "turned.jpg": lambda path: picture.save(path, exif=turned),
        "one pixel.png": picture.crop((0, 0, 1, 1)).save,
        "one row.png": picture.crop((0, 100, 480, 101)).save,
        "pages.tif": lambda path: tifffile.imwrite(path, np.stack([RGB, RGB]), photometric="rgb"),
        "jpeg by another name.png": lambda path: picture.save(path, "JPEG"),
        "no resolution.tif": lambda path: write_resolution(path, (0, 1)),
        "resolution by zero.tif": lambda path: write_resolution(path, (1, 0)),
        "quote\"s, 'commas' and\nnew lines.png": picture.save,
        "=HYPERLINK(evil).png": picture.save,
        "<script>alert(1)<script>.png": picture.save,
        "ü" * 100 + ".png": picture.save,
    }
    for name, write in writers.items():
        write(folder / name)
    (folder / "nested").mkdir()
    shutil.copy(folder / "grey.png", folder / "nested" / "grey.png")
    (folder / "nested" / "loop").symlink_to(folder)
    no_utf8 = os.fsencode(folder) + b"/caf\xe9.png"
    shutil.copy(folder / "grey.png", no_utf8)
    return len(writers) + 3  # pages.tif holds two


def write_resolution(path, value):
    tifffile.imwrite(path, RGB, photometric="rgb", resolution=(10, 10))
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        for tag in ("XResolution", "YResolution"):
            at = tiff.pages[0].tags[tag].valueoffset
            tiff.filehandle.seek(at)
            tiff.filehandle.write(struct.pack("<II", *value))


def analyze(weights, source, out, *more):
    common = ("--weights", weights, "--device", "cpu", "--mpp", TOY_UM_PER_PX)
    command = (sys.executable, "-m", "wbc_cli.cli", "analyze", source, "-o", out, *common, *more)
    return subprocess.run([*map(str, command)], capture_output=True, check=False)


def rows(out):
    with (out / "differential.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_whatever_a_folder_holds_is_analysed_or_reported(toy_weights, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    good = sound(source)
    for name, (content, _) in BAD_FILES.items():
        (source / name).write_bytes(content)
    done = analyze(toy_weights, source, tmp_path / "out")
    assert done.returncode == 3
    assert b"Traceback" not in done.stderr
    found = rows(tmp_path / "out")
    assert len(found) == good + len(BAD_FILES)
    assert {row["slide"] for row in found if row["status"] == "failed"} == set(BAD_FILES)
    assert not any(cell.startswith(("=", "+", "-", "@")) for row in found for cell in row.values())
    for row in found:
        if row["status"] != "failed":
            assert (tmp_path / "out" / "slides" / row["slide"] / "overlay.png").exists()


@pytest.mark.parametrize(
    ("what", "status"), [("path.unlink()", "failed"), ("path.open('ab').write(bytes(1000))", "done")]
)
def test_a_file_that_vanishes_or_grows_during_the_run_harms_no_other(toy_weights, sabotage, tmp_path, what, status):
    for name in ("a.png", "b.png", "c.png"):
        write_picture(tmp_path / "in" / name, RGB)
    sabotage(ON_OPEN.format(name="b.png", what=what))
    analyze(toy_weights, tmp_path / "in", tmp_path / "out", "--write", "none")
    assert [row["status"] for row in rows(tmp_path / "out")] == ["done", status, "done"]


@pytest.mark.skipif(os.geteuid() != 0, reason="giving up root needs root")
def test_a_file_that_may_not_be_read_is_reported(toy_weights, tmp_path):
    write_picture(tmp_path / "in" / "a.png", RGB)
    secret = write_picture(tmp_path / "in" / "b.png", RGB)
    secret.chmod(0)
    if os.access(secret, os.R_OK) and not shutil.which("setpriv"):
        pytest.skip("root reads everything, and setpriv is not here to take that away")
    drop = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search"]
    command = [*drop, sys.executable, "-m", "wbc_cli.cli", "analyze", tmp_path / "in", "-o", tmp_path / "out"]
    command += ["--weights", toy_weights, "--mpp", TOY_UM_PER_PX, "--write", "none"]
    done = subprocess.run([*map(str, command)], capture_output=True, check=False)
    assert done.returncode == 3
    first, second = rows(tmp_path / "out")
    assert (first["status"], second["status"]) == ("done", "failed")
    assert "Permission denied" in second["reason"]


def test_no_mutated_file_crashes_or_hangs_a_run_or_has_another_count_without_a_word(tmp_path):
    code, found = fuzz(80, 1, tmp_path)
    assert code in (0, 3)
    assert found.keys() <= {"failed", "flagged", "intact"}
