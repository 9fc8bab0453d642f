"""`wbc-cli analyze`: every slide in its turn, each by itself, and what came of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
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
from wbc_cli.products.folder import RunFolder
from wbc_cli.slides import open_slide
from wbc_cli.slides.discover import Discovery, SlideSource, discover

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AnalyzeOptions:
    """What to analyse and what to write.

    Attributes:
        paths: files, folders and lists.
        out: the run folder.
        um_per_px: overrides or supplies the files' scale.
        write: which of products.folder.PRODUCTS to write.
        compute: device, precision and the like.
    """

    paths: tuple[Path, ...]
    out: Path
    um_per_px: float | None
    write: frozenset[str]
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
    folder = RunFolder(options.out)
    done: list[str] = []
    failed: list[tuple[str, str]] = []
    classes: list[str] = []
    with terminal.progress("slides") as advance:
        for number, source in enumerate(slides, start=1):
            outcome = _analyse_one(source, analyser, folder, options)
            if isinstance(outcome, str):
                failed.append((source.name, outcome))
                terminal.note(f"failed {source.path}: {outcome}")
            else:
                done.append(source.name)
                classes += outcome
            advance(number, len(slides), source.name)
    seconds = time.monotonic() - began
    folder.finish(_run_record(options, analyser, model.checksum, seconds), [source.name for source in slides])
    return RunSummary(tuple(done), tuple(failed), count_classes(classes), seconds)


def _analyse_one(
    source: SlideSource, analyser: Analyser, folder: RunFolder, options: AnalyzeOptions
) -> list[str] | str:
    """Analyse one slide and commit its products; the classes of its cells, or the reason why it failed."""
    try:
        reader = open_slide(source.path)
        try:
            result = analyser.analyse(reader, source.name, options.um_per_px)
            folder.commit(result, reader, options.write)
        finally:
            reader.close()
    except SlideError as error:
        reason = str(error)
    except MachineError:
        raise
    except Exception as error:
        log.exception("%s", source.path)
        reason = f"internal error ({type(error).__name__}: {error}); please report it"
    else:
        return [cell.class_name for cell in result.cells]
    folder.record_failure(source.name, source.path, reason)
    return reason


def _run_record(options: AnalyzeOptions, analyser: Analyser, checksum: str, seconds: float) -> dict[str, Any]:
    engine = analyser.engine
    compute = asdict(options.compute) | {"weights": str(options.compute.weights or "shipped")}
    return {
        "tool": "wbc-cli",
        "version": wbc_cli.__version__,
        "weights_sha256": checksum,
        "options": {
            "paths": [str(path) for path in options.paths],
            "um_per_px": options.um_per_px,
            "write": sorted(options.write),
            **compute,
        },
        "used": {
            "device": str(engine.device),
            "precision": str(engine.dtype).removeprefix("torch."),
            "batch_size": engine.batch_size,
            "workers": analyser.workers,
            "min_confidence": analyser.min_confidence,
            "torch": torch.__version__,
        },
        "seconds": round(seconds, 2),
    }
