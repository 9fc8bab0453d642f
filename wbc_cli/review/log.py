"""The log of a run's reviews: lines are only ever added, and each carries the hash of the one before.

A line that is changed, removed or moved breaks the chain at the next one; that no line is missing at the end, and the
last one is as it was, is told by a file with the checksum of the whole, as `sha256sum -c` takes it. That notices
accidents and careless hands. Who can write both files can make both anew; keep the checksum elsewhere against that.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wbc_cli.errors import UsageError
from wbc_cli.review.times import utc_time

LOG = "review-log.jsonl"
LOG_SUM = "review-log.jsonl.sha256"
CORRECTION, SIGNATURE = "correction", "signature"
_FIRST = "0" * 64  # what the first line has for the hash of the one before
_KEYS = {
    CORRECTION: {"kind", "slide", "cells_sha256", "cell", "class", "reviewer", "time", "logged"},
    SIGNATURE: {"kind", "slide", "cells_sha256", "review_sha256", "reviewer", "time", "logged"},
}

Entry = dict[str, str]
"""What a line says, without the hash: its `kind`, `slide`, `reviewer`, `time` (when it was said) and `logged` (when it
was written down), `cells_sha256` (of the slide's cells.csv that was reviewed); a correction has `cell` and `class`, a
signature `review_sha256`, see `SlideReview.sha256`."""


@dataclass(frozen=True)
class ReviewLog:
    """A log that has been found whole.

    Attributes:
        entries: in the order in which they were written.
        text: the file's content.
    """

    entries: tuple[Entry, ...] = ()
    text: bytes = b""

    @property
    def sha256(self) -> str:
        """The checksum of the whole log."""
        return hashlib.sha256(self.text).hexdigest()

    @property
    def summary(self) -> dict[str, Any]:
        """The entry of run.json on the log: number of entries and checksum."""
        return {"entries": len(self.entries), "sha256": self.sha256}

    @property
    def sum_line(self) -> str:
        """The content of the file with the checksum."""
        return f"{self.sha256}  {LOG}\n"

    def extended(self, entries: Iterable[Entry]) -> ReviewLog:
        """Return the log with more entries at its end."""
        added, text = list(entries), self.text
        previous = _hash(text.splitlines(keepends=True)[-1]) if text else _FIRST
        for entry in added:
            line = (json.dumps({"previous": previous, **entry}) + "\n").encode("ascii")
            previous, text = _hash(line), text + line
        return ReviewLog((*self.entries, *added), text)


def read_log(folder: Path) -> ReviewLog:
    """Read the log of a run folder and see that it is whole; without one there are no entries.

    More lines than the checksum covers, with the chain unbroken, are those of a merge that was killed: they count.

    Raises:
        UsageError: a line has been changed, removed or moved, or the log cannot be read.
    """
    path, sum_path = folder / LOG, folder / LOG_SUM
    try:
        text = path.read_bytes() if path.exists() else b""
        stated = sum_path.read_text(encoding="ascii").split()[0] if sum_path.exists() else None
    except (OSError, UnicodeError, IndexError) as error:
        raise UsageError(f"{path}: cannot be read ({error}); {_REPAIR}") from error
    if not text and stated is None:
        return ReviewLog()
    previous, whole = _FIRST, hashlib.sha256()
    entries, covered = [], stated == whole.hexdigest()
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        entry = _parse(line, path, number)
        if entry.pop("previous") != previous:
            raise UsageError(
                f"{path}, line {number}: does not follow from the line before: a line there was changed, removed or "
                f"moved; {_REPAIR}"
            )
        previous = _hash(line)
        whole.update(line)
        covered = covered or stated == whole.hexdigest()
        entries.append(entry)
    if not covered:
        raise UsageError(
            f"{path}: {len(entries)} lines do not have the checksum in {sum_path.name}: the last line was changed, or "
            f"lines after it removed; {_REPAIR}"
        )
    return ReviewLog(tuple(entries), text)


_REPAIR = "restore both files from a backup, or move them away to begin the reviews of this folder anew"


def _parse(line: bytes, path: Path, number: int) -> Entry:
    try:
        value: Any = json.loads(line)
        keys = _KEYS[value["kind"]] | {"previous"}
        if value.keys() != keys or not all(isinstance(text, str) for text in value.values()):
            raise ValueError("other keys than a review has")
        utc_time(value["time"])
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path}, line {number}: not an entry of a review ({error}); {_REPAIR}") from error
    entry: Entry = value
    return entry


def _hash(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()
