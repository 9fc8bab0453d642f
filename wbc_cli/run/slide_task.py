"""One slide's way through a worker: its files are read, its cells found, its products committed."""

from __future__ import annotations

import threading
import time
from concurrent.futures import CancelledError
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wbc_cli.acquisition.file import provenance_of
from wbc_cli.acquisition.grouping import key_of
from wbc_cli.acquisition.light import even
from wbc_cli.errors import SlideError
from wbc_cli.products.folder import RunFolder
from wbc_cli.products.tables import SlideRecord
from wbc_cli.resources.heartbeat import Heartbeat, Heartbeats
from wbc_cli.resources.parallel import WeightedSemaphore
from wbc_cli.run.acquisitions import AcquisitionFinder
from wbc_cli.run.fingerprint import Fingerprint, input_content, input_stamp
from wbc_cli.run.isolation import isolated
from wbc_cli.run.job import Emit, Event, Job, Order
from wbc_cli.run.lazy_analyser import LazyAnalyser
from wbc_cli.run.watched import WatchedReader
from wbc_cli.slides import open_slide
from wbc_cli.slides.discover import file_size
from wbc_cli.slides.fault_tolerant import is_slide
from wbc_cli.slides.formats import named_format
from wbc_cli.slides.header import read_header
from wbc_cli.slides.reader import SlideReader

MAX_OPEN_BYTES = 512 << 20
"""The most bytes of pixels or files that are open at a time: hundreds of camera fields, or two whole slides."""

_MAX_SLIDE_BYTES = MAX_OPEN_BYTES // 2  # what any file is taken for at most; a slide's memory does not grow with it
_WATCH_SECONDS = 0.5  # from one word on a slide's progress to the next


@dataclass(frozen=True, eq=False)
class SlideTask:
    """Does one slide after another, on many threads.

    Attributes:
        job: what to do.
        network: loaded only if a slide needs it.
        acquisitions: what pictures share; measured only if one is analysed.
        folder: where the products go.
        memory: for what is open at a time, of MAX_OPEN_BYTES.
        heartbeats: of what is worked on.
        emit: is told what happens.
    """

    job: Job
    network: LazyAnalyser
    acquisitions: AcquisitionFinder
    folder: RunFolder
    memory: WeightedSemaphore
    heartbeats: Heartbeats
    emit: Emit
    contents: dict[tuple[Path, str], str] = field(default_factory=dict)
    reading: threading.Lock = field(default_factory=threading.Lock)

    def tell_heartbeats(self) -> None:
        """Tell which slides hang; where none does, that the process gets on, if one of its threads does."""
        silences = self.heartbeats.silences()
        hung = [name for name, silence in silences.items() if silence > self.job.time_limit]
        if hung:
            self.emit({"event": "hung", "slides": hung})
        elif silences:
            self.emit({"event": "beat"})

    def run(self, order: Order) -> None:
        """Analyse a slide, or take what is kept of its analysis, and commit its products, or the reason why it failed.

        Raises:
            SetupError: weights, device or disk.
            CancelledError: the work is being stopped.
        """
        name, path = order.name, order.paths[0]
        provenance: dict[str, Any] = {"source": str(path.absolute()), "model": self.job.model}
        provenance |= {"used": self.network.runtime, "sample": order.sample, "sample_um_per_px": order.um_per_px}
        with self.heartbeats.working(name) as heartbeat, isolated(path, self.network) as outcome:
            with ExitStack() as held:
                room = room_of(path, order.field)
                with heartbeat.waiting():
                    held.enter_context(self.memory.acquire(room))
                if self.network.closed:
                    raise CancelledError
                self.emit({"event": "begun", "slide": name})
                # Before anything else is read: what is written to a file from now on makes it another one.
                provenance["input"] = self._input(order, heartbeat)
                event = self._do(order, provenance, heartbeat)
            self.emit(event)
        if outcome.failure is None:
            return
        if provenance["used"] is None:
            del provenance["used"]
        self.folder.record_failure(name, path, outcome.failure, provenance)
        self.emit({"event": "failed", "slide": name, "reason": outcome.failure})

    def _do(self, order: Order, provenance: dict[str, Any], heartbeat: Heartbeat) -> Event:
        """Do what is to be done of a slide, and say what that was."""
        path, kept = order.paths[0], {"event": "kept", "slide": order.name}
        record = self._standing(order, provenance["input"])
        changed = {key: provenance[key] for key in ("source", "input", "sample")}
        if record and set(record["write"]) == set(self.job.write):
            self.folder.confirm(record, path, changed)
            return kept
        with closing(open_slide(path, order.field)) as opened:
            reader = WatchedReader(opened, heartbeat)
            if record and self.folder.change_products(record, reader, self.job.write, changed, heartbeat.beat):
                return kept
            cells = self._analyse(reader, order, provenance, heartbeat)
        return {"event": "done", "slide": order.name, "cells": cells}

    def _input(self, order: Order, heartbeat: Heartbeat) -> Fingerprint:
        """Return the fingerprints of a slide's files; where these hold many fields, they are read once for all."""
        files = order.paths
        stamp = input_stamp(files)
        if order.known and order.known["stamp"] == stamp:
            return order.known
        if order.field is None:
            return {"stamp": stamp, "content": input_content(files, heartbeat.beat)}
        with ExitStack() as held:
            with heartbeat.waiting():
                held.enter_context(self.reading)
            key = files[0], stamp
            if key not in self.contents:
                self.contents[key] = input_content(files, heartbeat.beat)
            return {"stamp": stamp, "content": self.contents[key]}

    def _standing(self, order: Order, own: Fingerprint) -> SlideRecord | None:
        """Return the record of a slide whose analysis is of just these files, at most touched or copied since."""
        stands = order.known and order.known["content"] == own["content"]
        return self.folder.record(order.name) if stands else None

    def _analyse(self, reader: SlideReader, order: Order, provenance: dict[str, Any], heartbeat: Heartbeat) -> int:
        said = 0.0

        def watch(done: int, planned: int, cells: int) -> None:
            nonlocal said
            if time.monotonic() - said > _WATCH_SECONDS:
                said = time.monotonic()
                self.emit({"event": "watch", "slide": order.name, "done": done, "planned": planned, "cells": cells})

        with heartbeat.waiting():
            analyser = self.network.get()
        provenance["used"] = self.network.runtime
        key = None if is_slide(reader) else key_of(reader.path, order.field)
        found = self.acquisitions.find(key, heartbeat) if key else None
        acquisition = found.as_part_of(order.sample) if found else None
        provenance["acquisition"] = provenance_of(key, acquisition)
        pooled = [shared.scale for shared in acquisition.scales] if acquisition else []
        evened = even(reader, acquisition.light if acquisition else None)
        um_per_px = self.job.stated_scale(order.um_per_px)
        population = acquisition.population if acquisition else None
        result = analyser.analyse(evened, order.name, um_per_px, watch, heartbeat, pooled, population)
        self.folder.commit(result, reader, self.job.write, provenance, heartbeat.beat)
        return len(result.cells)


def room_of(path: Path, field: int | None) -> int:
    """Estimate the memory that a slide needs, in bytes: a picture's pixels, or a part of a slide's file.

    Args:
        path: the file that opens it.
        field: which of the file's fields it is, from 0; None where it has one.
    """
    own = named_format(path)
    if own and own.companions:  # a small file may stand for large ones
        return _MAX_SLIDE_BYTES
    size = file_size(path)
    try:
        header = read_header(path)
    except SlideError:
        return min(size, _MAX_SLIDE_BYTES)
    width, height = header.width, header.height
    if header.kind == "tiff" and (key := key_of(path, field)):  # a picture, however small its file is by compression
        width, height = key.width, key.height
    return min(max(3 * width * height, size), _MAX_SLIDE_BYTES)
