"""What a slide's files hold decides whether it is done again: every byte of them, and nothing else."""

from __future__ import annotations

import os
import shutil

import pytest
from test_discover import touch
from test_folders import write_instance

from wbc_cli.run.fingerprint import input_content, input_stamp
from wbc_cli.slides.discover import discover


def fingerprints(folder):
    return {s.name: (input_stamp(s.files), input_content(s.files, lambda: None)) for s in discover([folder]).slides}


@pytest.fixture
def slides(tmp_path):
    folder = touch(tmp_path / "in", "s(0,0).jpg", "s map.jpg", "m.mrxs", "m/Data0001.dat", "m/Slidedat.ini")
    (folder / "s.vms").write_text("[Virtual Microscope Specimen]\nImageFile=s(0,0).jpg\nMapFile=s map.jpg\n")
    (folder / "large.svs").write_bytes(bytes(20_000_000))
    for number in (1, 2):
        write_instance(folder / f"d{number}.dcm", "1.2.3.4")
    return folder


def test_neighbours_and_times_and_copies_change_nothing_of_a_slide(slides, tmp_path):
    before = fingerprints(slides)
    assert set(before) == {"d1.dcm", "large.svs", "m.mrxs", "s.vms"}
    touch(slides, "neighbour.jpg")
    write_instance(slides / "other.dcm", "1.2.3.5")
    assert {name: fingerprints(slides)[name] for name in before} == before
    for path in slides.rglob("*"):
        os.utime(path, (1, 1))
    shutil.copytree(slides, tmp_path / "stage")
    for after in (fingerprints(slides), fingerprints(tmp_path / "stage")):
        assert all(after[name][1] == content for name, (_, content) in before.items())


@pytest.mark.parametrize(
    ("file", "slide"),
    [
        ("large.svs", "large.svs"),
        ("s map.jpg", "s.vms"),
        ("m/Data0001.dat", "m.mrxs"),
        ("d2.dcm", "d1.dcm"),
    ],
)
def test_any_byte_of_any_of_its_files_changes_a_slide_and_no_other(slides, file, slide):
    before = fingerprints(slides)
    content = bytearray((slides / file).read_bytes()) or bytearray(1)
    content[len(content) // 2] ^= 1
    (slides / file).write_bytes(content)
    assert {name for name, found in fingerprints(slides).items() if found[1] != before[name][1]} == {slide}
