"""What lies in a folder is analysed, left out with a reason, or reported: nothing is lost or invented in silence."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from fakes import blank, small_result
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid
from test_discover import names, skipped, touch

from wbc_cli.errors import UsageError
from wbc_cli.products.folder import RunFolder
from wbc_cli.products.png import write_png
from wbc_cli.products.registry import PRODUCT_NAMES
from wbc_cli.slides.discover import discover
from wbc_cli.slides.file_sets import find_parts

# What is no specimen


@pytest.mark.parametrize(
    "place",
    [
        "@eaDir/a.png/SYNOFILE_THUMB_XL.jpg",
        "#recycle/old.jpg",
        "$RECYCLE.BIN/S-1-5-21/$R7K2.jpg",
        "System Volume Information/x.png",
        "sub/@Recycle/x.tif",
        "__MACOSX/x.png",
    ],
)
def test_thumbnails_and_deleted_files_of_file_servers_are_no_specimens(place: str, tmp_path: Path) -> None:
    touch(tmp_path, "a.png", place)
    found = discover([tmp_path])
    assert names(found) == ["a.png"]
    assert len(found.skipped) == 1


def test_what_qupath_keeps_of_slides_is_no_specimen_and_the_slides_beside_it_are(tmp_path: Path) -> None:
    touch(tmp_path, "project.qpproj", "data/1/thumbnail.jpg", "data/1/server.json", "data/1/data.qpdata")
    touch(tmp_path, "data/own.svs", "slides/a.svs", "thumbnails/a.jpg")
    found = discover([tmp_path])
    assert names(found) == ["data__own.svs", "slides__a.svs"]
    assert set(skipped(found)) == {"1", "thumbnails"}


def test_tiles_of_zoomable_pictures_are_no_specimens(tmp_path: Path) -> None:
    touch(tmp_path, "a.dzi", "a_files/12/0_0.jpeg", "b_files/0/0_0.png", "b_files/9/3_4.png", "own_files/c.png")
    touch(tmp_path, "zoomify/ImageProperties.xml", "zoomify/TileGroup0/0-0-0.jpg")
    assert names(discover([tmp_path])) == ["own_files__c.png"]


def test_our_own_pictures_are_known_wherever_they_are_copied(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "out")
    folder.commit(small_result("a"), blank(), frozenset(PRODUCT_NAMES))
    inbox = tmp_path / "in"
    inbox.mkdir()
    write_png(np.zeros((8, 8, 3), np.uint8), inbox / "drawn.png")
    for product in (folder.slides / "a").iterdir():
        shutil.copy(product, inbox / f"copy of {product.name}")
    touch(inbox, "own.png")
    found = discover([inbox])
    assert names(found) == ["own.png"]
    assert list(skipped(found).values()) == ["a picture that wbc-cli made"] * 6


# What is not silently left out


def test_pictures_of_kinds_that_are_not_read_are_counted(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.HEIC", "c.heic", "d.nd2", "notes.txt", ".hidden.lif", "@eaDir/e.webp")
    touch(tmp_path, "phone.jfif", "scan.btf", "scan.qptiff")
    found = discover([tmp_path])
    assert names(found) == ["a.png", "phone.jfif", "scan.btf", "scan.qptiff"]
    assert found.unread == {".heic": 2, ".nd2": 1}


def test_a_link_to_nothing_is_a_slide_that_fails(tmp_path: Path) -> None:
    touch(tmp_path, "in/a.png")
    (tmp_path / "in" / "b.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "in" / "more").symlink_to(tmp_path / "gone", target_is_directory=True)
    found = discover([tmp_path / "in"])
    problems = {slide.name: slide.problem for slide in found.slides}
    assert list(problems) == ["a.png", "b.png", "more"]
    assert problems["a.png"] == ""
    assert "gone.png" in problems["b.png"]


# Lists


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("powershell.txt", "pics/a.png\r\npics/b b.png\r\n".encode("utf-16")),
        ("no mark.txt", "pics/a.png\r\npics/b b.png\r\n".encode("utf-16-le")),
        ("find.txt", b"pics/a.png\0pics/b b.png\0"),
        ("clam.csv", b"slide_id,label\npics/a.png,1\npics/b b.png,1\n"),
        ("second.csv", b"patient,path\n1,pics/a.png\n2,pics/b b.png\n"),
        ("excel.csv", b"\xef\xbb\xbfpics/a.png;1\r\npics/b b.png;1\r\n;\r\n"),
        ("pandas.csv", b",path,label\n0,pics/a.png,1\n1,pics/b b.png,1\n"),
        ("sep.csv", b"sep=;\r\nFile;Patient\r\npics/a.png;1\r\npics/b b.png;1\r\n"),
        ("unicode text.csv", "pics/a.png\t1\r\npics/b b.png\t1\r\n".encode("utf-16")),
        ("quoted.txt", b'"pics/a.png"\r\n"pics/b b.png"\r\n'),
    ],
)
def test_lists_are_read_as_people_and_programs_write_them(name: str, content: bytes, tmp_path: Path) -> None:
    touch(tmp_path, "pics/a.png", "pics/b b.png")
    (tmp_path / name).write_bytes(content)
    found = discover([tmp_path / name])
    assert names(found) == ["pics__a.png", "pics__b_b.png"]
    assert not any(slide.problem for slide in found.slides)


def test_a_list_in_windows_1252_names_files_in_utf_8(tmp_path: Path) -> None:
    touch(tmp_path, "größe.png")
    (tmp_path / "l.csv").write_bytes("größe.png;1\r\n".encode("cp1252"))
    assert names(discover([tmp_path / "l.csv"])) == ["größe.png"]


def test_a_list_names_a_file_whose_name_is_no_text(tmp_path: Path) -> None:
    touch(tmp_path, os.fsdecode(b"caf\xe9.png"))
    (tmp_path / "l.txt").write_bytes(b"caf\xe9.png\n")
    (found,) = discover([tmp_path / "l.txt"]).slides
    assert found.path.exists()


def test_a_missing_entry_of_a_list_fails_alone_with_list_and_line(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.png")
    (tmp_path / "l.txt").write_text("a.png\ngone.png\nb.png\n")
    problems = {slide.name: slide.problem for slide in discover([tmp_path / "l.txt"]).slides}
    assert list(problems) == ["a.png", "b.png", "gone.png"]
    assert f"{tmp_path / 'l.txt'}, line 2" in problems["gone.png"]
    assert not problems["a.png"] + problems["b.png"]


def test_a_glob_with_a_table_of_its_files_takes_each_once(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.png")
    (tmp_path / "truth.csv").write_text("slide,class,x,y\na.png,x,1,2\na.png,x,3,4\nb.png,x,1,2\n")
    found = discover(sorted(tmp_path.iterdir()))
    assert names(found) == ["a.png", "b.png"]
    assert found.skipped == ()


def test_a_text_that_is_no_list_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("\nDear all,\nthe slides are here\n")
    with pytest.raises(UsageError, match=r"notes\.txt, line 2: .*Dear all"):
        discover([tmp_path / "notes.txt"])


# Names that stay


def test_a_slide_with_results_keeps_its_name_whatever_comes_beside_it(tmp_path: Path) -> None:
    touch(tmp_path, "in/a b.png", "other/a b.png")
    first = {str(slide.path): slide.name for slide in discover([tmp_path / "in"]).slides}
    assert list(first.values()) == ["a_b.png"]
    touch(tmp_path, "in/A b.png", "in/a_b.png")
    found = discover([tmp_path / "in", tmp_path / "other"], first)
    after = {str(slide.path): slide.name for slide in found.slides}
    assert after[str(tmp_path / "in" / "a b.png")] == "a_b.png"
    assert len({name.casefold() for name in after.values()}) == 4
    for name in ("A b.png", "a_b.png"):
        (tmp_path / "in" / name).unlink()
    assert {s.name for s in discover([tmp_path / "in"], after).slides} == {"a_b.png"}


# DICOM


def write_instance(path: Path, series: str, private: int = 0, syntax: str = ExplicitVRLittleEndian) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.77.1.6", generate_uid()
    meta.TransferSyntaxUID, meta.ImplementationClassUID = syntax, "1.2.3.4"
    dataset = FileDataset("x", {}, file_meta=meta, preamble=bytes(128))
    if private:
        dataset.private_block(0x0009, "VENDOR", create=True).add_new(1, "OB", bytes(private))
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.3", series
    path.parent.mkdir(exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)


@pytest.mark.parametrize(("whole", "damaged"), [(b" \0\x0e\0UI", b" \0\x0e\0U\0"), (b"\2\0\0\0UL\4", b"\2\0\0\0UL\5")])
def test_a_dicom_whose_header_is_damaged_is_found_for_itself(whole: bytes, damaged: bytes, tmp_path: Path) -> None:
    for number in (1, 2):
        write_instance(tmp_path / "in" / f"{number}.dcm", "1.2.3.4")
    content = (tmp_path / "in" / "2.dcm").read_bytes()
    assert whole in content
    (tmp_path / "in" / "2.dcm").write_bytes(content.replace(whole, damaged))
    assert names(discover([tmp_path / "in"])) == ["1.dcm", "2.dcm"]


@pytest.mark.parametrize(("private", "syntax"), [(0, ExplicitVRLittleEndian), (100_000, ImplicitVRLittleEndian)])
def test_a_dicom_series_is_one_slide_however_large_its_header(private: int, syntax: str, tmp_path: Path) -> None:
    for number in (2, 3):
        write_instance(tmp_path / "in" / f"{number}.dcm", "1.2.3.4", private, syntax)
    write_instance(tmp_path / "in" / "neighbour.dcm", "1.2.3.5", private, syntax)
    found = discover([tmp_path / "in"])
    assert names(found) == ["2.dcm", "neighbour.dcm"]
    known = {str(slide.path): slide.name for slide in found.slides}
    write_instance(tmp_path / "in" / "1.dcm", "1.2.3.4", private, syntax)
    assert names(discover([tmp_path / "in"], known)) == ["2.dcm", "neighbour.dcm"]
    parts = find_parts([tmp_path / "in" / "2.dcm", tmp_path / "in" / "neighbour.dcm"])
    assert [path.name for path in parts[tmp_path / "in" / "2.dcm"]] == ["1.dcm", "3.dcm"]
    assert parts[tmp_path / "in" / "neighbour.dcm"] == ()
