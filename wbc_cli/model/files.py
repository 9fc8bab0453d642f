"""The files of a set of weights, and whether they are whole; without loading them, which takes torch."""

from __future__ import annotations

import hashlib
from pathlib import Path

import wbc_cli
from wbc_cli.errors import SetupError

WEIGHTS_NAME = "sg_cldff.safetensors"
CONFIG_NAME = "config.json"
CHECKSUM_NAME = "sg_cldff.safetensors.sha256"
"""Holds what `sha256sum` prints, so that `sha256sum -c` checks it."""


def default_folder() -> Path:
    """Return the folder of the shipped weights: inside the installed package, or beside it in a checkout."""
    package = Path(wbc_cli.__file__).parent
    installed = package / "weights"
    return installed if installed.is_dir() else package.parent / "weights"


def weights_file(folder: Path) -> Path:
    """Return the weights file in `folder`.

    Raises:
        SetupError: there is none.
    """
    file = folder / WEIGHTS_NAME
    if not file.is_file():
        raise SetupError(f"{file}: no weights there; reinstall wbc-cli or give --weights a folder written by train")
    return file


def checksum(folder: Path) -> str:
    """Compute the SHA-256 of the weights in `folder`, in hex, and check it against the one that was written with them.

    Raises:
        SetupError: there are none, or they are not those that were written.
    """
    file = weights_file(folder)
    found = _sha256(file)
    try:
        written = (folder / CHECKSUM_NAME).read_text(encoding="ascii").split()
    except (OSError, ValueError) as error:
        raise SetupError(
            f"{folder / CHECKSUM_NAME}: cannot be read ({error}); without it nobody knows whether "
            "the weights are whole; reinstall"
        ) from error
    if written[:1] != [found]:
        raise SetupError(f"{file}: damaged: its checksum is not the one in {CHECKSUM_NAME}; reinstall or copy it again")
    return found


def write_checksum(folder: Path) -> None:
    """Write the checksum of the weights in `folder` beside them."""
    text = f"{_sha256(weights_file(folder))}  {WEIGHTS_NAME}\n"
    (folder / CHECKSUM_NAME).write_text(text, encoding="ascii")


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
