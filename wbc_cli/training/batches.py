"""Making batches ahead of the network that consumes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch

from wbc_cli.parallel import in_order
from wbc_cli.training.losses import Batch
from wbc_cli.training.sampling import Window

T = TypeVar("T")


def ahead(make: Callable[[int], T], start: int, stop: int, depth: int = 3) -> Iterator[T]:
    """Yield make(start), ..., make(stop - 1), up to `depth` of them prepared by a thread."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        yield from in_order(pool, make, range(start, stop), depth)


def to_tensor(rgb: np.ndarray, device: torch.device) -> torch.Tensor:
    """uint8 [N, H, W, 3] to float [N, 3, H, W], 0 to 1."""
    return torch.from_numpy(rgb).to(device).permute(0, 3, 1, 2).float() / 255


def collate(windows: list[Window], device: torch.device) -> Batch:
    """A batch of windows on the device, not augmented in colour yet."""
    return Batch(
        rgb=to_tensor(np.stack([w.rgb for w in windows]), device),
        code=torch.from_numpy(np.stack([w.code for w in windows])).to(device).long(),
        labels=torch.tensor([w.label for w in windows], device=device),
        pool=torch.from_numpy(np.stack([w.pool for w in windows])).to(device),
        masked=torch.tensor([w.masked for w in windows], device=device),
    )
