"""The samples of a run as a laboratory's system takes them: counts with every review, and why where there are none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from wbc_cli.classes import BY_NAME
from wbc_cli.errors import UsageError
from wbc_cli.export.results import SAMPLES, Results, Row
from wbc_cli.products.folder import DIFFERENTIAL
from wbc_cli.products.tables import DONE
from wbc_cli.review.reviewed import SlideReview
from wbc_cli.review.slides import plain


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
    """

    name: str
    origin: str
    problem: str
    counts: Counter[str]
    flags: tuple[str, ...]
    reviews: tuple[SlideReview, ...]


def samples_of(results: Results) -> list[SampleCounts]:
    """The samples of a run, in the order of samples.csv; without that table the slides of differential.csv.

    Raises:
        UsageError: a table cannot be read, or it is not known to which sample a reviewed slide belongs.
    """
    if rows := results.table(SAMPLES):
        reviews = _by_sample(results, {plain(row["sample"]) for row in rows})
        fields = [record["sample"] for record in results.records.values() if record.get("sample")]
        origins = {sample["name"]: str(sample["folder"]) for sample in fields}
        return [_sample(row, plain(row["sample"]), origins, reviews) for row in rows]
    reviewed = results.review.slides.values() if results.review else ()
    by_slide = {plain(review.cells.written): [review] for review in reviewed}
    origins = {name: str(record.get("source", "")) for name, record in results.records.items()}
    return [_sample(row, plain(row["slide"]), origins, by_slide) for row in results.table(DIFFERENTIAL)]


def _by_sample(results: Results, names: set[str]) -> dict[str, list[SlideReview]]:
    """The reviews of the slides that count, by the sample that slide.json names; a slide may belong to none."""
    found: dict[str, list[SlideReview]] = {}
    for slide, review in results.review.slides.items() if results.review else ():
        record = results.records[slide]
        sample = (record.get("sample") or {}).get("name")
        if sample is None or record["status"] != DONE:
            continue
        if sample not in names:
            raise UsageError(
                f"{results.folder}: slide {slide} is reviewed, and {SAMPLES} has no single sample {sample!r} that it "
                "belongs to; give the samples different names with `analyze --samples FILE.csv`"
            )
        found.setdefault(sample, []).append(review)
    return found


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
    return SampleCounts(name, origin, "", counts, flags, own)
