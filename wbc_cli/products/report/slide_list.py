"""The slides and samples of a run as the page lists them, and which of them it has room for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from wbc_cli.cells import NEUTROPHILS_UNKNOWN
from wbc_cli.differential import FEWER_THAN_100, FEWER_THAN_200
from wbc_cli.products.records import Records
from wbc_cli.products.report.words import SAMPLE_FLAGS, SLIDE_FLAGS, in_words
from wbc_cli.products.samples import Sample
from wbc_cli.products.tables import DONE, FAILED, REFUSED, SlideRecord

MAX_LISTED = 5_000
"""Rows of a table of the page; the tables beside it have all."""
MAX_CHARTED = 200
"""Slides or samples in the charts."""


@dataclass(frozen=True)
class SlideList:
    """The slides of a run.

    Attributes:
        counted, refused, failed: how many there are of each.
        below_100, below_200: how many of the counted have too few cells for narrow intervals.
        neutrophils_unknown: how many of them were typed without the neutrophils of their laboratory.
        rows: the records of the first of them, by sample and name, with their flags in words.
        reasons: the records of the first that failed or were refused.
        differentials: names and counts of the first slides with cells.
    """

    counted: int
    refused: int
    failed: int
    below_100: int
    below_200: int
    neutrophils_unknown: int
    rows: Sequence[SlideRecord]
    reasons: Sequence[SlideRecord]
    differentials: Sequence[tuple[str, Mapping[str, Any]]]

    @property
    def all(self) -> int:
        """The number of slides."""
        return self.counted + self.refused + self.failed


def list_slides(records: Records, of_sample: Mapping[str, str]) -> SlideList:
    """Choose the slides that the page lists: the first of each part of it.

    Args:
        records: of the slides.
        of_sample: the sample of each slide that belongs to one.
    """
    flags = Counter[str]()
    differentials: list[tuple[str, Mapping[str, Any]]] = []
    for record in records:
        if record["status"] == DONE:
            flags.update(record["flags"])
            if len(differentials) < MAX_CHARTED and record["differential"]["differential_cells"]:
                differentials.append((record["name"], record["differential"]))
    failed, refused = records.names(FAILED), records.names(REFUSED)
    by_sample = sorted(records.names(), key=lambda name: of_sample.get(name, ""))
    return SlideList(
        counted=len(records) - len(failed) - len(refused),
        refused=len(refused),
        failed=len(failed),
        below_100=flags[FEWER_THAN_100],
        below_200=flags[FEWER_THAN_200],
        neutrophils_unknown=flags[NEUTROPHILS_UNKNOWN],
        rows=[{**record, "said": _said(record)} for record in _first(records, by_sample)],
        reasons=_first(records, [*failed, *refused]),
        differentials=differentials,
    )


def list_samples(samples: Iterable[Sample]) -> list[dict[str, Any]]:
    """Describe samples as their rows show them."""
    return [
        {
            "name": sample.name,
            "status": sample.status,
            "used": len(sample.used),
            "left_out": len(sample.left_out),
            "differential": asdict(sample.differential),
            "more": sample.more,
            "twice": sample.twice,
            "said": [in_words(flag, SAMPLE_FLAGS) for flag in sample.flags],
        }
        for sample in samples
    ]


def _first(records: Records, names: Sequence[str]) -> list[SlideRecord]:
    return [records[name] for name in names[:MAX_LISTED]]


def _said(record: SlideRecord) -> list[str]:
    return [in_words(flag, SLIDE_FLAGS) for flag in record.get("flags", ())]
