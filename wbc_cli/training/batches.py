"""Making batches ahead of the network that consumes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from wbc_cli.resources.cores import available_cores
from wbc_cli.training.losses import Batch
from wbc_cli.training.sampling import TrainingWindow

T = TypeVar("T")

_MAX_WORKERS = 6
_PREFETCHED_BATCHES = 3  # batches that each worker makes ahead


class _Made(Dataset[T]):
    def __init__(self, make: Callable[[int], T]) -> None:
        self.make = make

    def __getitem__(self, step: int) -> T:
        return self.make(step)


def prefetch(make: Callable[[int], T], start: int, stop: int) -> Iterator[T]:
    """Yield make(start), ..., make(stop - 1), made by other processes: drawing windows would hold up the network.

    On two cores there is one such process, which leaves the other core to the network.
    """
    if start >= stop:
        return
    yield from DataLoader(
        _Made(make),
        batch_size=None,
        sampler=range(start, stop),
        num_workers=min(_MAX_WORKERS, max(1, available_cores() - 1)),
        prefetch_factor=_PREFETCHED_BATCHES,
        collate_fn=_as_it_is,
        worker_init_fn=_begin_worker,
        multiprocessing_context="fork",  # the images are shared and not copied
    )


def _as_it_is(made: T) -> T:
    return made


def _begin_worker(_: int) -> None:
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def to_tensor(rgb: np.ndarray, device: torch.device) -> torch.Tensor:
    """Convert uint8 [N, H, W, 3] to float [N, 3, H, W], 0 to 1."""
    return torch.from_numpy(rgb).to(device).permute(0, 3, 1, 2).float() / 255


def collate(windows: Sequence[TrainingWindow]) -> Batch:
    """Collate windows on the CPU, their pixels in 8 bits, as a batch goes from one process to another."""
    return Batch(
        rgb=torch.from_numpy(np.stack([w.rgb for w in windows]).transpose(0, 3, 1, 2)),
        code=torch.from_numpy(np.stack([w.code for w in windows])),
        labels=torch.tensor([w.label for w in windows]),
        pool=torch.from_numpy(np.stack([w.pool for w in windows])),
        masked=torch.tensor([w.masked for w in windows]),
    )


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Bring a batch from `collate` to the network's device, as the losses take it; not augmented in colour yet."""
    if device.type == "cuda":
        batch = Batch(*(tensor.pin_memory().to(device, non_blocking=True) for tensor in batch))
    return Batch(batch.rgb.float() / 255, batch.code.long(), batch.labels, batch.pool.float(), batch.masked)
