"""Copies to a device and back that keep it waiting as little as can be, and how it says that its memory is full."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

_OUT_OF_MEMORY_MESSAGES = ("unable to find an engine", "CUDNN_STATUS_ALLOC_FAILED", "CUBLAS_STATUS_ALLOC_FAILED")
"""What cuDNN and cuBLAS say where no memory is left for their own workspace."""


def is_out_of_memory(error: RuntimeError) -> bool:
    """Tell whether a device's memory is full; with less at a time the same may work."""
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in _OUT_OF_MEMORY_MESSAGES)


def upload(array: NDArray[Any], device: torch.device) -> torch.Tensor:
    """Bring an array to the device, in the current stream and without waiting for it.

    Through pinned memory, which torch keeps and hands out again once the copy is over: from any other the host would
    have to wait.
    """
    tensor = torch.from_numpy(array)
    if device.type == "cpu":
        return tensor
    with torch.cuda.device(device):  # pinned memory belongs to the current one
        return tensor.pin_memory().to(device, non_blocking=True)


def download(*tensors: torch.Tensor) -> list[NDArray[Any]]:
    """Bring tensors of one device to the host, all copies under way at once, and wait for the current stream once."""
    coming = [tensor.to("cpu", non_blocking=True) for tensor in tensors]  # into pinned memory
    if not tensors[0].is_cuda:
        return [tensor.numpy() for tensor in coming]
    with torch.cuda.device(tensors[0].device):
        # The thread sleeps: by default it would keep a core busy.
        done = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        done.record()
        done.synchronize()
    # What is kept of a cell for as long as its slide must not keep pinned memory.
    return [np.array(tensor.numpy()) for tensor in coming]
