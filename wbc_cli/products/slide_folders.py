"""The folders of a run's slides: what was found on each, committed whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from wbc_cli.cells import SlideResult
from wbc_cli.products.atomic import disk_errors, link_or_copy, replace_file, replace_folder, write_json
from wbc_cli.products.constants import SCHEMA_VERSION
from wbc_cli.products.file_pixels import in_file_pixels
from wbc_cli.products.registry import PRODUCTS, USUAL_PRODUCTS
from wbc_cli.products.stored_result import RESULT, read_result, write_result
from wbc_cli.products.tables import SlideRecord, done_record, failed_record, write_cells
from wbc_cli.slides.reader import SlideReader

RECORD = "slide.json"
CELLS = "cells.csv"
_SOURCE = b'\n  "source": '  # of the record itself, as `write_json` indents it


class SlideFolders:
    """A folder OUT with `slides/<name>/` for each slide."""

    def __init__(self, out: Path, scratch: Path | None = None) -> None:
        """Open OUT, making it where there is none.

        Args:
            out: the folder.
            scratch: a folder on the same disk where products are written before they are put in place; in OUT itself
                if not given.

        Raises:
            SetupError: it cannot be made.
        """
        self.out = out
        self.slides = out / "slides"
        self.scratch = scratch or out
        with disk_errors(out):
            self.slides.mkdir(parents=True, exist_ok=True)
            self.scratch.mkdir(exist_ok=True)

    def commit(
        self,
        result: SlideResult,
        reader: SlideReader,
        write: Collection[str] = USUAL_PRODUCTS,
        provenance: Mapping[str, Any] = MappingProxyType({}),
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        """Write a slide's products and put them in place in one go; older ones stay until then.

        Args:
            result: the analysed slide.
            reader: the same slide, open, for the pictures.
            write: names of the products to write.
            provenance: what its record says of how it was made.
            beat: is called after every product.

        Raises:
            SetupError: OUT cannot be written.
            SlideError: a region for a picture cannot be decoded; nothing has changed in OUT.
        """
        own = in_file_pixels(result)

        def write_all(folder: Path) -> None:
            write_cells(own, folder / CELLS)
            write_result(result, folder / RESULT)
            _write_products(result, reader, write, folder, beat)
            _write_record(done_record(own), write, provenance, folder)

        replace_folder(self.slides / result.name, self.scratch, write_all)

    def change_products(
        self,
        record: SlideRecord,
        reader: SlideReader,
        write: Collection[str],
        provenance: Mapping[str, Any],
        beat: Callable[[], None] = lambda: None,
    ) -> bool:
        """Bring the products of an analysed slide to those that are wanted, and write only what is missing.

        The folder is then the same, byte by byte, as if all had been asked for at once.

        Args:
            record: of the slide.
            reader: the same slide, open, for the pictures.
            write: names of the products that it is to have; others are taken out.
            provenance: what has changed of how it was made.
            beat: is called after every product.

        Returns:
            Whether what is kept of the analysis sufficed; if not, nothing has changed.

        Raises:
            SetupError: OUT cannot be written.
            SlideError: a region for a picture cannot be decoded; nothing has changed in OUT.
        """
        old = self.slides / record["name"]
        result = read_result(old / RESULT, record["name"], reader.path)
        if result is None:
            return False
        unwanted = {product.file for product in PRODUCTS if product.name not in write}
        missing = set(write) - set(record["write"])

        def write_missing(folder: Path) -> None:
            for file in record["products"].keys() - unwanted:
                link_or_copy(old / file, folder / file)
            _write_products(result, reader, missing, folder, beat)
            _write_record({**record, "path": str(reader.path)}, write, provenance, folder)

        replace_folder(old, self.scratch, write_missing)
        return True

    def record_failure(
        self, name: str, path: Path, reason: str, provenance: Mapping[str, Any] = MappingProxyType({})
    ) -> None:
        """Keep that a slide failed, and why, in place of any products of an older run.

        Raises:
            SetupError: OUT cannot be written.
        """
        record = {**failed_record(name, path, reason), **provenance}
        replace_folder(self.slides / name, self.scratch, lambda folder: write_json(record, folder / RECORD))

    def confirm(self, record: SlideRecord, path: Path, provenance: Mapping[str, Any]) -> None:
        """Note that a slide's results stand though its file has been touched or copied.

        Args:
            record: of the slide.
            path: of the file.
            provenance: what has changed of how it was made.

        Raises:
            SetupError: OUT cannot be written.
        """
        changed = {**record, "path": str(path), **provenance}
        replace_file(self.slides / record["name"] / RECORD, self.scratch, lambda fresh: write_json(changed, fresh))

    def names(self) -> list[str]:
        """List the slides that something is known of.

        Raises:
            SetupError: OUT cannot be read.
        """
        with disk_errors(self.slides):
            return names_in(self.slides)

    def remove_slide(self, name: str) -> None:
        """Remove a slide's products for good.

        Raises:
            SetupError: OUT cannot be written.
        """
        with disk_errors(self.slides / name):
            shutil.rmtree(self.slides / name)

    def record(self, name: str) -> SlideRecord | None:
        """Read what is known of a slide; None where nothing is, or where what was written is not there any more."""
        try:
            record = read_record(self.slides, name)
            sizes = {product: _size(f"{self.slides}/{name}/{product}") for product in record.get("products", ())}
        except (OSError, ValueError, AttributeError):
            return None
        whole = record.get("schema_version") == SCHEMA_VERSION and sizes == record.get("products", {})
        return record if whole else None


def names_in(slides: Path) -> list[str]:
    """List the slides that have a folder, in their order.

    Raises:
        OSError: the folder of these cannot be read.
    """
    with os.scandir(slides) as entries:
        return sorted(entry.name for entry in entries if not entry.name.startswith("."))


def read_record(slides: Path, name: str) -> SlideRecord:
    """Read a slide's record as it stands there, whether or not the rest of its folder is whole.

    Raises:
        OSError, ValueError: it cannot be read.
    """
    record: SlideRecord = json.loads(_text_of_record(slides, name))
    return record


def read_source(slides: Path, name: str) -> str:
    """Read from a slide's record where its file lies, without the rest, whose parsing takes ten times as long.

    Raises:
        OSError, ValueError: it cannot be read, or does not say so.
    """
    _, found, rest = _text_of_record(slides, name).partition(_SOURCE)
    if not found:
        raise ValueError("a record without a source")
    source: str = json.loads(rest.partition(b"\n")[0].rstrip(b","))
    return source


def _text_of_record(slides: Path, name: str) -> bytes:
    # Of a hundred thousand slides the paths would cost more than the reading.
    with open(f"{slides}/{name}/{RECORD}", "rb", buffering=0) as file:  # noqa: PTH123
        return file.read()


def _size(file: str) -> int:
    return os.stat(file).st_size  # noqa: PTH116 - as above


def _write_products(
    result: SlideResult, reader: SlideReader, write: Collection[str], folder: Path, beat: Callable[[], None]
) -> None:
    # Tables and what is laid over the file are in its own pixels, pictures in those that were looked at.
    own = in_file_pixels(result)
    for product in PRODUCTS:
        if product.name in write:
            product.write(own if product.in_file_pixels else result, reader, folder / product.file)
            beat()


def _write_record(record: SlideRecord, write: Collection[str], provenance: Mapping[str, Any], folder: Path) -> None:
    sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    write_json({**record, "write": sorted(write), "products": sizes, **provenance}, folder / RECORD)
