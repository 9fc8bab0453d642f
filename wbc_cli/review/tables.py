"""The tables of a review: the reviewed differentials beside those before, and reviewers beside each other."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from pathlib import Path

from wbc_cli.classes import BY_NAME, DIFFERENTIAL_NAMES
from wbc_cli.differential import Share, of_counts
from wbc_cli.review.agreement import cohens_kappa
from wbc_cli.review.reviewed import Review, SlideReview

ALL_SLIDES = "all reviewed slides"
_OTHER_NAMES = tuple(name for name in BY_NAME if name not in DIFFERENTIAL_NAMES)
REVIEWED_COLUMNS: tuple[str, ...] = (
    *("slide", "differential", "cells", "changed", "kappa"),
    *("reviewers", "reviewed_at", "disputed", "signed_by", "signed_at", "signature"),
    *("before_cells", "reviewed_cells"),
    *(
        f"{name}_{figure}"
        for name in DIFFERENTIAL_NAMES
        for figure in ("before_count", "before_percent", "reviewed_count", "reviewed_percent", "low", "high")
    ),
    *(f"{name}_{figure}" for name in _OTHER_NAMES for figure in ("before_count", "reviewed_count")),
)
PAIR_COLUMNS: tuple[str, ...] = (
    *("slide", "first", "second", "cells", "agreed", "agreed_percent", "low", "high", "kappa"),
    *(f"{name}_{which}_count" for name in BY_NAME for which in ("first", "second")),
)


def write_reviewed(review: Review, path: Path) -> None:
    """Write differential-reviewed.csv: a row a reviewed slide, and one for all of them.

    Raises:
        OSError: the disk is full or read-only.
    """
    slides = review.slides.values()
    rows = [{**_slide_columns(slide), **_count_columns(slide.before, slide.after)} for slide in slides]
    before, after = [n for slide in slides for n in slide.before], [n for slide in slides for n in slide.after]
    whole = {
        "slide": ALL_SLIDES,
        "reviewers": _listed(review.reviewers),
        "disputed": str(sum(slide.disputed for slide in slides)),
    }
    _write([*rows, {**whole, **_count_columns(before, after)}], REVIEWED_COLUMNS, path)


def write_pairs(review: Review, path: Path) -> None:
    """Write reviewers.csv: a row for each two reviewers of a slide, and for all slides that both have reviewed.

    Raises:
        OSError: the disk is full or read-only.
    """
    _write(_pairs(review), PAIR_COLUMNS, path)


def has_pairs(review: Review) -> bool:
    """Tell whether two reviewers have seen the same slide."""
    return any(len(slide.reviewers) > 1 for slide in review.slides.values())


def _pairs(review: Review) -> Iterator[dict[str, str]]:
    for first, second in combinations(sorted(review.reviewers), 2):
        shared = [s for s in review.slides.values() if first in s.reviewers and second in s.reviewers]
        for slide in shared:
            yield _pair(slide.cells.written, first, second, [slide])
        if shared:
            yield _pair(ALL_SLIDES, first, second, shared)


def _pair(name: str, first: str, second: str, slides: Sequence[SlideReview]) -> dict[str, str]:
    one, other = ([n for slide in slides for n in slide.seen_by(who)] for who in (first, second))
    agreed = Share.of(sum(a == b for a, b in zip(one, other, strict=True)), len(one))
    row = {
        "slide": name,
        "first": first,
        "second": second,
        "cells": str(len(one)),
        "agreed": str(agreed.count),
        "agreed_percent": _percent(agreed.percent),
        "low": _percent(agreed.low),
        "high": _percent(agreed.high),
        "kappa": _kappa(one, other),
    }
    for kind in BY_NAME:
        row |= {f"{kind}_first_count": str(one.count(kind)), f"{kind}_second_count": str(other.count(kind))}
    return row


def _slide_columns(slide: SlideReview) -> dict[str, str]:
    return {
        "slide": slide.cells.written,
        "reviewers": _listed(slide.reviewers),
        "reviewed_at": max(slide.reviewers.values(), default=""),
        "disputed": str(slide.disputed),
        "signed_by": _listed(signature.reviewer for signature in slide.signatures),
        "signed_at": _listed(signature.time for signature in slide.signatures),
        "signature": _listed("stands" if s.stands else "changed since" for s in slide.signatures),
    }


def _count_columns(before: Sequence[str], after: Sequence[str]) -> dict[str, str]:
    old, new = of_counts(Counter(before)), of_counts(Counter(after))
    row = {
        "differential": "reviewed",
        "cells": str(len(before)),
        "changed": str(sum(a != b for a, b in zip(before, after, strict=True))),
        "kappa": _kappa(before, after),
        "before_cells": str(old.differential_cells),
        "reviewed_cells": str(new.differential_cells),
    }
    for name in DIFFERENTIAL_NAMES:
        row |= _side_by_side(name, old.classes[name], new.classes[name])
    for name in _OTHER_NAMES:
        row |= {f"{name}_before_count": str(before.count(name)), f"{name}_reviewed_count": str(after.count(name))}
    return row


def _side_by_side(name: str, old: Share, new: Share) -> dict[str, str]:
    return {
        f"{name}_before_count": str(old.count),
        f"{name}_before_percent": _percent(old.percent),
        f"{name}_reviewed_count": str(new.count),
        f"{name}_reviewed_percent": _percent(new.percent),
        f"{name}_low": _percent(new.low),
        f"{name}_high": _percent(new.high),
    }


def _kappa(first: Sequence[str], second: Sequence[str]) -> str:
    kappa = cohens_kappa(first, second)
    return "" if kappa is None else f"{kappa:.4f}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _listed(names: Iterable[str]) -> str:
    return "; ".join(names)


def _write(rows: Iterable[dict[str, str]], columns: Sequence[str], path: Path) -> None:
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        table = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
