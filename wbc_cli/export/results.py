"""What a results folder holds, read for an export."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wbc_cli.errors import UsageError
from wbc_cli.products.folder import DIFFERENTIAL, RUN, RunFolder
from wbc_cli.products.slide_folders import CELLS
from wbc_cli.products.tables import SlideRecord
from wbc_cli.review.log import read_log
from wbc_cli.review.reviewed import Review, review_of
from wbc_cli.review.slides import RunCells

REVIEW_COLUMNS = ("reviewed_class", "reviewer", "reviewed_at")

Row = Mapping[str, str]


@dataclass(frozen=True)
class Results:
    """A finished run.

    Attributes:
        folder: that holds it.
        run: what run.json says.
        records: of its slides, by name.
        cells: of its slides.
        review: what reviewers say of them; None where nobody has.
    """

    folder: Path
    run: Mapping[str, Any]
    records: Mapping[str, SlideRecord]
    cells: RunCells
    review: Review | None

    def table(self, name: str) -> list[Row]:
        """Read the rows of one of the run's tables; none where there is no such table.

        Raises:
            UsageError: it cannot be read.
        """
        path = self.folder / name
        if not path.exists():
            return []
        try:
            with path.open(encoding="utf-8", newline="") as file:
                return list(csv.DictReader(file))
        except (OSError, UnicodeError, csv.Error) as error:
            raise UsageError(f"{path}: cannot be read ({error}); analyse again to write it anew") from error

    def said_of(self, slides: Iterable[str], cells: Iterable[str]) -> Iterator[tuple[str | None, ...]]:
        """Yield what reviewers say of cells, as REVIEW_COLUMNS.

        On a slide that is reviewed every cell has the class that stands, the others have none.

        Args:
            slides: of the cells, as the tables write them.
            cells: their numbers.
        """
        reviewed = {review.cells.written: review for review in self.review.slides.values()} if self.review else {}
        for slide, cell in zip(slides, cells, strict=True):
            review = reviewed.get(slide)
            entry = review.said.get(cell) if review else None
            if entry:
                yield entry["class"], entry["reviewer"], entry["time"]
            else:
                yield review.cells.classes[cell] if review else None, None, None


def read_results(folder: Path) -> Results:
    """Read a results folder.

    Raises:
        UsageError: it holds no finished run, its tables and slides do not belong together, or its log of reviews is
            damaged, so that nobody knows what is reviewed.
    """
    try:
        run: dict[str, Any] = json.loads((folder / RUN).read_text(encoding="utf-8"))
        names = [str(slide["name"]) for slide in run["slides"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{folder}: holds no finished run ({error}); give a folder that `analyze -o` wrote") from error
    for table in (CELLS, DIFFERENTIAL):
        if not (folder / table).exists():
            raise UsageError(f"{folder / table}: is missing; analyse again, or merge the shards, to write it")
    run_folder = RunFolder(folder)
    records = {name: run_folder.record(name) for name in names}
    if gone := [name for name, record in records.items() if record is None]:
        raise UsageError(f"{folder}: the products of {', '.join(gone)} are gone; analyse again to write them anew")
    found = {name: record for name, record in records.items() if record is not None}
    cells = run_folder.cells_of(found.values())
    log = read_log(folder)
    return Results(folder, run, found, cells, review_of(log, cells) if log.text else None)
