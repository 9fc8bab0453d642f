"""The process that does the work: it reads files that nobody vouches for, so it may die without harm to the run.

It is told what to do by one line of JSON on standard input, and answers with a line for every event on standard
output. When standard input ends, its supervisor is dead and it goes, too.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from wbc_cli.acquisition.file import Acquisition, made_with
from wbc_cli.acquisition.grouping import key_of
from wbc_cli.acquisition.light import even
from wbc_cli.console import Terminal, secure_streams
from wbc_cli.errors import ExitCode, SlideError, WbcError
from wbc_cli.heartbeat import Heartbeat
from wbc_cli.inference.pipeline import Analyser
from wbc_cli.loading import ComputeOptions, load_analyser
from wbc_cli.parallel import Room
from wbc_cli.products.folder import RunFolder
from wbc_cli.run.acquisitions import AcquisitionFinder
from wbc_cli.run.fingerprint import input_content, input_stamp
from wbc_cli.run.job import STOP, Job
from wbc_cli.run.stopping import STOP_SIGNALS
from wbc_cli.run.watched import WatchedReader
from wbc_cli.slides import open_slide
from wbc_cli.slides.discover import file_size
from wbc_cli.slides.header import read_header
from wbc_cli.slides.patchy import is_slide
from wbc_cli.slides.reader import SlideReader

log = logging.getLogger(__name__)

_ROOM = 512 << 20  # bytes of pixels or files that are open at a time: hundreds of camera fields, or two whole slides
_MOST_SLIDES = 128
_MOST = _ROOM // 2  # what any file is taken for at most; a slide's memory does not grow with it
_OPENERS = frozenset({".mrxs", ".vms", ".vmu", ".dcm"})  # small files that stand for large ones
_TICK = 0.25  # seconds
_GRACE = 3.0  # seconds in which a slide in hand may still come to its end
_WATCH = 0.5  # seconds from one word on a slide's progress to the next

Emit = Callable[[Mapping[str, Any]], None]
Heartbeats = dict[tuple[str, str], Heartbeat]
"""By the slide's name, and by whether it is analysed or measured."""


def main() -> None:
    """Do one job."""
    secure_streams()
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # the supervisor hears them, and says what to do
    events = os.fdopen(os.dup(1), "w", encoding="ascii", buffering=1)
    os.dup2(2, 1)  # what libraries print is no event
    lock = threading.Lock()

    def emit(event: Mapping[str, Any]) -> None:
        try:
            with lock:
                events.write(json.dumps(event) + "\n")
        except BrokenPipeError:
            os._exit(ExitCode.BUG)  # the supervisor is dead; nothing that happens now may be put into the folder

    job = Job.from_line(sys.stdin.readline())
    Terminal().log_to(job.log_level)
    stop = threading.Event()
    threading.Thread(target=_obey, args=(stop,), daemon=True).start()
    try:
        work(job, emit, stop)
    except WbcError as error:
        emit({"event": "error", "kind": type(error).__name__, "message": str(error)})
    finally:
        bug = sys.exc_info()[0] is not None
        if bug:
            traceback.print_exc()
        # Not by the usual way out, which would wait for threads that a hung decoder holds.
        sys.stderr.flush()
        os._exit(ExitCode.BUG if bug else ExitCode.OK)


def _obey(stop: threading.Event) -> None:
    for line in sys.stdin:
        if line == STOP:
            stop.set()
    os._exit(1)


def work(job: Job, emit: Emit, stop: threading.Event) -> None:
    """Analyse the slides of a job and commit each.

    Args:
        job: what to do.
        emit: is told what happens: ready, begun, measuring, measured, beat, watch, kept, done, failed, hung.
        stop: set from outside; no further slide is begun then, and those in hand are dropped after a moment.

    Raises:
        MachineError, UsageError: weights, device, disk or options.
    """
    analyser, _ = load_analyser(ComputeOptions.from_dict(job.compute))
    analyser = replace(analyser, exhaustive=job.exhaustive)
    used = _used_by(analyser)
    emit({"event": "ready", "used": used})
    heartbeats: Heartbeats = {}
    watch, estimator = partial(_measuring, heartbeats, emit), analyser.stream.engine.network.scale
    acquisitions = AcquisitionFinder(Path(job.out), job.pictures, job.spoilt, estimator, watch)
    folder = RunFolder(Path(job.out), Path(job.scratch))
    one = _One(job, analyser, folder, Room(_ROOM), used, emit, heartbeats, acquisitions)
    with analyser.stream:
        at_once = 1 if job.alone else _slides_at_once(analyser)
        pool = ThreadPoolExecutor(at_once, "slide")
        try:
            _see_through(pool, one, 2 * at_once, stop)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _see_through(pool: ThreadPoolExecutor, one: _One, ahead: int, stop: threading.Event) -> None:
    """Have a job's slides done; no more than `ahead` are in the pool at a time, as each wait looks at all of them."""
    left = iter(one.job.slides.items())
    waiting: set[Future[None]] = set()
    dropped_at: float | None = None
    while True:
        if dropped_at is None:
            for name, files in islice(left, ahead - len(waiting)):
                waiting.add(pool.submit(one.analyse, name, [Path(file) for file in files]))
        if not waiting:
            return
        one.tell_heartbeats()
        done, waiting = wait(waiting, timeout=_TICK, return_when=FIRST_COMPLETED)
        for future in done:
            if not future.cancelled():
                future.result()
        if stop.is_set() and dropped_at is None:
            dropped_at = time.monotonic() + _GRACE
            waiting = {future for future in waiting if not future.cancel()}
        if dropped_at is not None and time.monotonic() > dropped_at:
            return


def _used_by(analyser: Analyser) -> dict[str, Any]:
    """What the analysis turned out to run on."""
    engine = analyser.stream.engine
    return {
        "device": str(engine.device),
        "precision": str(engine.dtype).removeprefix("torch."),
        "batch_size": engine.batch_size,
        "workers": analyser.stream.workers,
        "min_confidence": analyser.min_confidence,
        "torch": torch.__version__,
    }


@contextmanager
def _measuring(heartbeats: Heartbeats, emit: Emit, name: str) -> Iterator[Heartbeat]:
    """A picture is measured for its acquisition."""
    heartbeat = heartbeats[name, "measured"] = Heartbeat()
    emit({"event": "measuring", "slide": name})
    try:
        with heartbeat.working():
            yield heartbeat
    finally:
        del heartbeats[name, "measured"]
        emit({"event": "measured", "slide": name})


@dataclass(frozen=True, eq=False)
class _One:
    """Analyses one slide after another, on many threads."""

    job: Job
    analyser: Analyser
    folder: RunFolder
    room: Room
    used: dict[str, Any]
    emit: Emit
    heartbeats: Heartbeats
    acquisitions: AcquisitionFinder
    contents: dict[tuple[Path, str], str] = field(default_factory=dict)
    reading: threading.Lock = field(default_factory=threading.Lock)

    def tell_heartbeats(self) -> None:
        """Tell which slides hang; where none does, that the process gets on, if one of its threads does."""
        silences = {name: heartbeat.silence() for (name, _), heartbeat in self.heartbeats.copy().items()}
        working = {name: silence for name, silence in silences.items() if silence is not None}
        hung = [name for name, silence in working.items() if silence > self.job.time_limit]
        if hung:
            self.emit({"event": "hung", "slides": hung})
        elif working:
            self.emit({"event": "beat"})

    def analyse(self, name: str, files: list[Path]) -> None:
        """Analyse a slide and commit its products, or the reason why it failed.

        Raises:
            MachineError: weights, device or disk.
            CancelledError: the work is being stopped.
        """
        stream, path = self.analyser.stream, files[0]
        made: dict[str, Any] = {"source": str(path.absolute()), "model": self.job.model, "used": self.used}
        made |= {"sample": self.job.samples.get(name), "mpp": self.job.scales.get(name)}
        heartbeat = self.heartbeats[name, "analysed"] = Heartbeat()
        try:
            with heartbeat.working(), ExitStack() as held:
                room = _room(path)
                with heartbeat.waiting():
                    held.enter_context(self.room.taken(room))
                if stream.closed:
                    raise CancelledError
                self.emit({"event": "begun", "slide": name})
                # Before anything else is read: what is written to a file from now on makes it another one.
                made["input"] = self._input(name, files, heartbeat)
                if self._stands(name, path, made):
                    self.emit({"event": "kept", "slide": name})
                    return
                number = self.job.fields.get(name)
                with closing(open_slide(path, number)) as reader:
                    key = None if is_slide(reader) else key_of(path, number)
                    acquisition = None if key is None else self.acquisitions.find(key, heartbeat)
                    made["acquisition"] = made_with(key, acquisition)
                    cells = self._commit(WatchedReader(reader, heartbeat), name, made, heartbeat, acquisition)
        except SlideError as error:
            reason = str(error)
        except (WbcError, CancelledError):
            raise
        except Exception as error:
            if stream.closed:  # not the slide's fault, and what an earlier run found of it stays
                raise CancelledError from error
            log.exception("%s", path)
            reason = f"internal error ({type(error).__name__}: {error}); please report it"
        else:
            self.emit({"event": "done", "slide": name, "cells": cells})
            return
        finally:
            del self.heartbeats[name, "analysed"]
        self.folder.record_failure(name, path, reason, made)
        self.emit({"event": "failed", "slide": name, "reason": reason})

    def _input(self, name: str, files: list[Path], heartbeat: Heartbeat) -> dict[str, str]:
        """The fingerprints of a slide's files; where these hold many fields, they are read once for all."""
        stamp = input_stamp(files)
        if name not in self.job.fields:
            return {"stamp": stamp, "content": input_content(files, heartbeat.beat)}
        with ExitStack() as held:
            with heartbeat.waiting():
                held.enter_context(self.reading)
            key = files[0], stamp
            if key not in self.contents:
                self.contents[key] = input_content(files, heartbeat.beat)
            return {"stamp": stamp, "content": self.contents[key]}

    def _stands(self, name: str, path: Path, made: Mapping[str, Any]) -> bool:
        """Whether the results that there are are of just these files, which then have been touched or copied only."""
        record = self.folder.record(name) if self.job.known.get(name) == made["input"]["content"] else None
        if record is None:
            return False
        self.folder.confirm(record, path, {key: made[key] for key in ("source", "input", "sample")})
        return True

    def _commit(
        self,
        reader: SlideReader,
        name: str,
        made: Mapping[str, Any],
        heartbeat: Heartbeat,
        acquisition: Acquisition | None,
    ) -> int:
        said = 0.0

        def watch(done: int, planned: int, cells: int) -> None:
            nonlocal said
            if time.monotonic() - said > _WATCH:
                said = time.monotonic()
                self.emit({"event": "watch", "slide": name, "done": done, "planned": planned, "cells": cells})

        um_per_px = self.job.scales.get(name, self.job.um_per_px)
        pooled = [shared.scale for shared in acquisition.scales] if acquisition else []
        seen = even(reader, acquisition.light if acquisition else None)
        result = self.analyser.analyse(seen, name, um_per_px, watch, heartbeat, pooled)
        self.folder.commit(result, reader, frozenset(self.job.write), made, heartbeat.beat)
        return len(result.cells)


def _slides_at_once(analyser: Analyser) -> int:
    """Enough that camera fields, with a window or two each, fill a batch for every lane while another is filled."""
    engine = analyser.stream.engine
    return min(2 * engine.batch_size * engine.lanes, _MOST_SLIDES)


def _room(path: Path) -> int:
    """The memory that a slide is taken to need, in bytes: a picture's pixels, or a part of a slide's file."""
    if path.suffix.lower() in _OPENERS:
        return _MOST
    size = file_size(path)
    try:
        header = read_header(path)
    except SlideError:
        return min(size, _MOST)
    return min(max(3 * header.width * header.height, size), _MOST)


if __name__ == "__main__":
    main()
