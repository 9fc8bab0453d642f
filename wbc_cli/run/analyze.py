"""`wbc-cli analyze`: what is to be done, having it done, and what came of it."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from wbc_cli.acquisition.file import known_acquisitions
from wbc_cli.errors import NothingToAnalyseError
from wbc_cli.products.folder import RunFolder
from wbc_cli.run.execution import Run
from wbc_cli.run.fingerprint import model_fingerprint
from wbc_cli.run.lock import LOCK, locked
from wbc_cli.run.options import AnalyzeOptions
from wbc_cli.run.outputs import write_outputs
from wbc_cli.run.plan import is_copy, known_names, make_plan, share_out
from wbc_cli.run.samples import find_samples
from wbc_cli.run.stopping import Stop
from wbc_cli.run.summary import RunSummary
from wbc_cli.slides.discover import Discovery, discover
from wbc_cli.terminal.console import Terminal


def find_slides(options: AnalyzeOptions, terminal: Terminal) -> Discovery:
    """Find the slides and say what is left out.

    Raises:
        NothingToAnalyseError: there are none.
        UsageError: a path does not exist.
        SetupError: the run folder's list of shards is damaged.
    """
    known = known_names(options.out)
    discovery = discover(options.paths, known, options.time_limit, partial(is_copy, options.out))
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
        log_level: of the workers.

    Raises:
        StoppedError, KeyboardInterrupt: a signal came before anything was done.
        NothingToAnalyseError, UsageError: nothing to do, or a wrong option.
        SetupError: weights, device or disk, or another run is in the folder.
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
        if known_acquisitions(options.out, model) != plan.acquisitions:
            # Some that were kept, or done by themselves before their acquisition was known, are now to be done with it.
            before = [slide for slide in part if slide.name in run.kept]
            run.revise(make_plan(before, replace(options, restart=False), samples, model, folder, stop))
            run.do(stop, locks, log_level)
        run.keep_absent(mine, stop)
        seconds = time.monotonic() - began
        write_outputs(run, stop, seconds)
    return RunSummary.of(run, stop, seconds)


@contextmanager
def _clean(scratch: Path) -> Iterator[None]:
    """Make a folder without what a killed run left, and remove it in the end."""
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
