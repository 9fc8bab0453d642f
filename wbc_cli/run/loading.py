"""From the options that several commands share to an analyser."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wbc_cli.resources.cores import available_cores
from wbc_cli.resources.memory import keep_freed_memory
from wbc_cli.resources.processes import available_memory, fitting_processes

if TYPE_CHECKING:
    from wbc_cli.inference.engine import Precision
    from wbc_cli.inference.pipeline import Analyser
    from wbc_cli.model.storage import LoadedModel


@dataclass(frozen=True)
class ComputeOptions:
    """The options of how to compute.

    Attributes:
        device: auto, cpu, cuda or cuda:N.
        precision: auto, fp32, bf16 or fp16.
        weights: folder of weights; None for the shipped ones.
        batch_size: windows a pass; None chooses by device.
        workers: threads that read, in all processes together; None for one a core.
        min_confidence: below it a cell is unidentified; None for the model's own.
        profile: file of a laboratory's profile; None for the shipped type head.
    """

    device: str = "auto"
    precision: Precision = "auto"
    weights: Path | None = None
    batch_size: int | None = None
    workers: int | None = None
    min_confidence: float | None = None
    profile: Path | None = None

    @property
    def all_workers(self) -> int:
        """The number of threads that read, in all processes together."""
        return self.workers or available_cores()

    def to_dict(self) -> dict[str, Any]:
        """Return the values for JSON."""
        return asdict(self) | {name: path and str(path) for name, path in self._files().items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ComputeOptions:
        """Make the options from what `to_dict` gave."""
        return cls(**{**values, **{name: values[name] and Path(values[name]) for name in cls()._files()}})

    def _files(self) -> dict[str, Path | None]:
        return {"weights": self.weights, "profile": self.profile}


def choose_processes(device: str, most: int, cores_a_process: int) -> int:
    """Choose how many processes are to analyse slides side by side.

    Args:
        device: as in ComputeOptions; the lanes of one process keep a GPU at work.
        most: for which there is enough to do.
        cores_a_process: how many one is to have.

    Raises:
        SetupError: the device is not to be had.
    """
    from wbc_cli.inference.engine import choose_device  # noqa: PLC0415 - torch, as below

    if choose_device(device).type != "cpu":
        return 1
    return min(most, fitting_processes(available_cores(), available_memory(), cores_a_process))


def load_analyser(options: ComputeOptions, processes: int = 1) -> tuple[Analyser, LoadedModel]:
    """Load the weights and set up the engine.

    Args:
        options: how to compute.
        processes: that share the cores and the threads that read, this one among them.

    Raises:
        SetupError: weights or device are not to be had.
        UsageError: an unknown device, or a profile that cannot be used with the weights.
    """
    # Here and not above: torch takes seconds, and `--help` needs none of it.
    from wbc_cli.inference.engine import Engine, choose_device, choose_precision  # noqa: PLC0415
    from wbc_cli.inference.pipeline import Analyser  # noqa: PLC0415
    from wbc_cli.inference.stream import Stream  # noqa: PLC0415
    from wbc_cli.model.files import default_folder  # noqa: PLC0415
    from wbc_cli.model.storage import load  # noqa: PLC0415
    from wbc_cli.profile.apply import apply_profile  # noqa: PLC0415
    from wbc_cli.profile.file import read_profile  # noqa: PLC0415

    keep_freed_memory()
    device = choose_device(options.device)
    model = load(options.weights or default_folder())
    if options.profile:
        apply_profile(read_profile(options.profile), model, options.profile)
    precision = choose_precision(options.precision, device)
    cores, readers = (-(-shared // processes) for shared in (available_cores(), options.all_workers))
    engine = Engine(model.network, device, precision, options.batch_size, cores)
    least = model.network.config.min_confidence if options.min_confidence is None else options.min_confidence
    return Analyser(Stream(engine, readers), least), model
