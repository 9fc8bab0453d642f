"""Keeps a worker at work: hears its events, stops it when asked, and outlives it when it crashes or hangs."""

from __future__ import annotations

import json
import logging
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from typing import IO

from wbc_cli import errors
from wbc_cli.errors import SetupError
from wbc_cli.run.job import NO_MORE, STOP, Event, Job, Order
from wbc_cli.run.stopping import Stop

log = logging.getLogger(__name__)

_TICK_SECONDS = 0.25
_MAX_STOP_SECONDS = 7.0  # until a worker that does not stop is killed
_AHEAD = 512  # orders that a worker has; it does up to 128 slides at once
_MIN_SILENCE_SECONDS = 10.0  # without a word from the worker that a busy machine may take at any time limit


@dataclass
class _Worker:
    """One worker process and what it has told.

    Attributes:
        in_hand: slides that are begun, and neither done nor failed.
        measured: pictures that are being measured for their acquisition, for which slides in hand wait.
        finished: slides that are done or failed.
        hung: slides that are stuck, for which it was killed.
        silent: it was killed since it said nothing any more, so that nobody knows which slide it was.
    """

    process: subprocess.Popen[bytes]
    in_hand: set[str] = field(default_factory=set)
    measured: set[str] = field(default_factory=set)
    finished: set[str] = field(default_factory=set)
    hung: tuple[str, ...] = ()
    silent: bool = False

    @property
    def crash(self) -> str | None:
        """The signal or exit code with which the worker ended, None if it ended as it should; waits for the end."""
        code = self.process.wait()
        if code == 0:
            return None
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


@dataclass(frozen=True)
class Supervisor:
    """Runs a job in worker processes.

    Attributes:
        stop: a signal that came, if one did.
        time_limit: seconds without progress after which a slide counts as hung, and a worker that says nothing, too.
        inherited: file descriptors that the workers share, such as the lock's.
        on_event: is told every event.
        on_failure: is told that a slide failed which could not say so itself: its name and the reason.
    """

    stop: Stop
    time_limit: float
    inherited: Sequence[int]
    on_event: Callable[[Event], None]
    on_failure: Callable[[str, str], None]

    def run(self, job: Job, names: Iterable[str], order_of: Callable[[str], Order]) -> None:
        """Have all slides of a job done, by as many workers as it takes.

        A worker has so many orders at a time that it never waits for one, and no more: of very many slides it knows
        only a few.

        After a crash the slides that were in hand are done again, one at a time, until it is known which of them it
        was; that one fails, and the others go on. A slide that hangs is known at once, but where nothing moves at all.

        Args:
            job: what they have in common.
            names: of the slides.
            order_of: gives the order for a slide.

        Raises:
            SetupError, UsageError: what the worker could not help, or it does not even start.
        """
        left, suspects = dict.fromkeys(names), dict[str, None]()
        unmeasurable = set(job.unmeasurable)
        while (left or suspects) and not self.stop:
            alone = bool(suspects)
            orders = (order_of(name).to_line() for name in list(suspects or left))
            now = replace(job, unmeasurable=sorted(unmeasurable), alone=alone)
            worker = self._follow(chain([now.to_line()], orders, [NO_MORE]))
            for slides in (left, suspects):
                for name in worker.finished & slides.keys():
                    del slides[name]
            crash = worker.crash
            if self.stop or (crash is None and not worker.hung):
                continue
            # Of one slide alone that waits for a picture to be measured, it is the picture.
            doing = worker.measured if alone and worker.measured else worker.in_hand | worker.measured
            culprits = worker.hung or (tuple(doing) if len(doing) == 1 else ())
            for name in culprits:
                unmeasurable.add(name)
                if name in left:  # what is done, or another shard's, does not fail by it
                    del left[name]
                    self._fail(name, None if worker.hung or worker.silent else crash)
                suspects.pop(name, None)
            if culprits:
                continue
            what = f"said nothing for {self._max_silence_seconds:.0f} s" if worker.silent else f"ended ({crash})"
            if worker.in_hand:
                log.warning("the worker %s; its slides are done again, one at a time", what)
                suspects = dict.fromkeys(sorted(doing & left.keys()))
            elif worker.finished:
                log.warning("the worker %s between two slides", what)
            else:
                raise SetupError(f"the worker ended with {crash} before it began; run `wbc-cli doctor`")

    @property
    def _max_silence_seconds(self) -> float:
        return max(self.time_limit, _MIN_SILENCE_SECONDS)

    def _fail(self, name: str, crash: str | None) -> None:
        if crash is None:
            reason = f"no progress for {self.time_limit:.0f} s; look at the file, or allow more with --time-limit"
        else:
            cause = "memory may have run out" if crash == "signal SIGKILL" else "the file may be damaged"
            reason = f"reading or analysing it crashed the process ({crash}); {cause}"
        self.on_failure(name, reason)

    def _follow(self, orders: Iterator[str]) -> _Worker:
        """Start a worker and hear it to its end.

        Args:
            orders: what it is told, line by line: the job first.

        Raises:
            SetupError, UsageError: as the worker says.
        """
        # A fresh interpreter and not a fork: threads and what the libraries hold do not survive one.
        # -P: a file json.py in the folder that we were started in is not Python's own.
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "wbc_cli.run.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=self.inherited,
            process_group=0,  # Ctrl-C is for the supervisor, who passes it on in words
        )
        assert process.stdin is not None
        assert process.stdout is not None
        worker = _Worker(process)
        failure: Event | None = None
        try:
            _tell(process.stdin, "".join(islice(orders, _AHEAD)))
            for event in self._events(worker, process.stdin, process.stdout):
                match event["event"]:
                    case "begun":
                        worker.in_hand.add(event["slide"])
                    case "measuring":
                        worker.measured.add(event["slide"])
                    case "measured":
                        worker.measured.discard(event["slide"])
                    case "done" | "failed" | "kept":
                        worker.in_hand.discard(event["slide"])
                        worker.finished.add(event["slide"])
                        _tell(process.stdin, next(orders, ""))
                    case "hung":
                        worker.hung = tuple(event["slides"])
                        break
                    case "error":
                        failure = event
                self.on_event(event)
        finally:
            process.kill()  # where it has ended of itself, this does nothing
            process.wait()
            process.stdin.close()
            process.stdout.close()
        if failure:
            raise getattr(errors, failure["kind"])(failure["message"])
        return worker

    def _events(self, worker: _Worker, orders: IO[bytes], events: IO[bytes]) -> Iterator[Event]:
        """Yield what the worker says, until it ends or has to be ended."""
        told: float | None = None
        heard = time.monotonic()
        rest = b""
        with selectors.DefaultSelector() as selector:
            selector.register(events, selectors.EVENT_READ)
            while True:
                if selector.select(_TICK_SECONDS):
                    part = os.read(events.fileno(), 1 << 16)
                    if not part:
                        worker.process.wait()
                        return
                    heard = time.monotonic()
                    *lines, rest = (rest + part).split(b"\n")
                    yield from map(json.loads, lines)
                now = time.monotonic()
                if self.stop and told is None:
                    told = now
                    _tell(orders, STOP)
                if told is not None and now - told > _MAX_STOP_SECONDS:
                    return
                if worker.in_hand and now - heard > self._max_silence_seconds:
                    worker.silent = True
                    return


def _tell(orders: IO[bytes], line: str) -> None:
    try:
        orders.write(line.encode())
        orders.flush()
    except BrokenPipeError:
        log.debug("the worker is gone")  # which reading from it will tell as well
