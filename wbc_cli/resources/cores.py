"""How many cores this process may use, which on a shared node or in a container is fewer than the machine has."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def available_cores(root: Path = Path("/")) -> int:
    """Return the lesser of the cores of the process's affinity and of the CPU quota of its control groups.

    Args:
        root: where `proc` and `sys` are mounted.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    # A part of a core counts as a whole one: threads that are throttled now and then use more of it than one fewer.
    return max(1, min([affinity, *(math.ceil(quota) for quota in _quotas(root))]))


def _quotas(root: Path) -> Iterator[float]:
    """Yield the quotas, in cores, of the control groups that hold this process and of those around them."""
    groups = root / "sys/fs/cgroup"
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:  # version 2
            for group in _upwards(groups, path):
                quota, _, period = _text(group / "cpu.max").partition(" ")
                yield from _share(quota, period)
        elif "cpu" in controllers.split(","):
            for group in _upwards(groups / "cpu", path):
                yield from _share(_text(group / "cpu.cfs_quota_us"), _text(group / "cpu.cfs_period_us"))


def _upwards(mount: Path, path: str) -> Iterator[Path]:
    # Inside a container the path may be that outside, which is not there: then what is mounted is the container's own.
    inside = PurePosixPath(path.lstrip("/"))
    yield from (mount / group for group in (inside, *inside.parents))


def _share(quota: str, period: str) -> Iterator[float]:
    try:
        share = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):
        return  # "max", or no such file
    if share > 0:  # -1 in version 1: none
        yield share


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
