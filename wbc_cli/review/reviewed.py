"""What the entries of a log come to: the reviewed classes of each slide, by whom, when, and who has signed them."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from functools import cached_property

from wbc_cli.errors import UsageError
from wbc_cli.review.agreement import cohens_kappa
from wbc_cli.review.corrections import Correction
from wbc_cli.review.log import CORRECTION, SIGNATURE, Entry, ReviewLog
from wbc_cli.review.slides import RunCells, SlideCells
from wbc_cli.review.times import utc_text, utc_time


@dataclass(frozen=True)
class Signature:
    """The word of a reviewer who vouches for the reviewed classes of a slide.

    Attributes:
        reviewer: who.
        time: when.
        stands: nothing has changed since.
    """

    reviewer: str
    time: str
    stands: bool


@dataclass(frozen=True)
class SlideReview:
    """A review holds what is said of one slide, which counts as reviewed in full: what nobody mentions is right.

    Attributes:
        slide: its name.
        cells: its cells as they were found.
        entries: of the log about these cells, by the time at which they were said.
    """

    slide: str
    cells: SlideCells
    entries: tuple[Entry, ...]

    @cached_property
    def said(self) -> Mapping[str, Entry]:
        """The last word on each cell that somebody mentions."""
        return {entry["cell"]: entry for entry in self.entries if entry["kind"] == CORRECTION}

    @cached_property
    def reviewers(self) -> Mapping[str, str]:
        """The time at which each reviewer last corrected or confirmed a cell, by the reviewer's name."""
        return {entry["reviewer"]: entry["time"] for entry in self.entries if entry["kind"] == CORRECTION}

    @property
    def before(self) -> tuple[str, ...]:
        """The class of each cell as it was found."""
        return tuple(self.cells.classes.values())

    @cached_property
    def after(self) -> tuple[str, ...]:
        """The class of each cell by the last word on it."""
        found = self.cells.classes
        return tuple(self.said[cell]["class"] if cell in self.said else name for cell, name in found.items())

    def seen_by(self, reviewer: str) -> tuple[str, ...]:
        """Return the class of each cell as one reviewer sees it."""
        own = {e["cell"]: e["class"] for e in self.entries if e["kind"] == CORRECTION and e["reviewer"] == reviewer}
        return tuple(own.get(cell, name) for cell, name in self.cells.classes.items())

    @cached_property
    def disputed(self) -> int:
        """The number of cells on which the reviewers differ."""
        views = [self.seen_by(reviewer) for reviewer in self.reviewers]
        return sum(len(set(classes)) > 1 for classes in zip(*views, strict=True))

    @property
    def sha256(self) -> str:
        """Checksum of what is signed: that of the slide's cells.csv, then number and reviewed class of every cell."""
        lines = (f"{cell},{name}\n" for cell, name in zip(self.cells.classes, self.after, strict=True))
        return hashlib.sha256("".join((f"{self.cells.sha256}\n", *lines)).encode()).hexdigest()

    @cached_property
    def signatures(self) -> tuple[Signature, ...]:
        """The last signature of everybody who has signed."""
        last = {entry["reviewer"]: entry for entry in self.entries if entry["kind"] == SIGNATURE}
        return tuple(Signature(who, e["time"], e["review_sha256"] == self.sha256) for who, e in last.items())


@dataclass(frozen=True)
class Review:
    """The reviewed slides of a run.

    Attributes:
        log: what all of it rests on.
        slides: that somebody has reviewed or signed, by name.
        outdated: how many entries are about cells that are not there any more, by slide: it was analysed anew since,
            or is gone. They do not count.
    """

    log: ReviewLog
    slides: Mapping[str, SlideReview]
    outdated: Mapping[str, int]

    @property
    def reviewers(self) -> tuple[str, ...]:
        """Everybody who has corrected or confirmed cells."""
        return tuple(dict.fromkeys(who for slide in self.slides.values() for who in slide.reviewers))

    @property
    def kappa(self) -> float | None:
        """The agreement of the reviewed classes with those that were found, on all cells of the reviewed slides."""
        slides = self.slides.values()
        return cohens_kappa([n for s in slides for n in s.before], [n for s in slides for n in s.after])

    @property
    def in_words(self) -> tuple[str, ...]:
        """The lines that a user is told of the review."""
        agreement = "not defined" if self.kappa is None else f"{self.kappa:.3f}"
        slides = self.slides.values()
        signed = sum(any(signature.stands for signature in slide.signatures) for slide in slides)
        lines = [
            f"reviewed slides: {len(slides)}, signed: {signed}, Cohen's kappa {agreement}; differential-reviewed.csv",
            f"review-log.jsonl: {len(self.log.entries)} entries, SHA-256 {self.log.sha256}",
        ]
        for slide in slides:
            if slide.disputed:
                lines.append(f"{slide.slide}: the reviewers differ on {slide.disputed} cells; the last word counts")
            if any(not signature.stands for signature in slide.signatures):
                lines.append(f"{slide.slide}: its review has changed since it was signed")
        for name, number in self.outdated.items():
            lines.append(f"{name}: analysed anew since it was reviewed, or gone; {number} entries do not count")
        return tuple(lines)


def review_of(log: ReviewLog, cells: RunCells) -> Review:
    """Put the entries of a log together by slide.

    Raises:
        UsageError: the table of a reviewed slide cannot be read.
    """
    about: dict[str, list[Entry]] = defaultdict(list)
    for entry in log.entries:
        about[entry["slide"]].append(entry)
    slides: dict[str, SlideReview] = {}
    outdated: dict[str, int] = {}
    for slide in sorted(about):
        found = cells.of(slide)
        valid = [entry for entry in about[slide] if found and entry["cells_sha256"] == found.sha256]
        if found and valid:
            slides[slide] = SlideReview(slide, found, _by_time(valid))
        if stale := len(about[slide]) - len(valid):
            outdated[slide] = stale
    return Review(log, slides, outdated)


def news_of(corrections: Iterable[Correction], review: Review, cells: RunCells, now: datetime) -> list[Entry]:
    """List the entries that corrections add to a log; what it has already is left out.

    A correction with a time of its own is known if the log has it with that time. One that is said now would be new
    each time that its file is entered, so it is known if its reviewer said so before and nobody has spoken since.

    Args:
        corrections: by their times.
        review: what the log comes to.
        cells: of the run.
        now: the time of the corrections that did not give theirs.
    """
    words: dict[tuple[str, str, str], list[Entry]] = defaultdict(list)
    for entry in review.log.entries:
        if entry["kind"] == CORRECTION:
            words[entry["slide"], entry["cells_sha256"], entry["cell"]].append(entry)
    entries = []
    for correction in corrections:
        found = cells.of(correction.slide)
        assert found is not None  # as read_corrections has made sure
        said = words[correction.slide, found.sha256, correction.cell]
        own = {
            "kind": CORRECTION,
            "slide": correction.slide,
            "cells_sha256": found.sha256,
            "cell": correction.cell,
            "class": correction.class_name,
            "reviewer": correction.reviewer,
            "time": utc_text(correction.time),
            "logged": utc_text(now),
        }
        known = _stands(own, said) if correction.time == now else any(_is_same(own, entry) for entry in said)
        if not known:
            entries.append(own)
            said.append(own)
    return entries


def signatures_of(
    names: Sequence[str], signable: Iterable[str], review: Review, cells: RunCells, reviewer: str, now: datetime
) -> list[Entry]:
    """List the entries by which a reviewer signs slides; what is signed already as it is now is left out.

    Args:
        names: of slides as the tables write them, or patterns such as `monday*`.
        signable: the slides that have a differential.
        review: with everything that the signature is to cover.
        cells: of the run.
        reviewer: who signs.
        now: when.

    Raises:
        UsageError: a name fits no slide that has a differential.
    """
    chosen: dict[str, None] = {}
    able = list(signable)
    for name in names:
        exact = cells.slide_named(name)
        fitting = [exact] if exact in able else [slide for slide in able if fnmatchcase(slide, name)]
        if not fitting:
            raise UsageError(f"--sign {name}: no slide of that name has a differential that could be signed")
        chosen |= dict.fromkeys(slide for slide in fitting if slide is not None)
    entries = []
    for slide in chosen:
        found = cells.of(slide)
        assert found is not None
        state = review.slides.get(slide) or SlideReview(slide, found, ())
        if any(signature.reviewer == reviewer and signature.stands for signature in state.signatures):
            continue
        entries.append(
            {
                "kind": SIGNATURE,
                "slide": slide,
                "cells_sha256": found.sha256,
                "review_sha256": state.sha256,
                "reviewer": reviewer,
                "time": utc_text(now),
                "logged": utc_text(now),
            }
        )
    return entries


def _is_same(one: Entry, other: Entry) -> bool:
    """Tell whether two entries say the same of one cell, by the same reviewer at the same time."""
    return all(one[key] == other[key] for key in ("class", "reviewer", "time"))


def _stands(word: Entry, said: Sequence[Entry]) -> bool:
    """Tell whether the last that was said of a cell, by one reviewer or by several at once, has a reviewer's word."""
    last = max((entry["time"] for entry in said), key=utc_time, default="")
    classes = {entry["reviewer"]: entry["class"] for entry in said if entry["time"] == last}
    return classes.get(word["reviewer"]) == word["class"]


def _by_time(entries: Sequence[Entry]) -> tuple[Entry, ...]:
    """Sort entries by when they were said: an older file that is handed in late does not overrule a newer word."""
    return tuple(sorted(entries, key=lambda entry: utc_time(entry["time"])))
