"""The reviews of a run folder: read from its log, added to it, and written as tables."""

from __future__ import annotations

import getpass
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from wbc_cli.errors import UsageError
from wbc_cli.products.folder import RunFolder
from wbc_cli.products.records import Records
from wbc_cli.products.tables import DONE
from wbc_cli.review.corrections import checked_reviewer, read_corrections
from wbc_cli.review.log import ReviewLog, read_log
from wbc_cli.review.reviewed import Review, news_of, review_of, signatures_of


@dataclass(frozen=True)
class NewReview:
    """What reviewers hand in.

    Attributes:
        corrections: files, see `read_corrections`.
        sign: slides to sign when these are entered, see `signatures_of`.
        reviewer: who signs, and who has made the corrections that do not say so; these are of the account that enters
            them if not given.
    """

    corrections: Sequence[Path] = ()
    sign: Sequence[str] = ()
    reviewer: str | None = None

    def __post_init__(self) -> None:
        """See that somebody stands for it.

        Raises:
            UsageError: nobody does, or the name cannot be one.
        """
        if self.sign and not self.reviewer:
            raise UsageError("--sign: does not say who signs; give --reviewer NAME")
        if self.reviewer:
            checked_reviewer(self.reviewer, "--reviewer")


NOTHING_NEW = NewReview()


def _account() -> str:
    """Return the name of the account that the program runs under."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container without users
        return "unnamed"


def kept_review(folder: RunFolder, records: Records) -> tuple[Review | None, str]:
    """Read the review in a run folder, and make its tables anew for the slides as they are now.

    Returns:
        The review, None where there is none; and what is wrong with its log, which then has no tables.

    Raises:
        SetupError: the folder cannot be written.
    """
    try:
        log = read_log(folder.out)
        review = review_of(log, folder.cells_of(records)) if log.text else None
    except UsageError as error:
        folder.remove_review()
        return None, str(error)
    if review:
        folder.write_review(review)
    return review, ""


def joined_log(out: Path, sources: Iterable[Path]) -> ReviewLog:
    """Join the log of a folder with what those of other run folders have beside it.

    Raises:
        UsageError: one of the logs is damaged.
    """
    log = read_log(out)
    for source in sources:
        known = {tuple(sorted(entry.items())) for entry in log.entries}
        other = read_log(source).entries
        log = log.extended(entry for entry in other if tuple(sorted(entry.items())) not in known)
    return log


def add_review(folder: RunFolder, records: Records, log: ReviewLog, added: NewReview, now: datetime) -> Review | None:
    """Enter corrections and signatures into the log of a run folder, and write its tables.

    Args:
        folder: of the run.
        records: of its slides.
        log: with what is known so far.
        added: what is to be entered.
        now: the time of what does not say its own.

    Returns:
        The review, None where there is none.

    Raises:
        UsageError: the corrections or signatures do not fit the cells; nothing of them is entered.
        SetupError: the folder cannot be written.
    """
    cells = folder.cells_of(records)
    review = review_of(log, cells)
    corrections = read_corrections(added.corrections, cells, added.reviewer or _account(), now)
    log = log.extended(news_of(corrections, review, cells, now))
    review = review_of(log, cells)
    if added.sign and added.reviewer:
        log = log.extended(signatures_of(added.sign, records.names(DONE), review, cells, added.reviewer, now))
        review = review_of(log, cells)
    if not log.text:
        return None
    folder.write_log(log)
    folder.write_review(review)
    return review
