"""The windows of many slides on their way through the network."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import islice
from threading import Lock

import numpy as np

from wbc_cli.inference.engine import Engine, WindowAnswer
from wbc_cli.inference.windows import Place
from wbc_cli.memory import release_holes
from wbc_cli.parallel import Task, Tasks
from wbc_cli.slides.reader import RGBImage

_TIDY_AFTER = 256  # windows; then what lies free among what is kept goes back to the system
_MOMENT = 0.5  # seconds that a window waits for others to fill its batch: a read that hangs must not hold it up


@dataclass(frozen=True, eq=False)
class _Request:
    window: RGBImage
    answer: Future[WindowAnswer] = field(default_factory=Future)
    since: float = field(default_factory=time.monotonic)


class Stream:
    """Reads windows and has the network look at them, in batches of whatever waits, whichever slide it is from.

    Many threads may ask, one a slide. The engine's lanes answer, each with a batch of its own, so that nothing on a
    slide's own thread (joining cells, drawing pictures) keeps the network waiting.

    Attributes:
        engine: the network on its device.
        workers: threads that read.
        readers: these; for the coarse pass as well.
        closed: nobody is answered any more.
    """

    def __init__(self, engine: Engine, workers: int) -> None:
        """Set up the threads.

        Args:
            engine: the network on its device.
            workers: threads that read.
        """
        self.engine, self.workers, self.closed = engine, workers, False
        self.readers = ThreadPoolExecutor(workers, "reader")
        self._lanes = ThreadPoolExecutor(engine.lanes, "network")
        self._waiting: deque[_Request] = deque()
        self._being_read, self._in_lanes, self._since_tidied = 0, 0, 0
        self._nudged = False
        self._lock = Lock()
        self._ahead = 4 * engine.batch_size * engine.lanes

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Drop what waits and end the threads; who still waits for an answer gets CancelledError."""
        self.closed = True
        self.readers.shutdown(wait=False, cancel_futures=True)
        # Nobody may be left waiting, even if someone is impatient and stops the waiting below.
        self._lanes.shutdown(wait=False, cancel_futures=True)
        self._drop()
        self._lanes.shutdown()

    def look(
        self, readers: Tasks, read: Callable[[Place], RGBImage], places: Iterable[Place]
    ) -> Iterator[WindowAnswer]:
        """Look at windows of a slide.

        Args:
            readers: the slide's share of `readers`.
            read: gives the pixels of a window, uint8 [S, S, 3]; called on the readers' threads.
            places: the windows.

        Returns:
            The answers in the order of the places; a bounded number of windows is under way at a time.

        Raises:
            SetupError: the device's memory does not hold a window.
            CancelledError, RuntimeError: the stream is closed.
            Whatever `read` raises.
        """
        under_way: deque[Task[Future[WindowAnswer]]] = deque()
        coming = iter(places)
        self._expect(1)
        for place in islice(coming, self._ahead):
            under_way.append(self._ask(readers, read, place))
        self._expect(-1)
        for place in coming:
            yield self._wait(readers, under_way.popleft())
            under_way.append(self._ask(readers, read, place))
        while under_way:
            yield self._wait(readers, under_way.popleft())

    def _wait(self, readers: Tasks, task: Task[Future[WindowAnswer]]) -> WindowAnswer:
        answer = task.result()
        with readers.heartbeat.waiting():
            while not wait([answer], _MOMENT).done:
                self._nudge()
            return answer.result()

    def _ask(self, readers: Tasks, read: Callable[[Place], RGBImage], place: Place) -> Task[Future[WindowAnswer]]:
        def send() -> Future[WindowAnswer]:
            request = _Request(read(place))
            with self._lock:
                self._waiting.append(request)
            return request.answer

        self._expect(1)
        task = readers.submit(send)
        task.when_done(lambda: self._expect(-1))  # also where it could not be read, or was dropped
        return task

    def _expect(self, windows: int) -> None:
        """So many more are about to wait, or, below zero, fewer: then a lane sees whether it has waited for them."""
        with self._lock:
            self._being_read += windows
        if windows < 0:
            self._turn()

    def _turn(self) -> None:
        """Have a lane look for work."""
        try:
            self._lanes.submit(self._answer)
        except RuntimeError:  # the stream has been closed
            self._drop()

    def _nudge(self) -> None:
        """Have a lane take what has waited for a moment, in a batch that is not full."""
        with self._lock:
            if self._nudged or not self._waited():
                return
            self._nudged = True
        self._turn()

    def _waited(self) -> bool:
        return bool(self._waiting) and time.monotonic() - self._waiting[0].since >= _MOMENT

    def _drop(self) -> None:
        with self._lock:
            dropped = list(self._waiting)
            self._waiting.clear()
        for request in dropped:
            request.answer.cancel()
            request.answer.set_running_or_notify_cancel()  # else nobody who waits for it is woken

    def _take(self) -> list[_Request]:
        """What a lane is to answer next; nothing where there is too little yet."""
        with self._lock:
            self._nudged = False
            waiting, share = len(self._waiting), self.engine.batch_size
            if self._being_read:
                if waiting < share and not self._waited():
                    return []  # there is a turn after every read: a later one takes this, too, in a fuller batch
            else:
                # Of a slide's last windows none lies waiting while another lane is idle.
                share = min(share, -(-(waiting + self._in_lanes) // self.engine.lanes))
            requests = [self._waiting.popleft() for _ in range(min(share, waiting))]
            self._in_lanes += len(requests)
            return requests

    def _answer(self) -> None:
        """Answer a batch of what waits."""
        requests = self._take()
        if not requests:
            return
        if self._waiting:
            self._turn()
        try:
            answers = self.engine.look(np.stack([request.window for request in requests]))
        except Exception as error:  # noqa: BLE001 - not swallowed: raised again in each of the threads that wait
            for request in requests:
                request.answer.set_exception(error)
        else:
            for request, answer in zip(requests, answers, strict=True):
                request.answer.set_result(answer)
        finally:
            with self._lock:
                self._in_lanes -= len(requests)
                self._since_tidied += len(requests)
                tidy = self._since_tidied >= _TIDY_AFTER
                if tidy:
                    self._since_tidied = 0
            if tidy:
                release_holes()
