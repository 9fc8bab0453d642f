"""A worker as its supervisor sees it: a process that gets orders, and says what it does."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from queue import SimpleQueue

from wbc_cli.run.job import NO_MORE, STOP, UNMEASURABLE, Event, Job, Order

log = logging.getLogger(__name__)

# What imports make is no garbage, and to look for it takes an eighth of their time; the worker turns collection on.
_START = "import gc; gc.disable(); from wbc_cli.run.worker import main; main()"


class WorkerProcess:
    """One worker process, what it was told and what it has told.

    Attributes:
        alone: it does one slide at a time.
        orders: slides that it was given and that are neither done nor failed, in their order.
        in_hand: those of them that are begun.
        measured: pictures that are being measured for their acquisition, for which slides in hand wait.
        began: it has begun a slide.
        complete: it has been told that no more orders come.
        heard: when it said something last, in seconds of the monotonic clock.
        stopped: when it was told to stop.
        hung: slides that are stuck.
        silent: it says nothing any more, so that nobody knows which slide it is.
        failure: the error for which it ended, of the environment or of the options.
    """

    def __init__(self, job: Job, inherited: Sequence[int]) -> None:
        """Start it.

        Args:
            job: what it is to do.
            inherited: file descriptors that it shares, such as the lock's.
        """
        self.alone = job.alone
        self.orders: dict[str, None] = {}
        self.in_hand: set[str] = set()
        self.measured: set[str] = set()
        self.began = self.complete = self.silent = False
        self.heard = time.monotonic()
        self.stopped: float | None = None
        self.hung: tuple[str, ...] = ()
        self.failure: Event | None = None
        self._rest = b""
        # A fresh interpreter and not a fork: threads and what the libraries hold do not survive one.
        # -P: a file json.py in the folder that we were started in is not Python's own.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _START],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=inherited,
            process_group=0,  # Ctrl-C is for the supervisor, who passes it on in words
        )
        # By a thread: a worker that does not read, since it starts or hangs, holds up nobody.
        self._lines: SimpleQueue[str | None] = SimpleQueue()
        threading.Thread(target=self._write, daemon=True).start()
        self._lines.put(job.to_line())

    def fileno(self) -> int:
        """Return the descriptor to wait at for what it says."""
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    def give(self, order: Order | None) -> None:
        """Have it do one slide more; None after the last."""
        if order is None:
            self.complete = True
            self._lines.put(NO_MORE)
        else:
            self.orders[order.name] = None
            self._lines.put(order.to_line())

    def spare(self, name: str) -> None:
        """Tell it of a picture that is not to be measured."""
        self._lines.put(f"{UNMEASURABLE}{json.dumps(name)}\n")

    def stop(self) -> None:
        """Tell it to stop."""
        self.stopped = time.monotonic()
        self._lines.put(STOP)

    def hear(self) -> list[Event] | None:
        """Read what it has said; None where it has ended."""
        part = os.read(self.fileno(), 1 << 16)
        if not part:
            return None
        self.heard = time.monotonic()
        *lines, self._rest = (self._rest + part).split(b"\n")
        return [json.loads(line) for line in lines]

    def note(self, event: Event) -> None:
        """Take note of an event that it has told."""
        match event["event"]:
            case "begun":
                self.began = True
                self.in_hand.add(event["slide"])
            case "measuring":
                self.measured.add(event["slide"])
            case "measured":
                self.measured.discard(event["slide"])
            case "done" | "failed" | "kept":
                self.in_hand.discard(event["slide"])
                self.orders.pop(event["slide"], None)
            case "hung":
                self.hung = tuple(event["slides"])
            case "error":
                self.failure = event

    def wait(self) -> str | None:
        """Wait for its end, and return the signal or the exit code with which it crashed; None where it did not."""
        code = self._process.wait()
        if code == 0:
            return None
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    def end(self) -> None:
        """End it, where it has not ended of itself."""
        self._process.kill()
        self._process.wait()
        self._lines.put(None)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _write(self) -> None:
        assert self._process.stdin is not None
        try:
            with self._process.stdin as orders:
                while (line := self._lines.get()) is not None:
                    orders.write(line.encode())
                    orders.flush()
        except BrokenPipeError:
            log.debug("the worker is gone")  # which reading from it will tell as well
