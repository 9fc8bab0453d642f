"""The process that does the work: it reads files that nobody vouches for, so it may die without harm to the run.

It is told what to do by lines of JSON on standard input, the job and then an order for each slide, and answers with a
line for every event on standard output. When standard input ends, its supervisor is dead and it goes, too.
"""

from __future__ import annotations

import gc
import json
import math
import os
import signal
import sys
import threading
import time
import traceback
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import closing
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from wbc_cli.errors import ExitCode, WbcError
from wbc_cli.products.folder import RunFolder
from wbc_cli.resources.cores import available_cores
from wbc_cli.resources.heartbeat import Heartbeats
from wbc_cli.resources.parallel import WeightedSemaphore
from wbc_cli.run.acquisitions import AcquisitionFinder
from wbc_cli.run.job import NO_MORE, STOP, UNMEASURABLE, Emit, Event, Job, Order
from wbc_cli.run.lazy_analyser import LazyAnalyser
from wbc_cli.run.slide_task import MAX_OPEN_BYTES, SlideTask
from wbc_cli.run.stopping import STOP_SIGNALS
from wbc_cli.terminal.console import Terminal, secure_streams

_MAX_SLIDES = 128
_TICK_SECONDS = 0.25
_GRACE_SECONDS = 3.0  # in which a slide in hand may still come to its end

Orders = SimpleQueue[Order | None]
"""Slides to do, as they come; None after the last."""


def main() -> None:
    """Do one job."""
    gc.freeze()  # what has been imported stays, and no collection has to look at it
    gc.enable()
    secure_streams()
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # the supervisor hears them, and says what to do
    events = os.fdopen(os.dup(1), "w", encoding="ascii", buffering=1)
    os.dup2(2, 1)  # what libraries print is no event
    lock = threading.Lock()

    def emit(event: Event) -> None:
        try:
            with lock:
                events.write(json.dumps(event) + "\n")
        except BrokenPipeError:
            os._exit(ExitCode.BUG)  # the supervisor is dead; nothing that happens now may be put into the folder

    job = Job.from_line(sys.stdin.readline())
    Terminal().log_to(job.log_level)
    stop, orders = threading.Event(), Orders()
    threading.Thread(target=_obey, args=(job, stop, orders), daemon=True).start()
    try:
        work(job, orders, emit, stop)
    except WbcError as error:
        emit({"event": "error", "kind": type(error).__name__, "message": str(error)})
    finally:
        bug = sys.exc_info()[0] is not None
        if bug:
            traceback.print_exc()
        # Not by the usual way out, which would wait for threads that a hung decoder holds.
        sys.stderr.flush()
        os._exit(ExitCode.BUG if bug else ExitCode.OK)


def _obey(job: Job, stop: threading.Event, orders: Orders) -> None:
    for line in sys.stdin:
        if line == STOP:
            stop.set()
        elif line.startswith(UNMEASURABLE):
            job.unmeasurable.append(json.loads(line.removeprefix(UNMEASURABLE)))
        else:
            orders.put(None if line == NO_MORE else Order.from_line(line))
    os._exit(1)


def work(job: Job, orders: Orders, emit: Emit, stop: threading.Event) -> None:
    """Do the slides of a job and commit each.

    Args:
        job: what to do.
        orders: the slides, as they come, and None after the last.
        emit: is told what happens: ready, begun, measuring, measured, beat, watch, kept, done, failed, hung.
        stop: set from outside; no further slide is begun then, and those in hand are dropped after a moment.

    Raises:
        SetupError, UsageError: weights, device, disk or options.
    """

    def on_load(runtime: dict[str, Any], processes: int) -> None:
        emit({"event": "ready", "runtime": runtime, "processes": processes})

    with closing(LazyAnalyser(job, on_load)) as network:
        at_once = 1 if job.alone else _slides_at_once(job, network)
        heartbeats = Heartbeats()
        acquisitions = AcquisitionFinder(job, network, heartbeats, emit)
        folder, memory = RunFolder(Path(job.out), Path(job.scratch)), WeightedSemaphore(MAX_OPEN_BYTES)
        task = SlideTask(job, network, acquisitions, folder, memory, heartbeats, emit)
        pool = ThreadPoolExecutor(at_once, "slide")
        try:
            _run_all(pool, task, orders, at_once, stop)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _run_all(pool: ThreadPoolExecutor, task: SlideTask, orders: Orders, at_once: int, stop: threading.Event) -> None:
    """Have slides done, by threads each of which takes an order as soon as it has done the one before."""

    def take() -> None:
        while (order := orders.get()) and not stop.is_set():
            task.run(order)
        orders.put(None)  # for the next thread

    waiting = {pool.submit(take) for _ in range(at_once)}
    dropped_at = math.inf
    while waiting and time.monotonic() < dropped_at:
        task.tell_heartbeats()
        done, waiting = wait(waiting, timeout=_TICK_SECONDS, return_when=FIRST_EXCEPTION)
        for future in done:
            future.result()
        if stop.is_set() and dropped_at == math.inf:
            dropped_at = time.monotonic() + _GRACE_SECONDS
            orders.put(None)


def _slides_at_once(job: Job, network: LazyAnalyser) -> int:
    """Count the slides to do at once.

    They are enough that camera fields, with a window or two each, fill a batch for every lane while another is filled.

    Where all slides may be analysed already a core each will do, and the network is not loaded.
    """
    if not job.unknown:
        return available_cores()
    engine = network.get().stream.engine
    return min(2 * engine.batch_size * engine.lanes, _MAX_SLIDES)
