"""Locks that the processes of a run on one machine share, whatever its disks can do."""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_TRY_EVERY_SECONDS = 0.1


@contextmanager
def shared_locks() -> Iterator[int]:
    """Make any number of locks, which those processes share that inherit the file descriptor that it yields."""
    locks = os.memfd_create("locks")
    try:
        yield locks
    finally:
        os.close(locks)


@contextmanager
def hold(locks: int, name: str, while_waiting: Callable[[], None]) -> Iterator[None]:
    """Hold one of the locks, which the system drops when its holder dies.

    It keeps out other processes, and no other thread of this one.

    Args:
        locks: from `shared_locks`.
        name: of the lock.
        while_waiting: is called ten times a second while another process has it.
    """
    # Each name locks a byte of its own, which need not be there. Not waited for by the system: it would see a deadlock
    # where of two processes each has a lock, and another thread that waits for the other's.
    place = int.from_bytes(hashlib.sha256(name.encode()).digest()[:7])
    while True:
        try:
            fcntl.lockf(locks, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
            break
        except BlockingIOError:
            while_waiting()
            time.sleep(_TRY_EVERY_SECONDS)
    try:
        yield
    finally:
        fcntl.lockf(locks, fcntl.LOCK_UN, 1, place)
