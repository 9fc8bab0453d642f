"""The run folder: where products go, whole or not at all."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from wbc_cli.cells import SlideResult
from wbc_cli.errors import SetupError
from wbc_cli.products.explain import write_explain
from wbc_cli.products.features import FEATURES, write_features
from wbc_cli.products.file_pixels import in_file_pixels
from wbc_cli.products.geojson import write_geojson
from wbc_cli.products.masks import write_class_mask, write_mask, write_png_mask
from wbc_cli.products.names import SCHEMA_VERSION, STOP_WIDTH, USUAL_PRODUCTS
from wbc_cli.products.overlap import flag_overlaps, write_overlaps
from wbc_cli.products.overlay import write_overlay
from wbc_cli.products.report.page import write_report
from wbc_cli.products.report.reviews import review_part
from wbc_cli.products.samples import samples_of, write_samples
from wbc_cli.products.tables import (
    FAILED,
    SlideRecord,
    by_name,
    done_record,
    failed_record,
    join_cells,
    write_cells,
    write_differential,
)
from wbc_cli.products.thumbnails import THUMBNAILS, write_thumbnails
from wbc_cli.review.log import LOG, LOG_SUM, ReviewLog
from wbc_cli.review.reviewed import Review
from wbc_cli.review.slides import RunCells
from wbc_cli.review.tables import has_pairs, write_pairs, write_reviewed
from wbc_cli.slides.reader import SlideReader

RECORD = "slide.json"
CELLS = "cells.csv"
DIFFERENTIAL = "differential.csv"
RUN = "run.json"
REPORT = "report.html"
SAMPLES = "samples.csv"
OVERLAPS = "overlaps.csv"
REVIEWED = "differential-reviewed.csv"
REVIEWERS = "reviewers.csv"


class RunFolder:
    """A folder OUT with `slides/<name>/` for each slide and the tables of the run.

    The slides' folders are the one source: the run's tables are joined from what has been committed there.
    """

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
        with _disk_errors(out):
            self.slides.mkdir(parents=True, exist_ok=True)
            self.scratch.mkdir(exist_ok=True)

    def commit(
        self,
        result: SlideResult,
        reader: SlideReader,
        write: frozenset[str] = frozenset(USUAL_PRODUCTS),
        made: Mapping[str, Any] = MappingProxyType({}),
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        """Write a slide's products and put them in place in one go; older ones stay until then.

        Args:
            result: the analysed slide.
            reader: the same slide, open, for the pictures.
            write: which of names.PRODUCTS to write.
            made: what its record says of how it was made.
            beat: is called after every product.

        Raises:
            SetupError: OUT cannot be written.
            SlideError: a region for a picture cannot be decoded; nothing has changed in OUT.
        """
        # Tables and what is laid over the file are in its own pixels, pictures in those that were looked at.
        own = in_file_pixels(result)
        products: dict[str, tuple[str, Callable[[Path], None]]] = {
            "mask": ("mask.ome.tif", partial(write_mask, own)),
            "classes": ("classes.ome.tif", partial(write_class_mask, own)),
            "png": ("mask.png", partial(write_png_mask, own)),
            "overlay": ("overlay.png", partial(write_overlay, result, reader)),
            "explain": ("explain.png", partial(write_explain, result, reader)),
            "geojson": ("cells.geojson", partial(write_geojson, own, reader)),
            "report": (THUMBNAILS, partial(write_thumbnails, result, reader)),
            "features": (FEATURES, partial(write_features, result)),
        }

        def write_products(folder: Path) -> None:
            write_cells(own, folder / CELLS)
            for product, (name, write_product) in products.items():
                if product in write:
                    write_product(folder / name)
                    beat()
            sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
            _write_json({**done_record(own), "products": sizes, **made}, folder / RECORD)

        self._replace_slide(result.name, write_products)

    def record_failure(
        self, name: str, path: Path, reason: str, made: Mapping[str, Any] = MappingProxyType({})
    ) -> None:
        """Keep that a slide failed, and why, in place of any products of an older run.

        Raises:
            SetupError: OUT cannot be written.
        """
        record = {**failed_record(name, path, reason), **made}
        self._replace_slide(name, lambda folder: _write_json(record, folder / RECORD))

    def confirm(self, record: SlideRecord, path: Path, made: Mapping[str, Any]) -> None:
        """Note that a slide's results stand though its file has been touched or copied.

        Args:
            record: of the slide.
            path: of the file.
            made: what has changed of how it was made.

        Raises:
            SetupError: OUT cannot be written.
        """
        changed = {**record, "path": str(path), **made}
        self._replace_file(f"slides/{record['name']}/{RECORD}", lambda fresh: _write_json(changed, fresh))

    def names(self) -> list[str]:
        """Of the slides that something is known of.

        Raises:
            SetupError: OUT cannot be read.
        """
        with _disk_errors(self.slides):
            return sorted(path.name for path in self.slides.iterdir() if not path.name.startswith("."))

    def remove_slide(self, name: str) -> None:
        """Remove a slide's products for good.

        Raises:
            SetupError: OUT cannot be written.
        """
        with _disk_errors(self.slides / name):
            shutil.rmtree(self.slides / name)

    def record(self, name: str) -> SlideRecord | None:
        """What is known of a slide; None where nothing is, or where what was written is not there any more."""
        folder = self.slides / name
        try:
            record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
            sizes = {product: (folder / product).stat().st_size for product in record.get("products", ())}
        except (OSError, ValueError, AttributeError):
            return None
        whole = record.get("schema_version") == SCHEMA_VERSION and sizes == record.get("products", {})
        return record if whole else None

    def with_overlaps(self, records: Iterable[SlideRecord]) -> list[SlideRecord]:
        """Records of a run's slides, flagged where fields of one sample overlap, so that cells may count twice."""
        return flag_overlaps(records, self.slides)

    def write_tables(self, records: Iterable[SlideRecord], stop_width: float = STOP_WIDTH) -> None:
        """Write differential.csv, cells.csv, and samples.csv and overlaps.csv where there are samples.

        From committed slides, each in one go and in the order of the names.

        Args:
            records: of the slides that belong in them; what else OUT holds stays out.
            stop_width: percentage points that the widest interval of a sample may have.

        Raises:
            SetupError: OUT cannot be written.
        """
        ordered = by_name(records)
        counted = [self.slides / record["name"] / CELLS for record in ordered if record["status"] != FAILED]
        self._replace_file(CELLS, lambda path: join_cells(counted, path))
        self._replace_file(DIFFERENTIAL, lambda path: write_differential(ordered, path))
        samples = samples_of(ordered, stop_width)
        self._replace_or_remove(SAMPLES, bool(samples), lambda path: write_samples(samples, path))
        self._replace_or_remove(OVERLAPS, bool(samples), lambda path: write_overlaps(ordered, path))

    def write_report(
        self,
        run: Mapping[str, Any],
        records: Iterable[SlideRecord],
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
        ordered = by_name(records)
        reviews = review_part(review, review_problem)
        self._replace_file(REPORT, lambda path: write_report(run, ordered, self.slides, reviews, path))

    def cells_of(self, records: Iterable[SlideRecord]) -> RunCells:
        """The cells of committed slides."""
        counted = [str(record["name"]) for record in by_name(records) if record["status"] != FAILED]
        return RunCells({name: self.slides / name / CELLS for name in counted})

    def write_log(self, log: ReviewLog) -> None:
        """Write the log of reviews, then the checksum of it: killed in between, both are still of one chain.

        Raises:
            SetupError: OUT cannot be written.
        """
        if not (self.out / LOG).exists():
            self._replace_file(LOG_SUM, lambda path: _write_text(ReviewLog().sum_line, path))
        self._replace_file(LOG, lambda path: _write_text(log.text.decode("ascii"), path))
        self._replace_file(LOG_SUM, lambda path: _write_text(log.sum_line, path))

    def write_review(self, review: Review) -> None:
        """Write differential-reviewed.csv and, where two have seen the same slide, reviewers.csv, each in one go.

        Raises:
            SetupError: OUT cannot be written.
        """
        self._replace_file(REVIEWED, lambda path: write_reviewed(review, path))
        if has_pairs(review):
            self._replace_file(REVIEWERS, lambda path: write_pairs(review, path))
        else:
            self._remove_file(REVIEWERS)

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

    def write_run(self, run: Mapping[str, Any], records: Iterable[SlideRecord], name: str = RUN) -> None:
        """Write run.json in one go.

        Args:
            run: what it says of the run: tool version, weights checksum, options, timings.
            records: of its slides; their names, paths, status and reasons are added.
            name: of the file, where it is not the only run in OUT.

        Raises:
            SetupError: OUT cannot be written.
        """
        self._replace_file(name, lambda path: _write_json(_run_record(run, records), path))

    def has_report(self, run: Mapping[str, Any], records: Iterable[SlideRecord]) -> bool:
        """Whether report.html and run.json are those of just such a run already, whatever time it took."""
        try:
            known = json.loads((self.out / RUN).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        wanted = {**_run_record(run, records), "seconds": known.get("seconds")}
        return bool(known == wanted) and (self.out / REPORT).exists()

    def _replace_or_remove(self, name: str, wanted: bool, write: Callable[[Path], None]) -> None:
        """What an earlier run wrote would contradict the rest where it is not wanted any more."""
        if wanted:
            self._replace_file(name, write)
            return
        with _disk_errors(self.out):
            (self.out / name).unlink(missing_ok=True)

    def _replace_slide(self, name: str, write: Callable[[Path], None]) -> None:
        """Fill a fresh folder beside the slides and rename it into place.

        A folder cannot be renamed over a full one, so the older one steps aside first: killed between the two renames,
        the slide has no products, which says truly that it is to be done again.
        """
        final = self.slides / name
        with _disk_errors(final), tempfile.TemporaryDirectory(prefix=".commit-", dir=self.scratch) as scratch:
            fresh, old = Path(scratch, "fresh"), Path(scratch, "old")
            fresh.mkdir()  # the scratch folder is for its owner only; this one gets the usual permissions
            write(fresh)
            if final.exists():
                final.rename(old)
            fresh.rename(final)

    def _replace_file(self, name: str, write: Callable[[Path], None]) -> None:
        final = self.out / name
        with _disk_errors(final), tempfile.TemporaryDirectory(prefix=".commit-", dir=self.scratch) as scratch:
            fresh = Path(scratch, final.name)
            write(fresh)
            fresh.replace(final)

    def _remove_file(self, name: str) -> None:
        with _disk_errors(self.out):
            (self.out / name).unlink(missing_ok=True)


def _run_record(run: Mapping[str, Any], records: Iterable[SlideRecord]) -> dict[str, Any]:
    slides = [{key: r.get(key) for key in ("name", "path", "status", "reason", "sample")} for r in by_name(records)]
    return {"schema_version": SCHEMA_VERSION, **run, "slides": slides}


def _write_json(value: Mapping[str, Any], path: Path) -> None:
    _write_text(json.dumps(value, indent=2) + "\n", path)


def _write_text(text: str, path: Path) -> None:
    path.write_text(text, encoding="utf-8")


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SetupError(
            f"{path}: cannot write results: {error.strerror or error}. "
            "Check free space and permissions there, or give another folder with -o."
        ) from error
