"""What the analysis of a slide was made from, so that only what is missing or has changed is done."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import wbc_cli
from wbc_cli.errors import SetupError
from wbc_cli.model.files import CONFIG_NAME, checksum, default_folder
from wbc_cli.profile.file import read_profile
from wbc_cli.run.options import AnalyzeOptions

_AT_ONCE = 4 << 20  # bytes

Fingerprint = dict[str, str]


def model_fingerprint(options: AnalyzeOptions) -> Fingerprint:
    """Return the fingerprint of the program, the weights and the options, which all slides of a run share.

    It does not depend on device, batch size or number of workers, which change nothing but rounding, nor on the
    products: those that are missing are made of what is kept of the analysis.

    Raises:
        SetupError: the weights are missing or damaged.
        UsageError: the profile is damaged, or was learned with other weights.
    """
    folder = options.compute.weights or default_folder()
    weights = checksum(folder)
    try:
        config = (folder / CONFIG_NAME).read_bytes()
    except OSError as error:
        raise SetupError(f"{folder / CONFIG_NAME}: cannot be read ({error.strerror}); reinstall") from error
    profile = {}
    if options.compute.profile:
        found = read_profile(options.compute.profile)
        found.refuse_other_weights(weights, options.compute.profile)
        profile = {"profile": found.checksum}
    return {
        **profile,
        "version": wbc_cli.__version__,
        "weights": weights,
        "config": _digest(config),
        "options": _digest(json.dumps(options.cache_key(), sort_keys=True).encode()),
    }


def input_stamp(files: Sequence[Path]) -> str:
    """Take the fingerprint of a slide's files by their names, sizes and times.

    It is quick to take, and where it is the same nothing has changed.

    Args:
        files: the one that opens the slide, and its others.
    """
    return _digest(repr([_stamp(file) for file in files]).encode("utf-8", "surrogateescape"))


def input_content(files: Sequence[Path], beat: Callable[[], None]) -> str:
    """Take the fingerprint of a slide's files by every byte, and by the names of all but the one that opens it.

    A file that cannot be read has a fingerprint as well: reading it for the analysis will say what is wrong.

    Args:
        files: the one that opens the slide, and its others.
        beat: is called every few megabytes.
    """
    names = ["", *(os.path.relpath(file, files[0].parent) for file in files[1:])]
    contents = [_content(file, beat) for file in files]
    return _digest(repr(list(zip(names, contents, strict=True))).encode("utf-8", "surrogateescape"))


def _stamp(file: Path) -> tuple[str, int, int]:
    try:
        status = file.stat()
    except OSError as error:
        return file.name, -1, error.errno or 0
    return file.name, status.st_size, status.st_mtime_ns


def _content(file: Path, beat: Callable[[], None]) -> str:
    digest = hashlib.sha256()
    try:
        with file.open("rb") as opened:
            while part := opened.read(_AT_ONCE):
                digest.update(part)
                beat()
    except OSError as error:
        return repr(error.errno)
    return digest.hexdigest()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
