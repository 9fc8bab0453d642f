"""How many cores this process may use, which on a shared node or in a container is fewer than the machine has."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

from wbc_cli.resources.control_groups import control_groups, text_of


def available_cores(root: Path = Path("/")) -> int:
    """Return the lesser of the cores of the process's affinity and of the CPU quota of its control groups.

    Args:
        root: where `proc` and `sys` are mounted.
    """
    affinity = len(os.sched_getaffinity(0))
    # A part of a core counts as a whole one: threads that are throttled now and then use more of it than one fewer.
    return max(1, min([affinity, *(math.ceil(quota) for quota in _quotas(root))]))


def _quotas(root: Path) -> Iterator[float]:
    """Yield the quotas, in cores, of the control groups that hold this process."""
    for group in control_groups("cpu", root):
        quota, _, period = text_of(group / "cpu.max").partition(" ")  # version 2
        yield from _share(quota, period)
        yield from _share(text_of(group / "cpu.cfs_quota_us"), text_of(group / "cpu.cfs_period_us"))  # version 1


def _share(quota: str, period: str) -> Iterator[float]:
    try:
        share = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):
        return  # "max", or no such file
    if share > 0:  # -1 in version 1: none
        yield share
