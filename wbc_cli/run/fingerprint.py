"""Whether a slide is done: what its results were made from, so that only what is missing or has changed is done."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import wbc_cli
from wbc_cli.errors import MachineError
from wbc_cli.model.files import CONFIG_NAME, checksum, default_folder
from wbc_cli.run.options import AnalyzeOptions

_WHOLE = 16 << 20  # bytes that are read of a file; of a larger one its ends
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


def input_fingerprint(path: Path, known: Mapping[str, str] | None = None) -> Fingerprint:
    """Of a slide's files: a stamp, which is quick to take, and what they hold.

    Args:
        path: the file that opens the slide.
        known: an earlier one; where its stamp is still right, nothing is read.

    Returns:
        `stamp` of sizes and times; `content` of the opening file's bytes (of a large one from its ends and its stamp)
        and of the other files' stamps. A file that cannot be read has a fingerprint as well: reading it for the
        analysis will say what is wrong.
    """
    own, others = _stamp(path), [_stamp(file) for file in _companions(path)]
    stamp = _digest(repr([own, *others]).encode())
    if known and known.get("stamp") == stamp:
        return dict(known)
    return {"stamp": stamp, "content": _digest(_content(path, own) + repr(others).encode())}


def _stamp(file: Path) -> tuple[str, int, int]:
    try:
        status = file.stat()
    except OSError as error:
        return file.name, -1, error.errno or 0
    return file.name, status.st_size, status.st_mtime_ns


def _content(file: Path, stamp: tuple[str, int, int]) -> bytes:
    try:
        with file.open("rb") as opened:
            if stamp[1] <= _WHOLE:
                return opened.read(_WHOLE + 1)
            start = opened.read(_END)
            opened.seek(-_END, os.SEEK_END)
            return start + opened.read(_END) + repr(stamp).encode()
    except OSError as error:
        return repr(error.errno).encode()


def _companions(path: Path) -> Iterator[Path]:
    """The other files of a slide; a few too many do no harm."""
    suffix = path.suffix.lower()
    folder = path.with_suffix("") if suffix == ".mrxs" else path.parent if suffix in _BESIDE else None
    if folder is not None and folder.is_dir():
        yield from sorted(file for file in folder.iterdir() if file != path and file.is_file())


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
