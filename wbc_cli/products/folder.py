"""The run folder: the slides' folders, and what is joined from them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any

from wbc_cli.products.atomic import disk_errors, replace_file, write_text
from wbc_cli.products.constants import SCHEMA_VERSION, STOP_WIDTH
from wbc_cli.products.overlap import flag_overlaps, write_overlaps
from wbc_cli.products.records import Records
from wbc_cli.products.report.reviews import review_part
from wbc_cli.products.samples import samples_of, write_samples
from wbc_cli.products.slide_folders import CELLS, SlideFolders
from wbc_cli.products.tables import DONE, REFUSED, SlideRecord, join_cells, write_differential
from wbc_cli.review.log import LOG, LOG_SUM, ReviewLog
from wbc_cli.review.reviewed import Review
from wbc_cli.review.slides import RunCells
from wbc_cli.review.tables import has_pairs, write_pairs, write_reviewed

DIFFERENTIAL = "differential.csv"
RUN = "run.json"
REPORT = "report.html"
SAMPLES = "samples.csv"
OVERLAPS = "overlaps.csv"
REVIEWED = "differential-reviewed.csv"
REVIEWERS = "reviewers.csv"

_JOINED = (CELLS, DIFFERENTIAL, SAMPLES, OVERLAPS, REPORT)
_SLIDES = '  "slides": ['  # the line of run.json that comes before the first slide


class RunFolder(SlideFolders):
    """A folder OUT with a folder for each slide and the tables of the run.

    The slides' folders are the one source: the run's tables are joined from what has been committed there.
    """

    def with_overlaps(self, records: Records | Iterable[SlideRecord]) -> Records:
        """Return a run's records, flagged where fields of one sample overlap, so that cells may count twice."""
        return flag_overlaps(Records.of(records), self.slides)

    def write_tables(self, records: Records | Iterable[SlideRecord], stop_width: float = STOP_WIDTH) -> None:
        """Write differential.csv, cells.csv, and samples.csv and overlaps.csv where there are samples.

        From committed slides, each in one go and in the order of the names.

        Args:
            records: of the slides that belong in them; what else OUT holds stays out.
            stop_width: percentage points that the widest interval of a sample may have.

        Raises:
            SetupError: OUT cannot be written.
        """
        ordered = Records.of(records)
        tables = (self.slides / name / CELLS for name in ordered.names(DONE, REFUSED))
        self._replace_file(CELLS, lambda path: join_cells(tables, path))
        self._replace_file(DIFFERENTIAL, lambda path: write_differential(ordered, path))
        samples = samples_of(ordered, stop_width)
        self._replace_or_remove(SAMPLES, bool(samples), lambda path: write_samples(samples, path))
        self._replace_or_remove(OVERLAPS, bool(samples), lambda path: write_overlaps(ordered, path))

    def write_report(
        self,
        run: Mapping[str, Any],
        records: Records | Iterable[SlideRecord],
        review: Review | None = None,
        review_problem: str = "",
    ) -> None:
        """Write report.html from committed slides in one go.

        Args:
            run: what it says of the run, as for `write_run`.
            records: of the slides that belong in it.
            review: what reviewers say of them.
            review_problem: why that is not known, though there is a log of it.

        Raises:
            SetupError: OUT cannot be written.
        """
        # Here and not above: the charts take half a second to load, which a run that writes no page need not wait for.
        from wbc_cli.products.report.page import write_report  # noqa: PLC0415

        ordered = Records.of(records)
        reviews = review_part(review, review_problem)
        self._replace_file(REPORT, lambda path: write_report(run, ordered, self.slides, reviews, path))

    def cells_of(self, records: Records | Iterable[SlideRecord]) -> RunCells:
        """Return the cells of committed slides."""
        return RunCells({name: self.slides / name / CELLS for name in Records.of(records).names(DONE, REFUSED)})

    def write_log(self, log: ReviewLog) -> None:
        """Write the log of reviews, then the checksum of it: killed in between, both are still of one chain.

        Raises:
            SetupError: OUT cannot be written.
        """
        if not (self.out / LOG).exists():
            self._replace_file(LOG_SUM, lambda path: write_text(ReviewLog().sum_line, path))
        self._replace_file(LOG, lambda path: write_text(log.text.decode("ascii"), path))
        self._replace_file(LOG_SUM, lambda path: write_text(log.sum_line, path))

    def write_review(self, review: Review) -> None:
        """Write differential-reviewed.csv and, where two have seen the same slide, reviewers.csv, each in one go.

        Raises:
            SetupError: OUT cannot be written.
        """
        self._replace_file(REVIEWED, lambda path: write_reviewed(review, path))
        self._replace_or_remove(REVIEWERS, has_pairs(review), lambda path: write_pairs(review, path))

    def remove_review(self) -> None:
        """Remove the tables of a review that nothing vouches for any more.

        Raises:
            SetupError: OUT cannot be written.
        """
        self._remove_file(REVIEWED)
        self._remove_file(REVIEWERS)

    def remove_report(self) -> None:
        """Remove the page of an earlier run, which the tables may contradict by now.

        Raises:
            SetupError: OUT cannot be written.
        """
        self._remove_file(REPORT)

    def write_run(self, run: Mapping[str, Any], records: Records | Iterable[SlideRecord], name: str = RUN) -> None:
        """Write run.json in one go, after all that is joined from the same records.

        Args:
            run: what it says of the run: tool version, weights checksum, options, timings.
            records: of its slides; their names, paths, status and reasons are added.
            name: of the file, where it is not the only run in OUT.

        Raises:
            SetupError: OUT cannot be written.
        """
        ordered = Records.of(records)
        head = self._head(run, ordered) if name == RUN else _head(run)
        self._replace_file(name, lambda path: _write_run(head, ordered, path))

    def stands(self, run: Mapping[str, Any], records: Records) -> bool:
        """Tell whether all that is joined from records is that of just such a run already, whatever time it took."""
        try:
            known = _read_head(self.out / RUN)
        except (OSError, ValueError):
            return False
        ours = {**self._head(run, records), "seconds": known.get("seconds")}
        return bool(known == json.loads(json.dumps(ours)))

    def _head(self, run: Mapping[str, Any], records: Records) -> dict[str, Any]:
        """Return what run.json says but for the slides; also what was joined from which records, in bytes."""
        files = (self.out / name for name in _JOINED)
        sizes = {file.name: file.stat().st_size for file in files if file.exists()}
        return {**_head(run), "records_sha256": records.checksum, "products": sizes}

    def _replace_or_remove(self, name: str, wanted: bool, write: Callable[[Path], None]) -> None:
        """Write a file, or remove it where it is not wanted: what an earlier run wrote would contradict the rest."""
        if wanted:
            self._replace_file(name, write)
        else:
            self._remove_file(name)

    def _replace_file(self, name: str, write: Callable[[Path], None]) -> None:
        replace_file(self.out / name, self.scratch, write)

    def _remove_file(self, name: str) -> None:
        with disk_errors(self.out):
            (self.out / name).unlink(missing_ok=True)


def _head(run: Mapping[str, Any]) -> dict[str, Any]:
    return {"schema_version": SCHEMA_VERSION, **run}


def _write_run(head: Mapping[str, Any], records: Records, path: Path) -> None:
    """Write run.json: its head for people, then a line a slide, as there may be very many."""
    with path.open("w", encoding="utf-8") as file:
        file.write(json.dumps(head, indent=2).removesuffix("\n}") + f",\n{_SLIDES}")
        for number, record in enumerate(records):
            slide = {key: record.get(key) for key in ("name", "path", "status", "reason", "sample")}
            file.write(f"{',' if number else ''}\n    {json.dumps(slide)}")
        file.write("\n  ]\n}\n")


def _read_head(path: Path) -> dict[str, Any]:
    """Read what `_write_run` wrote, but for the slides.

    Raises:
        OSError, ValueError: it cannot be read, or something else wrote it.
    """
    with path.open(encoding="utf-8") as file:
        head = "".join(takewhile(lambda line: line.rstrip("\n") != _SLIDES, file))
    value: dict[str, Any] = json.loads(head.rstrip().removesuffix(",") + "}")
    return value
