"""One process at a time in a run folder."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wbc_cli.errors import SetupError

log = logging.getLogger(__name__)

LOCK = ".lock"
"""The file in a run folder that is locked."""

# Lustre mounted without `flock`, NFS without its lock service, and others
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP})
_PATIENCE = 10.0  # seconds: a run that was killed needs a moment until its worker is gone, too


@contextmanager
def locked(file: Path, *, shared: bool = False) -> Iterator[int]:
    """Hold a lock that the system drops by itself when its holder dies, so that none is ever stale.

    Args:
        file: made if need be; left there, since removing it would let two in.
        shared: beside others that share it.

    Yields:
        The file descriptor that holds it; a child that inherits it holds the lock as long as it lives.

    A file system that has no locks is used without: that is said, and nothing keeps others out.

    Raises:
        SetupError: somebody else has it, or the file cannot be written.
    """
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise SetupError(f"{file}: cannot be written: {error.strerror}; check permissions and free space") from error
    try:
        _wait(descriptor, file, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        if not shared:
            holder = f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S')}\n"
            os.truncate(descriptor, 0)
            os.pwrite(descriptor, holder.encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)


def _wait(descriptor: int, file: Path, kind: int) -> None:
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() < until:
                time.sleep(0.1)
                continue
            holder = os.pread(descriptor, 1000, 0).decode(errors="replace").strip() or "another process"
            raise SetupError(
                f"{file.parent}: in use ({holder}). Wait until that run has ended, or give another folder with -o."
            ) from error
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise SetupError(f"{file}: cannot be locked: {error.strerror}; check the disk") from error
            if kind == fcntl.LOCK_EX:
                log.warning("%s: this file system has no locks; see that no second run writes there", file.parent)
        return
