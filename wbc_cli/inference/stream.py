"""The windows of many slides on their way through the network."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

import numpy as np

from wbc_cli.inference.engine import Engine, WindowAnswer
from wbc_cli.inference.windows import Place
from wbc_cli.parallel import Tasks
from wbc_cli.slides.reader import RGBImage


@dataclass(frozen=True, eq=False)
class _Request:
    window: RGBImage
    answer: Future[WindowAnswer] = field(default_factory=Future)


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
        self._waiting: SimpleQueue[_Request] = SimpleQueue()
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
        with suppress(Empty):
            while True:
                self._waiting.get_nowait().answer.cancel()
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
            MachineError: the device's memory does not hold a window.
            CancelledError, RuntimeError: the stream is closed.
            Whatever `read` raises.
        """
        under_way: deque[Future[Future[WindowAnswer]]] = deque()
        for place in places:
            under_way.append(readers.submit(self._send, read, place))
            if len(under_way) >= self._ahead:
                yield under_way.popleft().result().result()
        while under_way:
            yield under_way.popleft().result().result()

    def _send(self, read: Callable[[Place], RGBImage], place: Place) -> Future[WindowAnswer]:
        request = _Request(read(place))
        self._waiting.put(request)
        self._lanes.submit(self._answer)
        return request.answer

    def _answer(self) -> None:
        """Answer a batch of what waits; there is a turn for every window, so some find nothing left."""
        # No more than this lane's share: of a slide's last windows none lies waiting while another lane is idle.
        share = max(1, -(-self._waiting.qsize() // self.engine.lanes))
        requests: list[_Request] = []
        with suppress(Empty):
            while len(requests) < min(share, self.engine.batch_size):
                requests.append(self._waiting.get_nowait())
        if not requests:
            return
        try:
            answers = self.engine.look(np.stack([request.window for request in requests]))
        except Exception as error:  # noqa: BLE001 - not swallowed: raised again in each of the threads that wait
            for request in requests:
                request.answer.set_exception(error)
        else:
            for request, answer in zip(requests, answers, strict=True):
                request.answer.set_result(answer)
