"""Keeps workers at work: hears their events, stops them when asked, and outlives those that crash or hang."""

from __future__ import annotations

import logging
import selectors
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from wbc_cli import errors
from wbc_cli.errors import SetupError
from wbc_cli.resources.shared_locks import shared_locks
from wbc_cli.run.backlog import Backlog
from wbc_cli.run.job import Event, Job, Order
from wbc_cli.run.stopping import Stop
from wbc_cli.run.worker_process import WorkerProcess

log = logging.getLogger(__name__)

_TICK_SECONDS = 0.25
_MAX_STOP_SECONDS = 7.0  # until a worker that does not stop is killed
_AHEAD = 1  # orders beyond the slides in hand: what waits with one worker, no other can do
_MIN_SILENCE_SECONDS = 10.0  # without a word from a worker that a busy machine may take at any time limit


class Supervisor:
    """Has the slides of a job done by worker processes, as many as it takes.

    A worker has one order more than it can begin, so that it never waits for one, and of very many slides knows only a
    few. How many work side by side is for the first one to say, where the job does not.

    After a crash the slides that were in that worker's hand are done again, one at a time, until it is known which of
    them it was; that one fails, and the others go on, as other workers do meanwhile. A slide that hangs is known at
    once, but where nothing moves in the process at all.
    """

    def __init__(
        self,
        job: Job,
        names: Iterable[str],
        order_of: Callable[[str], Order],
        stop: Stop,
        inherited: Sequence[int],
        on_event: Callable[[Event], None],
        on_failure: Callable[[str, str], None],
    ) -> None:
        """Start nothing yet.

        Args:
            job: what the slides have in common.
            names: of the slides.
            order_of: gives the order for a slide.
            stop: a signal that came, if one did.
            inherited: file descriptors that the workers share, such as the lock's.
            on_event: is told every event.
            on_failure: is told that a slide failed which could not say so itself: its name and the reason.
        """
        self._job, self._order_of, self._stop, self._inherited = job, order_of, stop, inherited
        self._on_event, self._on_failure = on_event, on_failure
        self._processes, self._unmeasurable = job.processes, set(job.unmeasurable)
        self._backlog, self._workers = Backlog(names), list[WorkerProcess]()

    def run(self) -> None:
        """Have the slides done.

        Raises:
            SetupError, UsageError: what the workers could not help, or they do not even start.
        """
        with shared_locks() as locks, selectors.DefaultSelector() as selector:
            self._job, self._inherited = replace(self._job, locks=locks), (*self._inherited, locks)
            try:
                while self._start(selector):
                    ended = [key.data for key, _ in selector.select(_TICK_SECONDS) if not self._hear(key.data)]
                    ended += [worker for worker in self._workers if worker not in ended and self._is_over(worker)]
                    for worker in ended:
                        selector.unregister(worker)
                        self._workers.remove(worker)
                        self._conclude(worker)
            finally:
                for worker in self._workers:
                    worker.end()

    @property
    def _max_silence_seconds(self) -> float:
        return max(self._job.time_limit, _MIN_SILENCE_SECONDS)

    def _start(self, selector: selectors.BaseSelector) -> bool:
        """Start the workers that there is room for and something to do, and tell whether any is at work."""
        while not self._stop and len(self._workers) < (self._processes or 1):
            alone = self._backlog.next(alone=True) is not None
            if not alone and self._backlog.next(alone=False) is None:
                break
            unmeasurable = sorted(self._unmeasurable)
            job = replace(self._job, processes=self._processes, unmeasurable=unmeasurable, alone=alone)
            worker = WorkerProcess(job, self._inherited)
            self._workers.append(worker)
            selector.register(worker, selectors.EVENT_READ, worker)
            self._supply(worker)
        return bool(self._workers)

    def _supply(self, worker: WorkerProcess) -> None:
        """See that a worker has an order beyond the slides in hand, or knows that there is none."""
        while not worker.complete and len(worker.orders) - len(worker.in_hand) < _AHEAD:
            name = self._backlog.next(alone=worker.alone)
            if name is not None:
                self._backlog.give(name)
            worker.give(None if name is None else self._order_of(name))

    def _hear(self, worker: WorkerProcess) -> bool:
        """Hear what a worker has to say; False where it has ended, or has to be."""
        events = worker.hear()
        if events is None:
            worker.wait()
            return False
        for event in events:
            worker.note(event)
            match event["event"]:
                case "ready":
                    self._processes = self._processes or event["processes"]
                case "done" | "failed" | "kept":
                    self._backlog.remove(event["slide"])
                case "hung":
                    self._spare(event["slides"])  # first, as those that wait for it go on when it is killed
                    return False
            self._on_event(event)
            self._supply(worker)
        return True

    def _is_over(self, worker: WorkerProcess) -> bool:
        """Tell whether a worker has had its time, to stop or to say a word; first ask it to stop where that is due."""
        now = time.monotonic()
        if self._stop and worker.stopped is None:
            worker.stop()
        worker.silent = bool(worker.in_hand) and now - worker.heard > self._max_silence_seconds
        return worker.silent or (worker.stopped is not None and now - worker.stopped > _MAX_STOP_SECONDS)

    def _conclude(self, worker: WorkerProcess) -> None:
        """Find out why a worker has ended, and what becomes of the slides that it leaves.

        Raises:
            SetupError, UsageError: what it could not help, or no worker even begins.
        """
        worker.end()
        crash = worker.wait()
        self._backlog.take_back(worker.orders)
        if worker.failure:
            raise getattr(errors, worker.failure["kind"])(worker.failure["message"])
        if self._stop or (crash is None and not worker.hung):
            return
        # Of one slide alone that waits for a picture to be measured, it is the picture.
        doing = worker.measured if worker.alone and worker.measured else worker.in_hand | worker.measured
        culprits = worker.hung or (tuple(doing) if len(doing) == 1 else ())
        self._spare(culprits)
        for name in culprits:
            # What is done, or another shard's, does not fail by it; what is with another worker fails there.
            if name in self._backlog.left and not self._backlog.is_given(name):
                self._backlog.remove(name)
                self._fail(name, None if worker.hung or worker.silent else crash)
        if not culprits:
            self._suspect(worker, doing, crash)

    def _spare(self, names: Iterable[str]) -> None:
        """See that pictures are not measured by any worker any more."""
        for name in set(names) - self._unmeasurable:
            self._unmeasurable.add(name)
            for worker in self._workers:
                worker.spare(name)

    def _suspect(self, worker: WorkerProcess, doing: set[str], crash: str | None) -> None:
        what = f"said nothing for {self._max_silence_seconds:.0f} s" if worker.silent else f"ended ({crash})"
        if doing:
            log.warning("a worker %s; its slides are done again, one at a time", what)
            self._backlog.suspect(sorted(doing))
        elif worker.began:
            log.warning("a worker %s between two slides", what)
        elif self._workers:
            log.warning("a worker %s before it began; the others go on without it", what)
            self._processes = len(self._workers)
        else:
            raise SetupError(f"the worker ended with {crash} before it began; run `wbc-cli doctor`")

    def _fail(self, name: str, crash: str | None) -> None:
        if crash is None:
            limit = f"{self._job.time_limit:.0f} s"
            reason = f"no progress for {limit}; look at the file, or allow more with --time-limit"
        else:
            cause = "memory may have run out" if crash == "signal SIGKILL" else "the file may be damaged"
            reason = f"reading or analysing it crashed the process ({crash}); {cause}"
        self._on_failure(name, reason)
