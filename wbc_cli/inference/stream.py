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

from wbc_cli.cells import UNKNOWN, Population
from wbc_cli.inference.engine import Engine
from wbc_cli.inference.population import row_of
from wbc_cli.inference.window_cells import WindowPrediction
from wbc_cli.inference.windows import Window
from wbc_cli.resources.memory import release_holes
from wbc_cli.resources.parallel import Task, Tasks
from wbc_cli.slides.reader import RGBImage

_RELEASE_EVERY_WINDOWS = 256  # what lies free among what is kept goes back to the system
_MAX_WAIT_S = 0.5  # seconds that a window waits for others to fill its batch: a read that hangs must not hold it up


@dataclass(frozen=True, eq=False)
class _Request:
    pixels: RGBImage
    population: Population
    prediction: Future[WindowPrediction] = field(default_factory=Future)
    since: float = field(default_factory=time.monotonic)


class Stream:
    """Reads windows and runs the network on them, in batches of whatever waits, whichever slide it is from.

    Many threads may submit windows, one a slide. The engine's lanes take them, each a batch of its own, so that
    nothing on a slide's own thread (joining cells, drawing pictures) keeps the network waiting.

    Attributes:
        engine: the network on its device.
        workers: the number of threads that read.
        readers: these threads, for the coarse pass as well.
        closed: no window is taken any more.
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
        self._being_read, self._in_lanes, self._since_released = 0, 0, 0
        self._scheduled = False
        self._lock = Lock()
        self._ahead = 4 * engine.batch_size * engine.lanes

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Drop what waits and end the threads; who still waits for a prediction gets CancelledError."""
        self.closed = True
        self.readers.shutdown(wait=False, cancel_futures=True)
        # Nobody may be left waiting, even if someone is impatient and stops the waiting below.
        self._lanes.shutdown(wait=False, cancel_futures=True)
        self._cancel_waiting()
        self._lanes.shutdown()

    def predict(
        self,
        readers: Tasks,
        read: Callable[[Window], RGBImage],
        windows: Iterable[Window],
        population: Population = UNKNOWN,
    ) -> Iterator[WindowPrediction]:
        """Predict the cells of a slide's windows.

        Args:
            readers: the slide's share of `readers`.
            read: gives the pixels of a window, uint8 [S, S, 3]; called on the readers' threads.
            windows: where on the slide they lie.
            population: that its cells are from.

        Returns:
            The predictions in the order of the windows; a bounded number of windows is under way at a time.

        Raises:
            SetupError: the device's memory does not hold a window.
            CancelledError, RuntimeError: the stream is closed.
            Whatever `read` raises.
        """
        under_way: deque[Task[Future[WindowPrediction]]] = deque()
        coming = iter(windows)
        self._count_reads(1)
        for window in islice(coming, self._ahead):
            under_way.append(self._submit(readers, read, window, population))
        self._count_reads(-1)
        for window in coming:
            yield self._wait(readers, under_way.popleft())
            under_way.append(self._submit(readers, read, window, population))
        while under_way:
            yield self._wait(readers, under_way.popleft())

    def _wait(self, readers: Tasks, task: Task[Future[WindowPrediction]]) -> WindowPrediction:
        prediction = task.result()
        with readers.heartbeat.waiting():
            while not wait([prediction], _MAX_WAIT_S).done:
                self._flush()
            return prediction.result()

    def _submit(
        self, readers: Tasks, read: Callable[[Window], RGBImage], window: Window, population: Population
    ) -> Task[Future[WindowPrediction]]:
        def send() -> Future[WindowPrediction]:
            request = _Request(read(window), population)
            with self._lock:
                self._waiting.append(request)
            return request.prediction

        self._count_reads(1)
        task = readers.submit(send)
        task.when_done(lambda: self._count_reads(-1))  # also where it could not be read, or was dropped
        return task

    def _count_reads(self, windows: int) -> None:
        """Count the windows that are being read up or down; after each that is done, a lane checks for a batch."""
        with self._lock:
            self._being_read += windows
        if windows < 0:
            self._schedule()

    def _schedule(self) -> None:
        """Have a lane check whether a batch waits, unless one is to do so anyway: what waits for lanes is bounded."""
        with self._lock:
            if self._scheduled:
                return
            self._scheduled = True
        try:
            self._lanes.submit(self._predict_batch)
        except RuntimeError:  # the stream has been closed
            self._cancel_waiting()

    def _flush(self) -> None:
        """Have a lane take what has waited for too long, in a batch that is not full."""
        with self._lock:
            overdue = self._is_overdue()
        if overdue:
            self._schedule()

    def _is_overdue(self) -> bool:
        return bool(self._waiting) and time.monotonic() - self._waiting[0].since >= _MAX_WAIT_S

    def _cancel_waiting(self) -> None:
        with self._lock:
            dropped = list(self._waiting)
            self._waiting.clear()
        for request in dropped:
            request.prediction.cancel()
            request.prediction.set_running_or_notify_cancel()  # else nobody who waits for it is woken

    def _take_batch(self) -> list[_Request]:
        """Take the batch that a lane is to run next; it is empty where there is too little yet."""
        with self._lock:
            self._scheduled = False
            waiting, share = len(self._waiting), self.engine.batch_size
            if self._being_read:
                if waiting < share and not self._is_overdue():
                    return []  # a batch is checked for after every read: a later one takes this, too, and is fuller
            else:
                # Of a slide's last windows none lies waiting while another lane is idle.
                share = min(share, -(-(waiting + self._in_lanes) // self.engine.lanes))
            requests = [self._waiting.popleft() for _ in range(min(share, waiting))]
            self._in_lanes += len(requests)
            return requests

    def _predict_batch(self) -> None:
        """Run a batch of what waits through the network."""
        requests = self._take_batch()
        if not requests:
            return
        if self._waiting:
            self._schedule()
        try:
            predictions = self.engine.predict(
                np.stack([request.pixels for request in requests]),
                np.stack([row_of(request.population) for request in requests]),
            )
        except Exception as error:  # noqa: BLE001 - not swallowed: raised again in each of the threads that wait
            for request in requests:
                request.prediction.set_exception(error)
        else:
            for request, prediction in zip(requests, predictions, strict=True):
                request.prediction.set_result(prediction)
        finally:
            with self._lock:
                self._in_lanes -= len(requests)
                self._since_released += len(requests)
                release = self._since_released >= _RELEASE_EVERY_WINDOWS
                if release:
                    self._since_released = 0
            if release:
                release_holes()
