"""A file format is one row of one table: whatever finds, opens or describes files goes by it."""

from __future__ import annotations

from pathlib import Path
from pkgutil import resolve_name

import numpy as np
import pytest
from conftest import write_picture
from fakes import ArrayReader

from wbc_cli.errors import SlideError
from wbc_cli.slides import open_slide
from wbc_cli.slides.discover import discover
from wbc_cli.slides.fault_tolerant import FaultTolerantReader
from wbc_cli.slides.formats import FORMATS, Format, named_format
from wbc_cli.slides.reader import TiledReader
from wbc_cli.slides.unsupported import UNREAD_SUFFIXES


class NewReader(ArrayReader, TiledReader):
    """Of a format that nobody has thought of."""

    tile_size = (64, 64)


def open_new(path: Path, field: int | None) -> NewReader:
    return NewReader(np.full((100, 200, 3), field or 0, np.uint8), path)


class FolderBeside:
    in_file = False

    def openers(self, own: list[Path], files: list[Path]) -> dict[Path, Path]:
        return {path: slide for slide in own for path in files if path.parent == slide.with_suffix(".files")}

    def parts(self, slides: list[Path]) -> dict[Path, tuple[Path, ...]]:
        return {slide: tuple(sorted(slide.with_suffix(".files").iterdir())) for slide in slides}


@pytest.fixture
def new_format(monkeypatch: pytest.MonkeyPatch) -> None:
    row = Format(
        "New", (".new",), f"{__name__}:open_new", signatures=(b"NEW",), is_slide=True, companions=FolderBeside()
    )
    for module in ("formats", "file_sets"):
        monkeypatch.setattr(f"wbc_cli.slides.{module}.FORMATS", (row, *FORMATS))


@pytest.mark.usefixtures("new_format")
def test_one_row_makes_a_format_found_and_opened_with_all_its_files(tmp_path: Path) -> None:
    (tmp_path / "a.new").write_bytes(b"NEW...")
    (tmp_path / "b.png").write_bytes(b"NEW...")  # by another name
    (tmp_path / "broken.new").write_bytes(b"...")
    (tmp_path / "thumbnail.new").write_bytes(write_picture(tmp_path / "c.png", np.zeros((9, 9, 3))).read_bytes())
    part = write_picture(tmp_path / "a.files" / "0.png", np.zeros((9, 9, 3)))
    for name in ("broken", "thumbnail"):
        (tmp_path / f"{name}.files").mkdir()
    found = {slide.name: slide for slide in discover([tmp_path]).slides}
    assert set(found) == {"a.new", "b.png", "broken.new", "c.png", "thumbnail.new"}
    assert found["a.new"].files == (tmp_path / "a.new", part)
    for name in ("a.new", "b.png"):
        reader = open_slide(tmp_path / name, 7)
        assert isinstance(reader, FaultTolerantReader)
        assert (reader.width, reader.height) == (200, 100)
        assert (reader.read(0, 0, 5, 5) == 7).all()
    for name in ("broken.new", "thumbnail.new"):
        with pytest.raises(SlideError, match=r"named as a slide \(\.new\)"):
            open_slide(tmp_path / name)


@pytest.mark.parametrize("own", FORMATS, ids=lambda own: own.name)
def test_what_a_row_names_exists_and_no_other_row_takes_its_files(own: Format) -> None:
    assert callable(resolve_name(own.opener))
    assert own.contents_of is None or callable(own.contents_of)
    assert own.signatures or own.vendors
    for suffix in own.suffixes:
        assert named_format(Path(f"a{suffix.upper()}")) is own
        assert suffix not in UNREAD_SUFFIXES
