"""Every slide is found once, under a name of its own, and nothing else is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wbc_cli.errors import UsageError
from wbc_cli.slides.discover import Discovery, discover
from wbc_cli.slides.names import MAX_BYTES, unique_names

VENDOR_FILES = Path(__file__).parents[2] / "shared" / "data" / "slides"


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def names(found: Discovery) -> list[str]:
    return [slide.name for slide in found.slides]


def skipped(found: Discovery) -> dict[str, str]:
    return {path.name: reason for path, reason in found.skipped}


def test_a_folder_is_walked_and_other_files_are_left_out(tmp_path: Path) -> None:
    wanted = ["a.png", "b.JPG", "c.jpeg", "d.bmp", "e.tif", "f.TIFF", "g.ome.tif", "h.svs", "i.ndpi", "j.mrxs", "k.scn"]
    wanted += ["l.bif", "m.vms", "n.vmu", "o.dcm", "p.svslide", "q.czi"]
    touch(tmp_path, *wanted, "notes.txt", "table.csv", "model.json", ".hidden.png", ".git/x.png", "deep/er/z.png")
    found = discover([tmp_path])
    assert names(found) == sorted([*wanted, "deep__er__z.png"])
    assert found.skipped == ()
    assert all(slide.path.is_file() for slide in found.slides)


def test_one_stem_in_several_folders_and_formats_stays_apart(tmp_path: Path) -> None:
    touch(tmp_path, "x/1.png", "x/1.jpg", "y/1.png", "y/x/1.png")
    assert names(discover([tmp_path])) == ["x__1.jpg", "x__1.png", "y__1.png", "y__x__1.png"]


def test_nothing_to_analyse_is_no_error(tmp_path: Path) -> None:
    assert discover([tmp_path]) == Discovery((), ())


def test_a_file_named_by_the_user_is_taken_whatever_its_extension(tmp_path: Path) -> None:
    touch(tmp_path, "scan.001")
    assert names(discover([tmp_path / "scan.001"])) == ["scan.001"]


@pytest.mark.parametrize("name", ["gone.svs", "gone", "gone.txt"])
def test_a_missing_path_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"{name}: No such file"):
        discover([tmp_path, tmp_path / name])


def test_what_is_neither_file_nor_folder_is_refused_and_in_a_folder_ignored(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(UsageError, match=r"pipe\.png: neither"):
        discover([tmp_path / "pipe.png"])
    assert names(discover([tmp_path])) == []


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".TXT"])
def test_a_list_names_files_and_folders_from_where_it_lies(suffix: str, tmp_path: Path) -> None:
    touch(tmp_path, "in/a.png", "in/sub/b.tif", "in/more/c.svs", "elsewhere/d.png", "in/not_listed.png")
    lines = ["\ufeff# my slides", "", "a.png", "  sub/b.tif  ", "more", str(tmp_path / "elsewhere" / "d.png")]
    (tmp_path / "in" / f"list{suffix}").write_text("\r\n".join(lines), encoding="utf-8")
    assert names(discover([tmp_path / "in" / f"list{suffix}"])) == ["a.png", "d.png", "more__c.svs", "sub__b.tif"]


def test_a_list_may_lead_out_of_its_folder(tmp_path: Path) -> None:
    touch(tmp_path, "slides/a.png")
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "l.txt").write_text("../slides/a.png\n")
    assert names(discover([tmp_path / "lists" / "l.txt"])) == ["a.png"]


def test_of_a_csv_list_the_first_column_counts(tmp_path: Path) -> None:
    touch(tmp_path, "a, b.png", "c.png")
    (tmp_path / "l.csv").write_text('"a, b.png",patient 1\nc.png,patient 2\n,\n')
    assert names(discover([tmp_path / "l.csv"])) == ["a__b.png", "c.png"]


def test_a_missing_entry_of_a_list_is_named(tmp_path: Path) -> None:
    (tmp_path / "l.txt").write_text("nowhere.png\n")
    with pytest.raises(UsageError, match=r"nowhere\.png"):
        discover([tmp_path / "l.txt"])


def test_a_slide_reached_twice_is_taken_once(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "sub/b.png")
    (tmp_path / "link.png").symlink_to("a.png")
    found = discover([tmp_path, tmp_path / "a.png", tmp_path / "sub", tmp_path])
    assert names(found) == ["a.png", "sub__b.png"]
    assert "same file" in skipped(found)["link.png"]


def test_links_are_followed_and_loops_survived(tmp_path: Path) -> None:
    touch(tmp_path, "in/a.png", "store/b.png")
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in", target_is_directory=True)
    (tmp_path / "store" / "up").symlink_to(tmp_path / "in", target_is_directory=True)
    (tmp_path / "in" / "store").symlink_to(tmp_path / "store", target_is_directory=True)
    assert names(discover([tmp_path / "in"])) == ["a.png", "store__b.png"]


@pytest.mark.parametrize("record", ["run.json", "slides/a.png/slide.json"])
def test_results_inside_the_input_are_not_analysed_again(record: str, tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "wbc-results/slides/a.png/overlay.png", "wbc-results/slides/a.png/mask.ome.tif")
    (tmp_path / "wbc-results" / record).write_text('{\n  "schema_version": 1\n}')
    found = discover([tmp_path])
    assert names(found) == ["a.png"]
    assert list(skipped(found).values()) == ["holds results of wbc-cli"]


def test_results_beside_the_images_do_not_hide_them(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "slides/a.png/overlay.png")
    for record in ("run.json", "slides/a.png/slide.json"):
        (tmp_path / record).write_text('{\n  "schema_version": 1\n}')
    assert names(discover([tmp_path])) == ["a.png"]


def test_a_run_json_of_another_program_hides_nothing(tmp_path: Path) -> None:
    touch(tmp_path, "scan/a.png")
    (tmp_path / "scan" / "run.json").write_text('{"objective": 100}')
    assert names(discover([tmp_path])) == ["scan__a.png"]


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read every folder")
def test_a_folder_that_may_not_be_read_is_reported(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "secret/b.png")
    (tmp_path / "secret").chmod(0)
    found = discover([tmp_path])
    (tmp_path / "secret").chmod(0o700)
    assert names(found) == ["a.png"]
    assert "cannot be read" in skipped(found)["secret"]


# Slides of several files


def test_the_data_folder_of_a_mirax_slide_is_no_slide(tmp_path: Path) -> None:
    touch(tmp_path, "x.mrxs", "x/Slidedat.ini", "x/Data0001.dat", "x/deep/preview.jpg", "y/z.jpg")
    found = discover([tmp_path])
    assert names(found) == ["x.mrxs", "y__z.jpg"]
    assert skipped(found) == {"preview.jpg": f"part of {tmp_path / 'x.mrxs'}"}


def test_the_pictures_of_a_hamamatsu_slide_are_no_slides(tmp_path: Path) -> None:
    touch(tmp_path, "s(0,0).jpg", "s map.jpg", "own.jpg", "other/s map.jpg")
    (tmp_path / "s.vms").write_text(
        "[Virtual Microscope Specimen]\r\nImageFile=s(0,0).jpg\r\nMapFile = s map.jpg\r\nNoLayers=1\r\n"
    )
    found = discover([tmp_path])
    assert names(found) == ["other__s_map.jpg", "own.jpg", "s.vms"]
    assert set(skipped(found)) == {"s(0,0).jpg", "s map.jpg"}


@pytest.mark.skipif(not VENDOR_FILES.is_dir(), reason=f"no vendor files in {VENDOR_FILES}")
def test_a_dicom_series_is_one_slide(tmp_path: Path) -> None:
    for folder in ("p", "q"):
        (tmp_path / folder).mkdir()
        for i in (0, 1):
            shutil.copy(VENDOR_FILES / f"boxes_{i}.dcm", tmp_path / folder)
    (tmp_path / "p" / "boxes_2.dcm").write_bytes(
        (VENDOR_FILES / "boxes_1.dcm").read_bytes().replace(b"669825649.4.0", b"669825649.9.9")
    )
    found = discover([tmp_path])
    assert names(found) == ["p__boxes_0.dcm", "p__boxes_2.dcm", "q__boxes_0.dcm"]
    assert skipped(found) == {"boxes_1.dcm": f"part of {tmp_path / 'q' / 'boxes_0.dcm'}"}
    assert names(discover(sorted((tmp_path / "q").iterdir(), reverse=True))) == ["boxes_0.dcm"]


# Names


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("a b/c:d*.png", "a_b__c_d_.png"),
        ("Zürich/тест/血.tif", "Zürich__тест__血.tif"),
        ("u\u0308.png", "ü.png"),
        ("con/a.png", "con__a.png"),
        ("con.png", "_con.png"),
        ("COM1.tar.png", "_COM1.tar.png"),
        ("-rf.png", "_rf.png"),
        ("=1+1.png", "_1_1.png"),
        ("dot.", "dot_"),
        (os.fsdecode(b"\xff\xe9.png"), "__.png"),
    ],
)
def test_names_are_safe_as_folders_everywhere(path: str, name: str) -> None:
    assert unique_names({Path("/data") / path: PurePosixPath(path)}) == {Path("/data") / path: name}


def test_names_that_come_together_get_a_hash_each_and_the_others_none(tmp_path: Path) -> None:
    touch(tmp_path, "one/a.png", "two/a.png", "two/b.png")
    found = discover([tmp_path / "one", tmp_path / "two"])
    assert [slide.path.name for slide in found.slides] == ["a.png", "a.png", "b.png"]
    first, second, alone = names(found)
    for name in (first, second):
        assert name.removeprefix("a_").removesuffix(".png").isalnum()
        assert len(name) == len("a_01234567.png")
    assert first != second
    assert alone == "b.png"


def test_names_do_not_depend_on_the_order_of_the_paths_or_where_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "one/a.png", "two/A.png", "two/b/c.png")
    there = discover([tmp_path / "one", tmp_path / "two"])
    monkeypatch.chdir(tmp_path)
    here = discover([Path("two"), Path("one")])
    assert names(here) == names(there)
    assert [slide.path.resolve() for slide in here.slides] == [slide.path for slide in there.slides]


def test_a_long_name_is_cut_and_keeps_its_extension(tmp_path: Path) -> None:
    long = "/".join(["ä" * 60] * 4)
    touch(tmp_path, f"{long}/a.png", f"{long}/b.png")
    found = names(discover([tmp_path]))
    assert len(set(found)) == 2
    for name in found:
        assert name.startswith("ä" * 60 + "__")
        assert name.endswith(".png")
        assert MAX_BYTES - 2 <= len(name.encode()) <= MAX_BYTES


part = st.text(st.sampled_from("aAbßİéé_. -\udcff\\:血"), min_size=1, max_size=60).filter(
    lambda s: s not in {".", ".."}
)
relative_paths = st.lists(part, min_size=1, max_size=4).map(lambda parts: PurePosixPath(*parts))


@given(st.sets(relative_paths, min_size=1, max_size=30))
def test_names_never_collide_and_can_always_be_written(paths: set[PurePosixPath]) -> None:
    found = unique_names({Path("/data", path): path for path in paths})
    assert len(found) == len(paths)
    assert len({name.casefold() for name in found.values()}) == len(paths)
    for name in found.values():
        assert 0 < len(name.encode("utf-8")) <= MAX_BYTES
        assert not set(name) & set('/\\:*?"<>|')
        assert not name.startswith(".")
        assert not name.endswith(".")


@pytest.mark.parametrize("name", ["c.tif", "c.png", "c.dcm", "c.vms"])
def test_a_file_whose_read_never_returns_is_a_slide_that_fails_and_holds_up_no_other(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, name, "a.tif", "b.png")
    unstuck = threading.Event()
    read = Path.open

    def stuck(path: Path, *args: Any, **kwargs: Any) -> Any:
        return unstuck.wait() if path.name == name else read(path, *args, **kwargs)

    monkeypatch.setattr(Path, "open", stuck)
    problems = {slide.name: slide.problem for slide in discover([tmp_path], time_limit=0.2).slides}
    unstuck.set()
    assert problems.pop(name).startswith(f"{tmp_path / name}: cannot be read: no answer within 0.2 s.")
    assert problems == {"a.tif": "", "b.png": ""}


def test_importing_the_package_loads_no_heavy_library() -> None:
    code = "import sys, wbc_cli.slides, wbc_cli.slides.discover as d; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "wbc_cli.slides.discover" in loaded
    assert not {"cv2", "openslide", "tifffile", "numpy", "PIL"} & set(loaded)
