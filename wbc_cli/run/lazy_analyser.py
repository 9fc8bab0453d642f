"""The network of a worker, loaded when the first slide needs it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import replace
from threading import Lock
from typing import Any

import torch

from wbc_cli.inference.pipeline import Analyser
from wbc_cli.run.job import Job
from wbc_cli.run.loading import ComputeOptions, choose_processes, load_analyser


class LazyAnalyser:
    """Loads the analyser of a job once; threads may share it.

    Attributes:
        runtime: what the analysis turned out to run on, None before it is loaded.
        closed: the work is being stopped.
    """

    def __init__(self, job: Job, on_load: Callable[[dict[str, Any], int], None]) -> None:
        """Load nothing yet.

        Args:
            job: says which network, and how to compute.
            on_load: is told its `runtime`, and how many processes are to work side by side.
        """
        self._job, self._on_load = job, on_load
        self._lock = Lock()
        self._analyser: Analyser | None = None
        self.runtime: dict[str, Any] | None = None
        self.closed = False

    def get(self) -> Analyser:
        """Return the analyser, loading it first if need be.

        Raises:
            SetupError, UsageError: weights, device or options.
            CancelledError: the work is being stopped.
        """
        with self._lock:
            if self.closed:
                raise CancelledError
            if self._analyser is None:
                options = ComputeOptions.from_dict(self._job.compute)
                processes = self._job.processes or choose_processes(
                    options.device, self._job.most_processes, self._job.cores_a_process
                )
                analyser, _ = load_analyser(options, processes)
                self._analyser = replace(analyser, exhaustive=self._job.exhaustive)
                self.runtime = _runtime_of(self._analyser, options.all_workers)
                self._on_load(self.runtime, processes)
            return self._analyser

    def close(self) -> None:
        """Drop what waits for the network, see `Stream.close`."""
        self.closed = True
        if self._analyser:
            self._analyser.stream.close()


def _runtime_of(analyser: Analyser, workers: int) -> dict[str, Any]:
    engine = analyser.stream.engine
    return {
        "device": str(engine.device),
        "precision": str(engine.dtype).removeprefix("torch."),
        "batch_size": engine.batch_size,
        "workers": workers,
        "min_confidence": analyser.min_confidence,
        "torch": torch.__version__,
    }
