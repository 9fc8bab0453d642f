"""Products are rows of one table, and asking for more of them later gives what asking for all at once gives."""

from __future__ import annotations

import json
import shutil
from dataclasses import fields, replace
from pathlib import Path
from pkgutil import resolve_name

import numpy as np
import pytest
from fakes import ArrayReader, blank, disc, make_cell, make_result, small_result

from wbc_cli.cells import Cell, Explanation, Quality, Scale, SlideResult
from wbc_cli.errors import SlideError
from wbc_cli.morphology import ATTRIBUTES
from wbc_cli.products.registry import PRODUCT_NAMES, PRODUCTS, Product
from wbc_cli.products.slide_folders import SlideFolders
from wbc_cli.products.stored_result import RESULT, read_result, write_result
from wbc_cli.slides.reader import SlideReader


def write_new(result: SlideResult, reader: SlideReader, path: Path) -> None:
    """A product that nobody has thought of."""
    path.write_text(f"{result.name} {len(result.cells)} {reader.width}\n")


def noise() -> ArrayReader:
    pixels = np.random.default_rng(0).integers(0, 255, (200, 300, 3), np.uint8)
    return ArrayReader(pixels, Path("now/slide.png"))


def full_result() -> SlideResult:
    """A result in which nothing has its default."""
    cells = (
        replace(
            make_cell(1, disc(40), 20, 30, flags=("edge",)),
            cam_stability=1 / 3,
            features=np.arange(7, dtype=np.float16),
            morphology={name: values[-1] for name, values in ATTRIBUTES.items()},
        ),
        replace(
            make_cell(2, disc(31)[:20], 150, 90, "unidentified", confidence=0.41),
            x=np.float32(0.1),  # type: ignore[arg-type]
            features=np.full(7, 0.1, np.float16),
        ),
    )
    odd = Explanation(-3.5, 1e9 / 3, 320.0, np.ones((3, 5), np.float32) / 3, np.zeros((4, 2), np.float32))
    return replace(
        make_result((*cells, replace(cells[0], id=3, explanation=odd)), 300, 200, flags=("scale_doubtful",)),
        scale=Scale(0.1, "estimate", 1 / 7, 0.3),
        windows=9,
        unreadable=0.001,
        quality=Quality(*(1 / number for number in range(2, 2 + len(fields(Quality))))),
        refusal="out of focus",
        file_pixels=(1.0, 0.5),
    )


def same(first: object, second: object) -> bool:
    """Whether two values are of one kind and equal to the last bit, arrays included."""
    if isinstance(first, np.ndarray) and isinstance(second, np.ndarray):
        return first.dtype == second.dtype and np.array_equal(first, second)
    if isinstance(first, tuple) and isinstance(second, tuple):
        return len(first) == len(second) and all(map(same, first, second))
    if isinstance(first, SlideResult | Cell | Explanation):
        return all(same(getattr(first, f.name), getattr(second, f.name)) for f in fields(first))
    return bool(first == second)


@pytest.mark.parametrize("product", PRODUCTS, ids=lambda product: product.name)
def test_what_a_row_names_exists(product: Product) -> None:
    assert callable(resolve_name(product.writer))
    assert [other.file for other in PRODUCTS].count(product.file) == 1


def test_one_row_makes_a_product(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = Product("new", "new.txt", f"{__name__}:write_new")
    monkeypatch.setattr("wbc_cli.products.slide_folders.PRODUCTS", (*PRODUCTS, row))
    folders = SlideFolders(tmp_path)
    folders.commit(small_result(), blank(), ["new", "mask"])
    assert (tmp_path / "slides" / "slide" / "new.txt").read_text() == "slide 2 300\n"
    record = folders.record("slide")
    assert record
    assert record["write"] == ["mask", "new"]
    assert set(record["products"]) == {"cells.csv", "result.npz", "mask.ome.tif", "new.txt"}


@pytest.mark.parametrize("result", [full_result(), small_result(), small_result(cells=[])], ids=["full", "two", "none"])
def test_a_result_comes_back_as_it_was(tmp_path: Path, result: SlideResult) -> None:
    write_result(result, tmp_path / RESULT)
    again = read_result(tmp_path / RESULT, "slide", Path("now/slide.png"))
    assert again
    assert same(replace(result, path=Path("now/slide.png"), seconds={}), again)


def test_a_result_takes_a_few_kilobytes_a_cell(tmp_path: Path) -> None:
    cells = [replace(make_cell(i, disc(150), 9 * i, 0), features=np.ones(256, np.float16)) for i in range(1, 51)]
    write_result(make_result(cells, 900, 900), tmp_path / RESULT)
    assert (tmp_path / RESULT).stat().st_size < 50 * 5000


@pytest.mark.parametrize("damage", ["gone", "cut", "flipped", "newer"])
def test_a_result_that_is_damaged_or_of_another_version_is_none(
    tmp_path: Path, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / RESULT
    if damage == "newer":
        monkeypatch.setattr("wbc_cli.products.stored_result._VERSION", 2)
    write_result(full_result(), file)
    monkeypatch.undo()
    content = bytearray(file.read_bytes())
    match damage:
        case "gone":
            file.unlink()
        case "cut":
            file.write_bytes(content[: len(content) // 2])
        case "flipped":
            content[200] ^= 1
            file.write_bytes(content)
    assert read_result(file, "slide", Path("a.png")) is None


@pytest.mark.parametrize("result", [full_result(), small_result()], ids=["full", "two"])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([], PRODUCT_NAMES),
        (["mask", "overlay"], PRODUCT_NAMES),
        (PRODUCT_NAMES, ["geojson"]),
        (["png", "report"], ["explain", "report"]),
    ],
)
def test_products_asked_for_later_are_the_same_bytes(
    tmp_path: Path, result: SlideResult, before: list[str], after: list[str]
) -> None:
    provenance = {"model": {"weights": "x"}, "source": "old", "input": {"stamp": "old"}}
    changed = {"source": "new", "input": {"stamp": "new"}}
    once, later = SlideFolders(tmp_path / "once"), SlideFolders(tmp_path / "later")
    once.commit(replace(result, path=noise().path), noise(), after, {**provenance, **changed})
    later.commit(result, noise(), before, provenance)
    record = later.record("slide")
    assert record
    assert later.change_products(record, noise(), after, changed)
    folders = [folder.slides / "slide" for folder in (once, later)]
    names, others = ({path.name for path in folder.iterdir()} for folder in folders)
    assert names == others
    for name in names:
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes(), name
    assert list((tmp_path / "later").iterdir()) == [later.slides]


def test_where_a_later_product_cannot_be_made_all_stays_as_it_was(tmp_path: Path) -> None:
    folders = SlideFolders(tmp_path)
    folders.commit(small_result(), blank(), ["mask"])
    before = {path.name: path.read_bytes() for path in (folders.slides / "slide").iterdir()}
    record = folders.record("slide")
    assert record
    broken = blank()
    broken.broken = True
    with pytest.raises(SlideError):
        folders.change_products(record, broken, ["mask", "overlay"], {})
    shutil.copy(folders.slides / "slide" / RESULT, tmp_path / "kept")
    (folders.slides / "slide" / RESULT).write_bytes(b"x")
    assert not folders.change_products(record, blank(), ["mask", "overlay"], {})
    shutil.copy(tmp_path / "kept", folders.slides / "slide" / RESULT)
    assert {path.name: path.read_bytes() for path in (folders.slides / "slide").iterdir()} == before
    assert json.loads(before["slide.json"])["write"] == ["mask"]
