"""Files and folders that are put in place whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from wbc_cli.errors import SetupError


def replace_folder(final: Path, scratch: Path, write: Callable[[Path], None]) -> None:
    """Fill a fresh folder and rename it into place.

    A folder cannot be renamed over a full one, so the older one steps aside first: killed between the two renames there
    is none, which says truly that the work is to be done again.

    Args:
        final: where it goes.
        scratch: a folder on the same disk.
        write: fills the fresh one, and may read the older one.

    Raises:
        SetupError: the disk is full or read-only.
        Whatever `write` raises; nothing has changed then.
    """
    with disk_errors(final), tempfile.TemporaryDirectory(prefix=".commit-", dir=scratch) as own:
        fresh, old = Path(own, "fresh"), Path(own, "old")
        fresh.mkdir()  # the scratch folder is for its owner only; this one gets the usual permissions
        write(fresh)
        if final.exists():
            final.rename(old)
        fresh.rename(final)


def replace_file(final: Path, scratch: Path, write: Callable[[Path], None]) -> None:
    """Write a fresh file and rename it into place, see `replace_folder`."""
    with disk_errors(final), tempfile.TemporaryDirectory(prefix=".commit-", dir=scratch) as own:
        fresh = Path(own, final.name)
        write(fresh)
        fresh.replace(final)


def link_or_copy(old: str | Path, new: str | Path) -> None:
    """Have a file in a second place, as a link where the disk has them.

    Raises:
        OSError: it cannot be read, or the disk is full or read-only.
    """
    try:
        os.link(old, new)
    except OSError:  # another disk, or one without links
        shutil.copy2(old, new)


def write_json(value: Mapping[str, Any], path: Path) -> None:
    """Write a record.

    Raises:
        OSError: the disk is full or read-only.
    """
    write_text(json.dumps(value, indent=2) + "\n", path)


def write_text(text: str, path: Path) -> None:
    """Write text as UTF-8.

    Raises:
        OSError: the disk is full or read-only.
    """
    path.write_text(text, encoding="utf-8")


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Say of errors of the disk what they mean for results.

    Raises:
        SetupError: the disk is full or read-only.
    """
    try:
        yield
    except OSError as error:
        raise SetupError(
            f"{path}: cannot write results: {error.strerror or error}. "
            "Check free space and permissions there, or give another folder with -o."
        ) from error
