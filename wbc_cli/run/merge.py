"""`wbc-cli merge`: the tables of several runs, or of a run's shards, as one."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import wbc_cli
from wbc_cli.acquisition.file import add_acquisitions, read_acquisitions
from wbc_cli.errors import ExitCode, SetupError, UsageError
from wbc_cli.products.atomic import link_or_copy
from wbc_cli.products.folder import RUN, RunFolder
from wbc_cli.products.records import Records
from wbc_cli.products.samples import stop_width_of
from wbc_cli.products.tables import DONE, FAILED, NOT_IN_INPUT, REFUSED, SlideRecord
from wbc_cli.review.reviewed import Review
from wbc_cli.run.lock import LOCK, locked
from wbc_cli.run.reviews import NOTHING_NEW, NewReview, add_review, joined_log
from wbc_cli.run.shards import SHARDS, Shard, read_shares


@dataclass(frozen=True)
class Merged:
    """The outcome of a merge.

    Attributes:
        slides: that the tables hold.
        failed: how many of them failed.
        missing: what has not been done yet, in words.
        review: what reviewers say of them; None where nobody has.
    """

    slides: int
    failed: int
    missing: tuple[str, ...]
    review: Review | None = None

    @property
    def exit_code(self) -> ExitCode:
        """The exit code, by which the scheduler learns whether slides failed or are missing."""
        return ExitCode.SOME_FAILED if self.failed or self.missing else ExitCode.OK


@dataclass(frozen=True)
class _Part:
    """A run, or one shard of it: where it is, and what its record says."""

    folder: Path
    run: dict[str, Any]


def merge(sources: Sequence[Path], out: Path, added: NewReview = NOTHING_NEW, now: datetime | None = None) -> Merged:
    """Join runs into OUT: tables, and the slides' folders (as links to the same files where the disk has them).

    Args:
        sources: run folders. One with shards counts for all of its shards.
        out: where the tables go; it may be the only source, whose shards are joined in place.
        added: what reviewers hand in.
        now: the time of what does not say its own; that of the clock if not given.

    Raises:
        UsageError: a source holds no run, or two of them hold different results for a slide of the same name, or what
            reviewers hand in does not fit, or a log of reviews is damaged.
        SetupError: a source is in use, or OUT cannot be written.
    """
    for source in sources:
        if not ((source / SHARDS).exists() or (source / RUN).exists()):
            raise UsageError(f"{source}: holds no run of wbc-cli; give folders that `analyze -o` wrote")
    folder = RunFolder(out)
    parts: list[_Part] = []
    missing: list[str] = []
    with ExitStack() as held:
        for place in sorted({source.resolve() for source in (*sources, out)}):
            held.enter_context(locked(place / LOCK))
        for source in sources:  # now that nobody writes there any more
            found, lacking = _parts(source)
            parts += found
            missing += lacking
        log = joined_log(out, sources)
        records = Records()
        for part in parts:
            for name, record in _records(part, missing):
                _take(record, part.folder, folder, records.get(name))
                records.add(record)
        # One that failed by now was there again when it did.
        absent = _absent(parts).intersection(records.names(DONE, REFUSED))
        for record in [records[name] for name in absent]:
            records.add({**record, "flags": [*record["flags"], NOT_IN_INPUT]})
        review = add_review(folder, records, log, added, now or datetime.now(UTC))
        run = _run(parts, missing, absent, review)
        flagged = folder.with_overlaps(records)
        for source in sources:
            add_acquisitions(out, read_acquisitions(source).values())
        folder.write_tables(flagged, stop_width_of(run))
        folder.write_report(run, flagged, review)
        folder.write_run(run, records)
    return Merged(len(records), len(records.names(FAILED)), tuple(missing), review)


def _parts(source: Path) -> tuple[list[_Part], list[str]]:
    """Return the runs in a folder, and which of its shards are missing."""
    files = {Shard(0, 1): source / RUN}
    if shares := read_shares(source):
        shards = (Shard(i, shares.count) for i in range(shares.count))
        files = {shard: source / f"run-{shard.label}.json" for shard in shards}
    parts = [_Part(source, _read(file)) for file in files.values() if file.exists()]
    return parts, [f"{source}: shard {shard} has not run" for shard, file in files.items() if not file.exists()]


def _run(parts: Sequence[_Part], missing: list[str], absent: set[str], review: Review | None) -> dict[str, Any]:
    """Return what run.json says of the merge."""
    run: dict[str, Any] = {
        "tool": "wbc-cli",
        "version": wbc_cli.__version__,
        "merged_from": [run for part in parts for run in part.run.get("merged_from", [part.run])],
        "status": "incomplete" if missing else "finished",
        "missing": missing,
        "not_in_input": sorted(absent),
        "unread": _unread(parts),
    }
    return {**run, "review": review.log.summary} if review else run


def _records(part: _Part, missing: list[str]) -> Iterator[tuple[str, SlideRecord]]:
    """Yield what is known of a run's slides; add to `missing` what is not."""
    folder = RunFolder(part.folder)
    missing += [f"{part.folder}: {name} was left when the run was stopped" for name in part.run.get("left", ())]
    missing += part.run.get("missing", ())
    for slide in part.run["slides"]:
        record = folder.record(slide["name"])
        if record is None:
            missing.append(f"{part.folder}: the products of {slide['name']} are gone")
        else:
            yield slide["name"], record


def _absent(parts: Sequence[_Part]) -> set[str]:
    """Find the slides whose files have left the input of every run that has them."""
    absent = {name for part in parts for name in part.run.get("not_in_input", ())}
    present = {
        slide["name"]
        for part in parts
        for slide in part.run["slides"]
        if slide["name"] not in part.run.get("not_in_input", ())
    }
    return absent - present


def _unread(parts: Sequence[_Part]) -> dict[str, int]:
    """Count the pictures of kinds that are not read, by extension; each shard of a run has counted all."""
    counts: dict[Path, dict[str, int]] = {}
    for part in parts:
        counts.setdefault(part.folder, {}).update(part.run.get("unread", {}))
    return dict(sorted(sum((Counter(kinds) for kinds in counts.values()), Counter[str]()).items()))


def _take(record: SlideRecord, source: Path, folder: RunFolder, other: SlideRecord | None) -> None:
    name = record["name"]
    if other is not None and other != record:
        raise UsageError(
            f"{source}: has other results for {name} than an earlier folder; analyse slides of the same name under one "
            "folder, or merge the runs one by one"
        )
    old, new = source / "slides" / name, folder.slides / name
    if other is not None or old.resolve() == new.resolve():
        return
    try:
        shutil.rmtree(new, ignore_errors=True)
        shutil.copytree(old, new, copy_function=link_or_copy)
    except (OSError, shutil.Error) as error:
        raise SetupError(f"{new}: cannot be written: {error}; check free space and permissions") from error


def _read(file: Path) -> dict[str, Any]:
    try:
        value: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if not all(isinstance(slide["name"], str) for slide in value["slides"]):
            raise ValueError("a slide without a name")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{file}: not the record of a run ({error}); analyse again to write it anew") from error
    return value
