"""`wbc-cli analyze`: many slides at a time, each by itself, and what came of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

import wbc_cli
from wbc_cli.classes import BY_NAME
from wbc_cli.console import Terminal
from wbc_cli.differential import Differential, count_classes
from wbc_cli.errors import ExitCode, MachineError, NothingToAnalyseError, SlideError
from wbc_cli.inference.pipeline import Analyser
from wbc_cli.loading import ComputeOptions, load_analyser
from wbc_cli.parallel import Room
from wbc_cli.products.folder import RunFolder
from wbc_cli.progress import RunProgress, run_progress
from wbc_cli.slides import open_slide
from wbc_cli.slides.discover import Discovery, SlideSource, discover
from wbc_cli.slides.header import read_header
from wbc_cli.slides.reader import SlideReader

log = logging.getLogger(__name__)

_ROOM = 512 << 20  # bytes of pixels or files that are open at a time: hundreds of camera fields, or two whole slides
_MOST_SLIDES = 128
_MOST = _ROOM // 2  # what any file is taken for at most; a slide's memory does not grow with it
_OPENERS = frozenset({".mrxs", ".vms", ".vmu", ".dcm"})  # small files that stand for large ones


@dataclass(frozen=True)
class AnalyzeOptions:
    """What to analyse and what to write.

    Attributes:
        paths: files, folders and lists.
        out: the run folder.
        um_per_px: overrides or supplies the files' scale.
        write: which of products.folder.PRODUCTS to write.
        exhaustive: look at all of a slide closely, and not only where the prior sees a white cell.
        compute: device, precision and the like.
    """

    paths: tuple[Path, ...]
    out: Path
    um_per_px: float | None
    write: frozenset[str]
    exhaustive: bool
    compute: ComputeOptions


@dataclass(frozen=True)
class RunSummary:
    """What a run came to.

    Attributes:
        done: slides analysed.
        failed: name and reason of each that could not be.
        differential: of all their cells together.
        seconds: wall time.
    """

    done: tuple[str, ...]
    failed: tuple[tuple[str, str], ...]
    differential: Differential
    seconds: float

    @property
    def exit_code(self) -> ExitCode:
        """Some failures are told to the scheduler."""
        return ExitCode.SOME_FAILED if self.failed else ExitCode.OK

    def to_dict(self) -> dict[str, Any]:
        """What `--json` prints."""
        failed = [{"slide": name, "reason": reason} for name, reason in self.failed]
        return {**asdict(self), "failed": failed, "exit_code": int(self.exit_code)}

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


def find_slides(paths: Sequence[Path], terminal: Terminal) -> Discovery:
    """Find the slides and say what is left out.

    Raises:
        NothingToAnalyseError: there are none.
        UsageError: a path does not exist.
    """
    discovery = discover(paths)
    for path, reason in discovery.skipped:
        terminal.note(f"skipped {path}: {reason}")
    if not discovery.slides:
        named = ", ".join(str(path) for path in paths)
        raise NothingToAnalyseError(f"{named}: no images or slides there; see `wbc-cli analyze --help` for the formats")
    return discovery


def analyze(options: AnalyzeOptions, terminal: Terminal) -> RunSummary:
    """Analyse all slides and write the run folder.

    Raises:
        NothingToAnalyseError, UsageError: nothing to do, or a wrong option.
        MachineError: weights, device or disk.
    """
    began = time.monotonic()
    slides = find_slides(options.paths, terminal).slides
    analyser, model = load_analyser(options.compute)
    analyser = replace(analyser, exhaustive=options.exhaustive)
    folder = RunFolder(options.out)
    sizes = {source.name: _file_size(source.path) for source in slides}
    classes: dict[str, list[str]] = {}
    failed: dict[str, str] = {}
    with analyser.stream, run_progress(terminal, sizes) as progress:
        pool = ThreadPoolExecutor(_slides_at_once(analyser), "slide")
        run = partial(_analyse_one, analyser=analyser, folder=folder, options=options, room=Room(_ROOM))
        begun = {pool.submit(run, source, progress): source for source in slides}
        try:
            for future in as_completed(begun):
                source, outcome = begun[future], future.result()
                if isinstance(outcome, str):
                    failed[source.name] = outcome
                    terminal.note(f"failed {source.path}: {outcome}")
                else:
                    classes[source.name] = outcome
                progress.finish(source.name, 0 if isinstance(outcome, str) else len(outcome))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    seconds = time.monotonic() - began
    folder.finish(_run_record(options, analyser, model.checksum, seconds), [source.name for source in slides])
    differential = count_classes([name for names in classes.values() for name in names])
    return RunSummary(tuple(sorted(classes)), tuple(sorted(failed.items())), differential, seconds)


def _slides_at_once(analyser: Analyser) -> int:
    """Enough that camera fields, with a window or two each, fill a batch for every lane while another is filled."""
    engine = analyser.stream.engine
    return min(2 * engine.batch_size * engine.lanes, _MOST_SLIDES)


def _file_size(path: Path) -> int:
    try:
        return max(1, path.stat().st_size)
    except OSError:
        return 1  # opening it will say what is wrong


def _room(path: Path) -> int:
    """The memory that a slide is taken to need, in bytes: a picture's pixels, or a part of a slide's file."""
    if path.suffix.lower() in _OPENERS:
        return _MOST
    try:
        header = read_header(path)
    except SlideError:
        return min(_file_size(path), _MOST)
    return min(max(3 * header.width * header.height, _file_size(path)), _MOST)


def _analyse_one(
    source: SlideSource,
    progress: RunProgress,
    *,
    analyser: Analyser,
    folder: RunFolder,
    options: AnalyzeOptions,
    room: Room,
) -> list[str] | str:
    """Analyse one slide and commit its products; the classes of its cells, or the reason why it failed.

    Raises:
        MachineError: weights, device or disk.
        CancelledError: the run is being stopped.
    """
    try:
        with room.taken(_room(source.path)), _unless_closed(analyser, source.path) as reader:
            watch = partial(progress.watch, source.name)
            result = analyser.analyse(reader, source.name, options.um_per_px, watch)
            folder.commit(result, reader, options.write)
    except SlideError as error:
        reason = str(error)
    except (MachineError, CancelledError):
        raise
    except Exception as error:
        if analyser.stream.closed:  # not the slide's fault, and what an earlier run found of it stays
            raise CancelledError from error
        log.exception("%s", source.path)
        reason = f"internal error ({type(error).__name__}: {error}); please report it"
    else:
        return [cell.class_name for cell in result.cells]
    folder.record_failure(source.name, source.path, reason)
    return reason


def _unless_closed(analyser: Analyser, path: Path) -> closing[SlideReader]:
    if analyser.stream.closed:
        raise CancelledError
    return closing(open_slide(path))


def _run_record(options: AnalyzeOptions, analyser: Analyser, checksum: str, seconds: float) -> dict[str, Any]:
    engine = analyser.stream.engine
    compute = asdict(options.compute) | {"weights": str(options.compute.weights or "shipped")}
    return {
        "tool": "wbc-cli",
        "version": wbc_cli.__version__,
        "weights_sha256": checksum,
        "options": {
            "paths": [str(path) for path in options.paths],
            "um_per_px": options.um_per_px,
            "write": sorted(options.write),
            "exhaustive": options.exhaustive,
            **compute,
        },
        "used": {
            "device": str(engine.device),
            "precision": str(engine.dtype).removeprefix("torch."),
            "batch_size": engine.batch_size,
            "workers": analyser.stream.workers,
            "min_confidence": analyser.min_confidence,
            "torch": torch.__version__,
        },
        "seconds": round(seconds, 2),
    }
