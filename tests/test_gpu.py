"""A GPU gives the CPU's answers, in the precision it computes natively, with as much at a time as its memory holds.

What a stand-in can tell is tested everywhere; the rest needs a CUDA device.
"""

from __future__ import annotations

import copy
import gc
import json
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import numpy as np
import pytest
import torch

from wbc_cli.errors import SetupError
from wbc_cli.inference.engine import Engine, choose_device, choose_precision
from wbc_cli.inference.pipeline import Analyser
from wbc_cli.inference.stream import Stream
from wbc_cli.model.files import WEIGHTS_NAME, default_folder
from wbc_cli.model.saliency import INPUTS
from wbc_cli.model.storage import load
from wbc_cli.slides import open_slide
from wbc_cli.synthetic import write_demo
from wbc_cli.synthetic.smear import Smear

CPU = torch.device("cpu")
on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
with_weights = pytest.mark.skipif(
    not (default_folder() / WEIGHTS_NAME).is_file(), reason=f"no weights in {default_folder()}"
)


@pytest.fixture
def cards(monkeypatch):
    """Two CUDA devices of other generations; the current one is the first: `cards((7, 5), (8, 0))`."""

    def put(*capabilities):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(capabilities))
        monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
        monkeypatch.setattr(
            torch.cuda, "get_device_capability", lambda device=None: capabilities[torch.device(device or 0).index or 0]
        )

    return put


@pytest.mark.parametrize(
    ("capability", "native"),
    [
        ((6, 1), torch.float32),
        ((7, 0), torch.float16),
        ((7, 5), torch.float16),
        ((8, 0), torch.bfloat16),
        ((9, 0), torch.bfloat16),
        ((12, 0), torch.bfloat16),
    ],
)
def test_auto_precision_is_what_the_card_that_is_used_computes_natively(cards, capability, native):
    for others in ((7, 5), (9, 0)):
        cards(others, capability)
        assert choose_precision("auto", choose_device("cuda:1")) == native


def test_a_precision_that_was_asked_for_is_taken_on_any_card(cards):
    cards((7, 5))
    assert choose_precision("bf16", choose_device("cuda")) == torch.bfloat16
    assert choose_precision("fp32", choose_device("cuda")) == torch.float32


def test_a_device_has_its_number_and_one_that_is_not_there_says_how_many_are(cards):
    cards((8, 0), (8, 0))
    assert [str(choose_device(name)) for name in ("auto", "cuda", "cuda:1", "cpu")] == [
        "cuda:0",
        "cuda:0",
        "cuda:1",
        "cpu",
    ]
    with pytest.raises(SetupError, match=r"cuda:2: no such CUDA device here \(2 found\)"):
        choose_device("cuda:2")


class Large:
    """What a batch takes of a device's memory."""


def out_of_memory():
    return torch.OutOfMemoryError("CUDA out of memory")


def no_workspace():
    return RuntimeError("GET was unable to find an engine to execute this computation")


@pytest.fixture
def scarce(monkeypatch):
    """Have a method of the engine fail above a size; the list says whether a batch was held at each emptying."""
    batches, held = [], []

    def limit(method, size_of, most, error):
        whole = getattr(Engine, method)

        def limited(self, batch, *more):
            large = Large()  # this frame holds it, and an exception's traceback the frame
            batches.append(weakref.ref(large))
            if size_of(batch) > most:
                raise error()
            return whole(self, batch, *more)

        monkeypatch.setattr(Engine, method, limited)
        monkeypatch.setattr(torch.cuda, "empty_cache", lambda: held.append(any(batch() for batch in batches)))
        return held

    return limit


@pytest.mark.parametrize("error", [out_of_memory, no_workspace])
def test_out_of_memory_halves_the_batch_once_nothing_holds_what_it_took(toy_network, scarce, error):
    held = scarce("_predict", len, 2, error)
    engine = Engine(toy_network, CPU, torch.float32, 8)
    assert len(engine.predict(np.zeros((5, 160, 160, 3), np.uint8))) == 5
    assert engine.batch_size == 2
    assert held == [False, False]


@pytest.mark.parametrize("shape", [(1, 300, 200), (1, 301, 201), (5, 40, 40), (3, 150, 60)])
def test_out_of_memory_halves_the_coarse_pass_and_the_prior_sees_the_same(toy_network, scarce, shape):
    engine = Engine(toy_network, CPU, torch.float32, 8)
    density = np.random.default_rng(0).random((*shape, INPUTS), np.float32)
    whole = engine.saliency(density)
    held = scarce("_saliency", lambda picture: picture[..., 0].size, 150 * 200, out_of_memory)
    np.testing.assert_allclose(engine.saliency(density), whole, atol=1e-6)
    assert not any(held)
    assert bool(held) == (density[..., 0].size > 150 * 200)


def test_a_coarse_pass_that_fits_in_no_way_says_so(toy_network, scarce):
    scarce("_saliency", len, 0, out_of_memory)
    with pytest.raises(SetupError, match="does not hold a coarse picture"):
        Engine(toy_network, CPU, torch.float32, 8).saliency(np.zeros((1, 300, 200, 3), np.float32))


@pytest.mark.parametrize(("method", "batch"), [("predict", (2, 160, 160, 3)), ("saliency", (1, 80, 80, 3))])
def test_any_other_error_of_the_network_is_none_of_memory(toy_network, scarce, method, batch):
    held = scarce(f"_{method}", len, 0, lambda: RuntimeError("an illegal memory access was encountered"))
    with pytest.raises(RuntimeError, match="illegal"):
        getattr(Engine(toy_network, CPU, torch.float32, 8), method)(np.zeros(batch, np.uint8))
    assert not held


@pytest.fixture(scope="module")
def network():
    return load(default_folder()).network


@pytest.fixture(scope="module")
def windows():
    """Windows of a smear, most of them with a cell, some cut by the window's border: uint8 [96, 160, 160, 3]."""
    side, um_per_px = 160, 0.2
    smear = Smear(1600, 1600, um_per_px, 60, seed=1)
    picture = smear.render(0, 0, 1600, 1600)
    corners = [(x, y) for y in range(0, 1440, 150) for x in range(0, 1440, 150)][:96]
    return np.stack([picture[y : y + side, x : x + side] for x, y in corners])


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    return [path for path in write_demo(folder, 0) if path.suffix != ".csv"]


def cells_of(paths, network, device, dtype):
    """The cells of slides, by name of the file and number."""
    with Stream(Engine(copy.deepcopy(network), torch.device(device), dtype), 2) as stream:
        analyser = Analyser(stream, network.config.min_confidence)
        found = {}
        for path in paths:
            with closing(open_slide(path)) as reader:
                found[path.name] = analyser.analyse(reader, path.name).cells
        return found


@pytest.fixture(scope="module")
def of_the_cpu(demo, network):
    return cells_of(demo, network, CPU, torch.float32)


@on_a_gpu
@with_weights
@pytest.mark.parametrize(
    ("dtype", "apart"), [(torch.float32, 0.02), (torch.bfloat16, 0.3), (torch.float16, 0.1)], ids=str
)
def test_the_demo_has_the_cells_that_the_cpu_finds(demo, network, of_the_cpu, dtype, apart):
    found = cells_of(demo, network, "cuda:0", dtype)
    assert {name: len(cells) for name, cells in found.items()} == {name: len(c) for name, c in of_the_cpu.items()}
    pairs = [pair for name in found for pair in zip(found[name], of_the_cpu[name], strict=True)]
    assert len(pairs) > 50
    other = [pair for pair in pairs if pair[0].class_name != pair[1].class_name]
    assert len(other) <= (0 if dtype == torch.float32 else 1)
    for cell, expected in pairs:
        assert (cell.x, cell.y) == pytest.approx((expected.x, expected.y), abs=1)
        assert cell.area_um2 == pytest.approx(expected.area_um2, rel=0.05)
        np.testing.assert_allclose(cell.probabilities, expected.probabilities, atol=apart)
        assert cell.saliency == pytest.approx(expected.saliency, abs=0.02)
        assert cell.cam_in_cell == pytest.approx(expected.cam_in_cell, abs=0.05)


@on_a_gpu
@with_weights
def test_the_coarse_pass_sees_what_it_sees_on_the_cpu(network):
    density = np.random.default_rng(0).random((1, 512, 384, 3), np.float32)
    on_cpu = Engine(copy.deepcopy(network), CPU, torch.float32).saliency(density)
    for dtype, apart in ((torch.float32, 1e-3), (torch.bfloat16, 0.1), (torch.float16, 0.02)):
        on_gpu = Engine(copy.deepcopy(network), torch.device("cuda:0"), dtype).saliency(density)
        np.testing.assert_allclose(on_gpu, on_cpu, atol=apart)


def assert_alike(answers, others, apart):
    for answer, other in zip(answers, others, strict=True):
        assert len(answer.cells) == len(other.cells)
        np.testing.assert_allclose(answer.probabilities, other.probabilities, atol=apart)
        np.testing.assert_allclose(answer.saliency, other.saliency, atol=apart)
        for cell, same in zip(answer.cells, other.cells, strict=True):
            np.testing.assert_allclose(cell.logits, same.logits, atol=10 * apart)


@pytest.fixture
def engine(network):
    return Engine(copy.deepcopy(network), torch.device("cuda:0"), torch.float32, 32)


@on_a_gpu
@with_weights
def test_lanes_that_compute_at_once_give_what_each_gives_alone(engine, windows):
    batches = np.array_split(windows, 6) * 3
    alone = [engine.predict(batch) for batch in batches[:6]] * 3
    with ThreadPoolExecutor(6) as lanes:
        for answers, others in zip(lanes.map(engine.predict, batches), alone, strict=True):
            assert_alike(answers, others, 1e-3)


@on_a_gpu
@with_weights
def test_the_batch_changes_an_answer_by_rounding_alone(engine, windows):
    together = engine.predict(windows[:32])
    assert sum(len(answer.cells) for answer in together) > 10
    assert_alike([engine.predict(window[None])[0] for window in windows[:32]], together, 1e-3)


@on_a_gpu
@with_weights
def test_nothing_makes_the_host_wait_but_the_answers(engine, windows):
    before = engine.predict(windows[:32])  # sets up what is set up once
    torch.cuda.set_sync_debug_mode("error")  # raises where torch itself would have the host wait for the device
    try:
        after = engine.predict(windows[:32])
        engine.saliency(np.zeros((1, 64, 64, 3), np.float32))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert_alike(after, before, 1e-3)


@on_a_gpu
@with_weights
def test_a_card_whose_memory_is_full_gets_smaller_batches_and_gives_the_same(engine, windows):
    engine.batch_size = len(windows)
    engine.predict(windows[:1])
    expected, answers = with_all_and_with_less_memory(1 / 3, lambda: engine.predict(windows))
    assert engine.batch_size < len(windows)
    assert_alike(answers, expected, 1e-3)


@on_a_gpu
@with_weights
def test_a_coarse_pass_that_a_card_does_not_hold_is_done_in_halves(engine):
    density = np.random.default_rng(0).random((1, 4096, 1024, 3), np.float32)
    engine.saliency(density[:, :64, :64])
    expected, found = with_all_and_with_less_memory(1 / 2, lambda: engine.saliency(density))
    np.testing.assert_allclose(found, expected, atol=1e-3)


def with_all_and_with_less_memory(share, work):
    """What some work gives with all of the first card's memory, and with a share of what it took of it then."""
    kept = emptied()
    torch.cuda.reset_peak_memory_stats(0)
    expected = work()
    needed = torch.cuda.max_memory_allocated(0) - kept
    kept = emptied()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((kept + needed * share) / total, 0)
    try:
        return expected, work()
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, 0)


def emptied():
    """Bytes that the process holds of the first card, with nothing kept for later."""
    gc.collect()
    torch.cuda.empty_cache()
    return torch.cuda.memory_reserved(0)


@on_a_gpu
@with_weights
def test_another_card_than_the_first_is_used_alone(network, windows):
    if torch.cuda.device_count() < 2:
        pytest.skip("one CUDA device here")
    before = torch.cuda.memory_stats(0).get("allocation.all.allocated", 0)
    second = Engine(copy.deepcopy(network), choose_device("cuda:1"), torch.float32, 32)
    first = Engine(copy.deepcopy(network), CPU, torch.float32, 32)
    assert_alike(second.predict(windows[:8]), first.predict(windows[:8]), 1e-3)
    assert {tensor.device.index for tensor in second.network.state_dict().values()} == {1}
    assert torch.cuda.memory_stats(0).get("allocation.all.allocated", 0) == before


@on_a_gpu
@with_weights
def test_a_run_on_a_gpu_says_on_which_and_finds_the_demos_cells(call, demo, of_the_cpu, tmp_path):
    answer = call("analyze", demo[0].parent, "-o", tmp_path / "out", "--device", "cuda", "--quiet")
    assert answer.code == 0, answer.err
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["used"]["device"] == "cuda:0"
    found = (tmp_path / "out" / "cells.csv").read_text().splitlines()[1:]
    assert len(found) == sum(len(cells) for cells in of_the_cpu.values())
