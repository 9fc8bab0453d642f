"""`wbc-cli doctor`: whether everything is here that an analysis needs."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import wbc_cli
from wbc_cli.errors import SetupError
from wbc_cli.resources.cores import available_cores

_PACKAGES = ("torch", "opencv-python-headless", "openslide-python", "tifffile", "imagecodecs")


@dataclass(frozen=True)
class Check:
    """One line of the report.

    Attributes:
        what: the thing looked at.
        ok: whether an analysis can do with it.
        detail: its version or place, or what is missing and how to get it.
    """

    what: str
    ok: bool
    detail: str


def examine(weights: Path | None) -> list[Check]:
    """Look at versions, readers, devices and weights.

    Args:
        weights: folder of weights; None for the shipped ones.
    """
    python = Check("Python", True, f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    return [
        Check("wbc-cli", True, wbc_cli.__version__),
        python,
        *(_package(name) for name in _PACKAGES),
        _openslide(),
        *_devices(),
        *_weights(weights),
    ]


def _package(name: str) -> Check:
    try:
        return Check(name, True, version(name))
    except PackageNotFoundError:
        return Check(name, False, f"not installed: pip install {name}")


def _openslide() -> Check:
    try:
        import openslide  # noqa: PLC0415
    except (ImportError, OSError) as error:
        return Check("OpenSlide library", False, f"does not load ({error}): pip install openslide-bin")
    return Check("OpenSlide library", True, openslide.__library_version__)


def _devices() -> list[Check]:
    try:
        import torch  # noqa: PLC0415

        from wbc_cli.inference.engine import choose_precision  # noqa: PLC0415
    except (ImportError, OSError) as error:
        return [Check("torch", False, f"does not load ({error}): reinstall wbc-cli")]

    cpu = torch.device("cpu")
    precision = str(choose_precision("auto", cpu)).removeprefix("torch.")
    found = [Check("CPU", True, f"{available_cores()} cores to use, auto precision {precision}")]
    if not torch.cuda.is_available():
        return [*found, Check("CUDA", True, "none found; analyses run on the CPU")]
    for number in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(number)
        found.append(Check(f"cuda:{number}", True, f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"))
    return found


def _weights(folder: Path | None) -> list[Check]:
    try:
        from wbc_cli.model.files import default_folder  # noqa: PLC0415
        from wbc_cli.model.storage import load  # noqa: PLC0415

        model = load(folder or default_folder())
    except (SetupError, ImportError, OSError) as error:
        return [Check("weights", False, str(error))]
    return [Check("weights", True, str(model.folder)), Check("weights SHA-256", True, model.checksum)]
