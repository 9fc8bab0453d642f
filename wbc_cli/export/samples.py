"""The samples of a run as a laboratory's system takes them: counts with every review, and why where there are none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from wbc_cli.classes import BY_NAME
from wbc_cli.csv_files.formulas import unescape_formula
from wbc_cli.errors import UsageError
from wbc_cli.export.results import Results, Row
from wbc_cli.products.folder import DIFFERENTIAL, SAMPLES
from wbc_cli.products.samples import samples_of as fields_by_sample
from wbc_cli.products.tables import DONE
from wbc_cli.review.reviewed import SlideReview


@dataclass(frozen=True)
class SampleCounts:
    """One sample.

    Attributes:
        name: of the sample, or of the slide where that is its own sample.
        origin: the file or folder that tells it from others of its name; empty where that is not known.
        problem: why there is no differential; empty where there is one.
        counts: cells of each class, by the reviewers' last word where they have given one.
        flags: of the sample.
        reviews: of its slides that are reviewed.
        fields: the number of its pictures; 1 of a slide.
        fields_used: how many of them are counted.
        field_flags: how many of those have each of the flags that only pictures have.
    """

    name: str
    origin: str
    problem: str
    counts: Counter[str]
    flags: tuple[str, ...]
    reviews: tuple[SlideReview, ...]
    fields: int = 1
    fields_used: int = 1
    field_flags: Mapping[str, int] = field(default_factory=dict)


def samples_of(results: Results) -> list[SampleCounts]:
    """List the samples of a run, in the order of samples.csv; without that table the slides of differential.csv.

    Raises:
        UsageError: a table cannot be read, or samples.csv and the slides' records do not belong together.
    """
    reviews = results.review.slides if results.review else {}
    if not (rows := results.table(SAMPLES)):
        by_slide = {unescape_formula(review.cells.written): [review] for review in reviews.values()}
        origins = {name: str(record.get("source", "")) for name, record in results.records.items()}
        return [_sample(row, unescape_formula(row["slide"]), origins, by_slide) for row in results.table(DIFFERENTIAL)]
    groups = {sample.name: sample for sample in fields_by_sample(results.records.values())}
    if groups.keys() != {unescape_formula(row["sample"]) for row in rows}:
        raise UsageError(
            f"{results.folder / SAMPLES}: has other samples than the slides; analyse again to write it anew"
        )
    origins = {name: group.folder for name, group in groups.items()}
    by_sample = {name: [reviews[field] for field in group.used if field in reviews] for name, group in groups.items()}
    return [_sample(row, unescape_formula(row["sample"]), origins, by_sample) for row in rows]


def _sample(
    row: Row, name: str, origins: Mapping[str, str], reviews: Mapping[str, Sequence[SlideReview]]
) -> SampleCounts:
    origin = origins.get(name, "")
    flags = tuple(flag for flag in row["flags"].split(";") if flag)
    if row["status"] != DONE:
        reason = row.get("reason") or row.get("left_out") or "no reason is known"
        return SampleCounts(name, origin, f"{row['status']}: {reason}", Counter(), flags, ())
    counts = Counter({kind: int(row[f"{kind}_count"]) for kind in BY_NAME})
    own = tuple(reviews.get(name, ()))
    for review in own:
        counts.subtract(review.before)
        counts.update(review.after)
    fields, used = (int(row.get(column, 1)) for column in ("fields", "fields_used"))
    of_fields = (text.rpartition(":") for text in row.get("field_flags", "").split(";") if text)
    return SampleCounts(name, origin, "", counts, flags, own, fields, used, {flag: int(n) for flag, _, n in of_fields})
