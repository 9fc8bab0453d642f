"""Whether a slide is done: what its results were made from, so that only what is missing or has changed is done."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import wbc_cli
from wbc_cli.errors import MachineError
from wbc_cli.model.files import CONFIG_NAME, checksum, default_folder
from wbc_cli.run.options import AnalyzeOptions

_WHOLE = 16 << 20  # bytes; of larger files the ends are read, and their time counts as well
_END = 1 << 16
_BESIDE = frozenset({".vms", ".vmu", ".dcm"})  # slides of several files in one folder

Fingerprint = dict[str, str]


def model_fingerprint(options: AnalyzeOptions) -> Fingerprint:
    """Of the program, the weights and the options, which all slides of a run share.

    Not of device, batch size or number of workers, which change nothing but rounding.

    Raises:
        MachineError: the weights are missing or damaged.
    """
    folder = options.compute.weights or default_folder()
    weights = checksum(folder)
    try:
        config = (folder / CONFIG_NAME).read_bytes()
    except OSError as error:
        raise MachineError(f"{folder / CONFIG_NAME}: cannot be read ({error.strerror}); reinstall") from error
    return {
        "version": wbc_cli.__version__,
        "weights": weights,
        "config": _digest(config),
        "options": _digest(json.dumps(options.what_matters(), sort_keys=True).encode()),
    }


def input_fingerprint(path: Path) -> str:
    """Of a slide's files, from their content; of what is too large to read whole, from ends, size and time.

    A file that cannot be read has a fingerprint as well: reading it for the analysis will say what is wrong.
    """
    digest = hashlib.sha256()
    for file in (path, *_companions(path)):
        try:
            with file.open("rb") as opened:
                status = file.stat()
                digest.update(f"{file.name!r} {status.st_size} ".encode())
                if status.st_size <= _WHOLE:
                    digest.update(opened.read(_WHOLE + 1))
                else:
                    digest.update(f"{status.st_mtime_ns} ".encode() + opened.read(_END))
                    opened.seek(-_END, 2)
                    digest.update(opened.read(_END))
        except OSError as error:
            digest.update(f"{file.name!r} {error.errno} ".encode())
    return digest.hexdigest()


def _companions(path: Path) -> Iterator[Path]:
    """The other files of a slide; a few too many do no harm."""
    suffix = path.suffix.lower()
    folder = path.with_suffix("") if suffix == ".mrxs" else path.parent if suffix in _BESIDE else None
    if folder is not None and folder.is_dir():
        yield from sorted(file for file in folder.iterdir() if file != path and file.is_file())


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
