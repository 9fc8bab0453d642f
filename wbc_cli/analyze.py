"""`wbc-cli analyze`: what is to be done, having it done, and what came of it."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.table import Table

import wbc_cli
from wbc_cli.acquisition.file import read_acquisitions
from wbc_cli.acquisition.grouping import pictures_by_folder
from wbc_cli.classes import BY_NAME
from wbc_cli.console import Terminal
from wbc_cli.differential import Differential
from wbc_cli.errors import ExitCode, MachineError, NothingToAnalyseError
from wbc_cli.products.folder import RunFolder
from wbc_cli.products.tables import DONE, FAILED, NOT_IN_INPUT, REFUSED, SlideRecord, by_name, together
from wbc_cli.profile.file import read_profile
from wbc_cli.progress import RunProgress, run_progress
from wbc_cli.run.fingerprint import model_fingerprint
from wbc_cli.run.job import Job
from wbc_cli.run.lock import LOCK, locked
from wbc_cli.run.options import AnalyzeOptions
from wbc_cli.run.plan import Plan, absent, known_names, make_plan, share_out
from wbc_cli.run.reviews import kept_review
from wbc_cli.run.samples import Samples, find_samples
from wbc_cli.run.stopping import Stop
from wbc_cli.run.supervisor import Event, Supervisor
from wbc_cli.slides.discover import Discovery, discover, file_size


@dataclass(frozen=True)
class RunSummary:
    """What a run came to.

    Attributes:
        done: slides that are analysed.
        kept: how many of them were so before the run began.
        refused: name and reason of each of these whose picture is too bad for a differential.
        failed: name and reason of each that could not be analysed.
        left: slides that a stopped run did not come to.
        unread: how many pictures there were of kinds that are not read, by extension.
        differential: of the cells of all slides that are done and not refused.
        seconds: wall time.
        exit_code: some failures, and being stopped, are told to the scheduler.
    """

    done: tuple[str, ...]
    kept: int
    refused: tuple[tuple[str, str], ...]
    failed: tuple[tuple[str, str], ...]
    left: int
    unread: Mapping[str, int]
    differential: Differential
    seconds: float
    exit_code: ExitCode

    @classmethod
    def of(cls, run: Run, stop: Stop, seconds: float) -> RunSummary:
        """Sum up the records of a run's slides."""
        ordered = by_name(run.records.values())

        def reasons(status: str) -> tuple[tuple[str, str], ...]:
            return tuple((str(r["name"]), str(r["reason"])) for r in ordered if r["status"] == status)

        failed = reasons(FAILED)
        return cls(
            done=tuple(str(record["name"]) for record in ordered if record["status"] != FAILED),
            kept=len(run.kept),
            refused=reasons(REFUSED),
            failed=failed,
            left=len(run.plan.slides.keys() - run.records.keys()),
            unread=run.unread,
            differential=together(record for record in ordered if record["status"] == DONE),
            seconds=seconds,
            exit_code=stop.exit_code if stop else ExitCode.SOME_FAILED if failed or run.unread else ExitCode.OK,
        )

    def to_dict(self) -> dict[str, Any]:
        """What `--json` prints."""
        listed = {
            what: [{"slide": name, "reason": reason} for name, reason in slides]
            for what, slides in (("refused", self.refused), ("failed", self.failed))
        }
        return {**asdict(self), **listed, "exit_code": int(self.exit_code)}

    def table(self) -> Table:
        """The differential of all slides together."""
        table = Table(title=f"White cells: {self.differential.cells}, slides: {len(self.done)}", title_justify="left")
        for column in ("class", "cells", "percent", "95 % interval"):
            table.add_column(column, justify="left" if column == "class" else "right")
        for name, share in self.differential.classes.items():
            percent = "" if share.percent is None else f"{share.percent:.1f}"
            interval = "" if share.low is None else f"{share.low:.1f}-{share.high:.1f}"
            table.add_row(BY_NAME[name].label, str(share.count), percent, interval)
        for name, count in self.differential.others.items():
            table.add_row(BY_NAME[name].label, str(count), "", "")
        return table


def find_slides(options: AnalyzeOptions, terminal: Terminal) -> Discovery:
    """Find the slides and say what is left out.

    Raises:
        NothingToAnalyseError: there are none.
        UsageError: a path does not exist.
        MachineError: the run folder's list of shards is damaged.
    """
    discovery = discover(options.paths, known_names(options.out), options.time_limit)
    for path, reason in discovery.skipped:
        terminal.note(f"skipped {path}: {reason}")
    unread = ", ".join(f"{count} {kind}" for kind, count in discovery.unread.items())
    if unread:
        terminal.note(f"not analysed, as their kinds are not read: {unread}; export them as TIFF, PNG or JPEG")
    if not discovery.slides:
        named = ", ".join(str(path) for path in options.paths)
        but = f" but {unread}, which are not read" if unread else ""
        raise NothingToAnalyseError(
            f"{named}: no images or slides there{but}; see `wbc-cli analyze --help` for the formats"
        )
    return discovery


def analyze(options: AnalyzeOptions, terminal: Terminal, stop: Stop, log_level: int = logging.WARNING) -> RunSummary:
    """Analyse what is not analysed yet and write the run folder.

    Args:
        options: what to do.
        terminal: where to show progress.
        stop: whether a signal has come.
        log_level: of the worker.

    Raises:
        StoppedError, KeyboardInterrupt: a signal came before anything was done.
        NothingToAnalyseError, UsageError: nothing to do, or a wrong option.
        MachineError: weights, device or disk, or another run is in the folder.
    """
    began = time.monotonic()
    discovery = find_slides(options, terminal)
    samples = find_samples(discovery.slides, options.samples)
    for note in samples.notes:
        terminal.note(note)
    model = model_fingerprint(options)  # before anything is written: without weights there is nothing to do
    folder = RunFolder(options.out, options.out / f".scratch{'-' + options.shard.label if options.shard else ''}")
    with _sole_use(options) as locks, _clean(folder.scratch):
        mine = share_out(discovery.slides, options.shard, options.out) if options.shard else lambda name: True
        part = [slide for slide in discovery.slides if mine(slide.name)]
        plan = make_plan(part, options, samples, model, folder, stop)
        run = Run(options, folder, plan, samples, terminal, discovery)
        stop.begun = True
        run.do(stop, locks, log_level)
        if read_acquisitions(options.out) != plan.acquisitions:
            # Some that were kept, or done by themselves before their acquisition was known, are now to be done with it.
            before = [slide for slide in part if slide.name in run.kept]
            run.revise(make_plan(before, replace(options, restart=False), samples, model, folder, stop))
            run.do(stop, locks, log_level)
        run.keep_absent(mine, stop)
        seconds = time.monotonic() - began
        run.write(stop, seconds)
    return RunSummary.of(run, stop, seconds)


@contextmanager
def _clean(scratch: Path) -> Iterator[None]:
    """A folder without what a run left that was killed; gone in the end."""
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    try:
        yield
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def _sole_use(options: AnalyzeOptions) -> Iterator[tuple[int, ...]]:
    """Keep others out of the run folder, or of the shard's part of it.

    Yields:
        The file descriptors that hold the locks.
    """
    whole = options.out / LOCK
    if options.shard is None:
        with locked(whole) as descriptor:
            yield (descriptor,)
    else:
        own = options.out / f"{LOCK}-{options.shard.label}"
        with locked(whole, shared=True) as first, locked(own) as second:
            yield first, second


class Run:
    """Hears what becomes of a plan's slides.

    Attributes:
        records: of the slides that are done or have failed, by name.
        kept: names of those whose earlier results stand.
        absent: names of those of them whose files are not in the input any more.
        unread: see Discovery.
        used: what the worker ran on; None where there was nothing to do.
    """

    def __init__(
        self,
        options: AnalyzeOptions,
        folder: RunFolder,
        plan: Plan,
        samples: Samples,
        terminal: Terminal,
        discovery: Discovery,
    ) -> None:
        self.options, self.folder, self.plan, self.samples, self.terminal = options, folder, plan, samples, terminal
        self.records: dict[str, SlideRecord] = dict(plan.kept)
        self.kept = set(plan.kept)
        self.absent: list[str] = []
        self.discovery, self.unread = discovery, discovery.unread
        self.used: dict[str, Any] | None = None

    def do(self, stop: Stop, locks: tuple[int, ...], log_level: int) -> None:
        """Have done what is to be done.

        Raises:
            MachineError, UsageError: as the worker says.
        """
        missing = {name: slide for name, slide in self.plan.slides.items() if name not in self.plan.kept}
        if not missing:
            return
        able = {name: slide for name, slide in missing.items() if not slide.problem}
        job = Job(
            out=str(self.folder.out),
            scratch=str(self.folder.scratch),
            slides={name: [str(file) for file in slide.files] for name, slide in able.items()},
            fields={name: slide.field for name, slide in able.items() if slide.field is not None},
            pictures=pictures_by_folder(self.discovery.slides, able.values()),
            spoilt=[],
            known=dict(self.plan.known),
            samples={name: self.samples.keys[name] for name in able if name in self.samples.keys},
            scales={name: self.samples.um_per_px[name] for name in able if name in self.samples.um_per_px},
            model=self.plan.model,
            um_per_px=self.options.um_per_px,
            write=sorted(self.options.write),
            exhaustive=self.options.exhaustive,
            compute=self.options.compute.to_dict(),
            alone=False,
            time_limit=self.options.time_limit,
            log_level=log_level,
        )
        sizes = {name: file_size(slide.path) for name, slide in missing.items()}
        with run_progress(self.terminal, sizes) as progress:

            def hear(event: Event) -> None:
                match event["event"]:
                    case "ready":
                        self.used = event["used"]
                    case "watch":
                        progress.watch(event["slide"], event["done"], event["planned"], event["cells"])
                    case "kept":
                        self.kept.add(event["slide"])
                        self._finished(event["slide"], progress)
                    case "done" | "failed":
                        self._finished(event["slide"], progress)

            def blame(name: str, reason: str) -> None:
                path = missing[name].path
                key = self.samples.keys.get(name)
                made = {"source": str(path.absolute()), "model": self.plan.model, "sample": key}
                self.folder.record_failure(name, path, reason, made)
                self._finished(name, progress)

            for name in missing.keys() - able.keys():
                blame(name, missing[name].problem)
            Supervisor(stop, self.options.time_limit, locks, hear, blame).see_through(job)

    def revise(self, plan: Plan) -> None:
        """Take up what another look at the slides that had been kept says: which of them are to be done after all."""
        stale = plan.slides.keys() - plan.kept.keys()
        self.records = {name: record for name, record in self.records.items() if name not in stale}
        self.kept -= stale
        self.plan = replace(self.plan, kept=dict(self.records), known=plan.known)

    def _finished(self, name: str, progress: RunProgress) -> None:
        record = self.folder.record(name)
        if record is None:
            raise MachineError(f"{self.folder.slides / name}: what was written there is gone; run again to go on")
        self.records[name] = record
        if record["status"] != DONE:
            self.terminal.note(f"{record['status']} {record['path']}: {record['reason']}")
        progress.finish(name, 0 if record["status"] == FAILED else record["differential"]["cells"])

    def keep_absent(self, mine: Callable[[str], bool], stop: Stop) -> None:
        """Keep the rows of slides whose files have left the input, or take them out if that is wished.

        Args:
            mine: whether a slide, by its name, is one of this shard's.
            stop: whether a signal has come: then nothing is taken out.

        Raises:
            MachineError: the run folder cannot be read or written.
        """
        present = self.discovery.slides
        whole = not any(slide.problem for slide in present)
        if self.options.prune and not whole:
            self.terminal.note("nothing is pruned, as a part of the input cannot be read")
        elif self.options.prune and not stop:
            for name in set(self.folder.names()) - {slide.name for slide in present}:
                self.folder.remove_slide(name)
        left = absent(self.folder, present, self.records.values())
        self.absent = sorted(name for name in left if mine(name))
        self.records |= {name: left[name] for name in self.absent}
        self.kept.update(self.absent)
        if self.absent:
            self.terminal.note(
                f"slides that are not in the input any more: {len(self.absent)}; their rows stay, with the flag "
                f"{NOT_IN_INPUT}, until --prune takes them out"
            )

    def write(self, stop: Stop, seconds: float) -> None:
        """Write the tables, the report and run.json; a shard leaves all but the last to `merge`.

        Raises:
            MachineError: the run folder cannot be written.
        """
        profile = self.options.compute.profile
        run: dict[str, Any] = {
            "tool": "wbc-cli",
            "version": wbc_cli.__version__,
            "weights_sha256": self.plan.model["weights"],
            "status": "stopped" if stop else "finished",
            "left": sorted(self.plan.slides.keys() - self.records.keys()),
            "not_in_input": self.absent,
            "unread": dict(self.unread),
            "skipped": [{"path": str(path), "reason": reason} for path, reason in self.discovery.skipped],
            "options": self.options.to_dict(),
            **({"profile": read_profile(profile).summary()} if profile else {}),
            "used": self.used or next((r["used"] for r in self.records.values() if "used" in r), None),
            "seconds": round(seconds, 2),
        }
        if self.options.shard:
            self.folder.write_run(run, self.records.values(), f"run-{self.options.shard.label}.json")
        else:
            records = self.folder.with_overlaps(self.records.values())
            self.folder.write_tables(records, self.options.stop_width)
            review, problem = kept_review(self.folder, records)
            if problem:
                self.terminal.note(f"the reviews do not count: {problem}")
                run["review"] = {"problem": problem}
            elif review:
                run["review"] = review.log.summary
            if "report" not in self.options.write:
                self.folder.remove_report()
            elif self.used or not self.folder.has_report(run, records):
                self.folder.write_report(run, records, review, problem)
            self.folder.write_run(run, records)
