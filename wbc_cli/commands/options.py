"""Options that several commands share, and what becomes of them."""

from __future__ import annotations

import logging
import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from wbc_cli.errors import UsageError
from wbc_cli.products.registry import PRODUCT_NAMES
from wbc_cli.run.loading import ComputeOptions
from wbc_cli.terminal.console import Terminal


class PrecisionName(StrEnum):
    """The values of --precision."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


def _device(name: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        raise UsageError(f"--device {name}: give auto, cpu, cuda or cuda:N")
    return name


Device = Annotated[str, typer.Option(callback=_device, help="auto, cpu, cuda or cuda:N.", rich_help_panel="Computing")]
Precision = Annotated[
    PrecisionName,
    typer.Option(help="Of the network; auto takes what the device computes fastest.", rich_help_panel="Computing"),
]
Weights = Annotated[
    Path | None, typer.Option(help="Folder of other weights, as `train` writes it.", rich_help_panel="Computing")
]
BatchSize = Annotated[str, typer.Option(help="Windows a pass: auto or a number.", rich_help_panel="Computing")]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Reading threads; default one a core.", rich_help_panel="Computing")
]
Processes = Annotated[
    str,
    typer.Option(
        metavar="auto|N",
        help="Worker processes; auto takes one for every core (four, for slides), as memory and work allow.",
        rich_help_panel="Computing",
    ),
]
ProfileFile = Annotated[Path | None, typer.Option("--profile", help="A laboratory's profile, as `adapt` writes it.")]
MinConfidence = Annotated[
    float | None, typer.Option(min=0, max=1, help="Below it a cell is called unidentified; default from the model.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Also say what goes on inside.")]


def terminal_of(quiet: bool, verbose: bool) -> Terminal:
    """Return the streams of a command, as its user wants them."""
    terminal = Terminal(quiet=quiet)
    terminal.log_to(log_level(quiet, verbose))
    return terminal


def log_level(quiet: bool, verbose: bool) -> int:
    """Return the least level of what is logged."""
    return logging.INFO if verbose else logging.ERROR if quiet else logging.WARNING


def compute_options(
    device: str,
    precision: PrecisionName,
    weights: Path | None,
    batch_size: str,
    workers: int | None,
    min_confidence: float | None,
    profile: Path | None = None,
) -> ComputeOptions:
    """Put together how to compute, from the options of a command.

    Raises:
        UsageError: no such batch size.
    """
    size = auto_or_number("--batch-size", batch_size)
    return ComputeOptions(device, precision.value, weights, size, workers, min_confidence, profile)


def auto_or_number(option: str, text: str) -> int | None:
    """Read the value of an option that is `auto` (None) or a positive number.

    Raises:
        UsageError: it is neither.
    """
    if text != "auto" and not (text.isdecimal() and int(text) > 0):
        raise UsageError(f"{option} {text}: give auto or a positive number")
    return None if text == "auto" else int(text)


def products(text: str) -> frozenset[str]:
    """Read the names of products that `--write` lists.

    Raises:
        UsageError: there are no such products.
    """
    names = frozenset(part.strip() for part in text.split(",")) - {"", "none"}
    if names - set(PRODUCT_NAMES):
        raise UsageError(f"--write {text}: give none, or some of {','.join(sorted(PRODUCT_NAMES))}")
    return names
