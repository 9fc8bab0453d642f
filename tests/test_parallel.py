"""Things done at a time lose nothing, and leave nothing running."""

from __future__ import annotations

import threading
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor

import numpy as np
import pytest
import torch

from wbc_cli.inference.engine import Engine
from wbc_cli.inference.stream import Stream
from wbc_cli.inference.windows import Window
from wbc_cli.resources.heartbeat import Heartbeat
from wbc_cli.resources.parallel import Tasks, WeightedSemaphore, in_order


def test_results_come_in_order_and_no_more_is_begun_than_asked_for():
    begun = []
    with ThreadPoolExecutor(4) as pool:
        for number, result in enumerate(in_order(pool, lambda n: begun.append(n) or n * n, range(40), 5)):
            assert result == number**2
            assert max(begun) <= number + 6


def test_results_that_nobody_asks_for_any_more_are_not_made():
    begun, gate = [], threading.Event()
    with ThreadPoolExecutor(1) as pool:
        results = in_order(pool, lambda n: begun.append(n) or (n == 0 or gate.wait(5)), range(40), 5)
        assert next(results)
        results.close()
        gate.set()
    assert len(begun) <= 2


def test_what_has_not_begun_when_a_slide_is_left_never_does():
    ran, gate, began = [], threading.Event(), threading.Event()
    with ThreadPoolExecutor(1) as pool:
        threading.Timer(0.2, gate.set).start()
        with Tasks(pool) as tasks:
            tasks.submit(lambda: began.set() or gate.wait(5))
            began.wait(5)
            for number in range(5):
                tasks.submit(ran.append, number)
    assert ran == []


def test_leaving_waits_for_what_runs():
    done, began = [], threading.Event()

    def slow():
        began.set()
        time.sleep(0.2)
        done.append(True)

    with ThreadPoolExecutor(2) as pool, Tasks(pool) as tasks:
        tasks.submit(slow)
        began.wait(5)
    assert done


def test_a_slide_is_silent_while_one_of_its_reads_hangs_and_not_while_it_waits_for_others():
    gate, began = threading.Event(), threading.Event()
    stuck, behind = Heartbeat(), Heartbeat()

    def hang():
        began.set()
        gate.wait(5)

    def wait_behind():
        with behind.working(), Tasks(pool, behind) as tasks:
            tasks.submit(int).result()

    with ThreadPoolExecutor(1) as pool, ThreadPoolExecutor(1) as slides:
        with stuck.working(), Tasks(pool, stuck) as tasks:
            tasks.submit(hang)
            began.wait(5)
            slides.submit(wait_behind)
            time.sleep(0.2)
            stuck.beat()  # the slide's own thread gets on
            assert stuck.silence() >= 0.2
            assert behind.silence() is None
            gate.set()
        assert stuck.silence() is None


def test_a_semaphore_is_never_exceeded_and_a_large_request_gets_its_turn():
    semaphore, held, most, order = WeightedSemaphore(10), [], [], []

    def stay(name, size):
        with semaphore.acquire(size):
            held.append(size)
            most.append(sum(held))
            order.append(name)
            time.sleep(0.01)
            held.remove(size)

    with ThreadPoolExecutor(20) as pool:
        for number in range(10):
            pool.submit(stay, f"small {number}", 3)
        time.sleep(0.005)
        pool.submit(stay, "large", 10)
        time.sleep(0.005)
        for number in range(10, 20):
            pool.submit(stay, f"small {number}", 3)
    assert max(most) <= 10
    assert len(order) == 21
    assert order.index("large") <= 11


@pytest.fixture
def stream(toy_network):
    with Stream(Engine(toy_network, torch.device("cpu"), torch.float32, 4), 2) as found:
        yield found


WINDOWS = [Window(number, 0, 160) for number in range(30)]


def pixels_of(window):
    return np.full((160, 160, 3), 200 - window.x, np.uint8)


def test_windows_of_several_slides_share_batches_and_each_gets_its_own_answers(stream):
    def predict(_):
        with Tasks(stream.readers) as tasks:
            return [prediction.saliency.mean() for prediction in stream.predict(tasks, pixels_of, WINDOWS)]

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(predict, range(4)))
    for predictions in together:
        np.testing.assert_allclose(predictions, together[0], atol=1e-5)


@pytest.mark.parametrize(("count", "largest"), [(20, [10, 10]), (3, [1, 2]), (70, [32, 32])])
def test_batches_are_full_and_the_last_windows_are_shared_among_the_lanes(toy_network, monkeypatch, count, largest):
    engine = Engine(toy_network, torch.device("cpu"), torch.float32, 32)
    engine.lanes = 2
    predict, sizes = engine.predict, []

    def counted(windows, neutrophils):
        sizes.append(len(windows))
        return predict(windows, neutrophils)

    def read_slowly(window):
        time.sleep(0.002)
        return pixels_of(window)

    monkeypatch.setattr(engine, "predict", counted)
    monkeypatch.setattr("wbc_cli.inference.stream._MAX_WAIT_S", 60.0)  # a busy machine reads more slowly yet
    with Stream(engine, 2) as stream, Tasks(stream.readers) as tasks:
        assert len(list(stream.predict(tasks, read_slowly, [Window(n, 0, 160) for n in range(count)]))) == count
    assert sorted(sizes)[-2:] == largest
    assert len(sizes) <= 4


def test_what_waits_for_the_lanes_does_not_grow_with_the_windows(stream):
    """A lane that checks for a batch takes whatever waits then: a check for each window would pile up in a long run."""
    waiting = []

    def read(window):
        waiting.append(stream._lanes._work_queue.qsize())
        return pixels_of(window)

    def predict(_):
        with Tasks(stream.readers) as tasks:
            return len(list(stream.predict(tasks, read, WINDOWS)))

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(predict, range(8))) == 8 * [len(WINDOWS)]
    assert max(waiting) <= 1


def test_windows_do_not_wait_for_a_read_that_hangs(stream):
    gate = threading.Event()

    def hang(window):
        gate.wait(30)
        return pixels_of(window)

    with ThreadPoolExecutor(1) as pool, Tasks(stream.readers) as tasks, Tasks(stream.readers) as others:
        stuck = pool.submit(lambda: list(stream.predict(others, hang, WINDOWS[:1])))
        began = time.monotonic()
        assert len(list(stream.predict(tasks, pixels_of, WINDOWS[:2]))) == 2  # half a batch
        assert time.monotonic() - began < 10
        gate.set()
        assert len(stuck.result(timeout=20)) == 1


def test_a_window_that_cannot_be_read_is_told_to_its_slide_alone(stream):
    def broken(window):
        if window.x == 7:
            raise ValueError("torn")
        return pixels_of(window)

    with pytest.raises(ValueError, match="torn"), Tasks(stream.readers) as tasks:
        list(stream.predict(tasks, broken, WINDOWS))
    with Tasks(stream.readers) as tasks:
        assert len(list(stream.predict(tasks, pixels_of, WINDOWS))) == len(WINDOWS)


def test_an_error_of_the_network_is_told_to_all_that_wait(stream, monkeypatch):
    def fail(windows, neutrophils):
        raise ArithmeticError("no")

    monkeypatch.setattr(stream.engine, "predict", fail)
    with pytest.raises(ArithmeticError), Tasks(stream.readers) as tasks:
        list(stream.predict(tasks, pixels_of, WINDOWS))


def test_nobody_waits_for_ever_on_a_stream_that_is_closed(stream):
    def predict():
        with Tasks(stream.readers) as tasks:
            return len(list(stream.predict(tasks, pixels_of, WINDOWS * 20)))

    with ThreadPoolExecutor(3) as pool:
        slides = [pool.submit(predict) for _ in range(3)]
        time.sleep(0.3)
        stream.close()
        for slide in slides:
            with pytest.raises((CancelledError, RuntimeError)):
                slide.result(timeout=20)


def test_what_lies_free_goes_back_to_the_system_now_and_then(stream, monkeypatch):
    released = []
    monkeypatch.setattr("wbc_cli.inference.stream._RELEASE_EVERY_WINDOWS", 50)
    monkeypatch.setattr("wbc_cli.inference.stream.release_holes", lambda: released.append(True))
    with Tasks(stream.readers) as tasks:
        list(stream.predict(tasks, pixels_of, WINDOWS * 3))
        list(stream.predict(tasks, pixels_of, WINDOWS))
    stream.close()
    assert len(released) == 2


def test_out_of_memory_halves_the_batch_and_goes_on(toy_network, monkeypatch):
    engine = Engine(toy_network, torch.device("cpu"), torch.float32, 8)
    whole = Engine._predict

    def scarce(self, windows, neutrophils):
        if len(windows) > 2:
            raise torch.OutOfMemoryError
        return whole(self, windows, neutrophils)

    monkeypatch.setattr(Engine, "_predict", scarce)
    assert len(engine.predict(np.stack([pixels_of(window) for window in WINDOWS[:7]]))) == 7
    assert engine.batch_size == 2
