"""How many worker processes make the most of the cores and fit into the memory."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from wbc_cli.resources.control_groups import control_groups, text_of

_BYTES_A_PROCESS = 2 << 30  # the most that one is to take


def fitting_processes(cores: int, memory: int | None, cores_a_process: int) -> int:
    """Choose the number of processes that share the cores, one at least.

    Args:
        cores: that may be used.
        memory: bytes that may be taken; None where nobody knows.
        cores_a_process: how many one is to have.
    """
    wanted = -(-cores // cores_a_process)
    return max(1, wanted if memory is None else min(wanted, memory // _BYTES_A_PROCESS))


def available_memory(root: Path = Path("/")) -> int | None:
    """Return the bytes that may still be taken of the machine's memory and of the limits of the control groups.

    What only caches files counts as free. None where the system does not tell.

    Args:
        root: where `proc` and `sys` are mounted.
    """
    machine = _figure("MemAvailable:", text_of(root / "proc/meminfo"))
    return min([*([] if machine is None else [machine << 10]), *_left(root)], default=None)


def _left(root: Path) -> Iterator[int]:
    """Yield what is left of the limits, in bytes, of the control groups that hold this process."""
    for group in control_groups("memory", root):
        for limit, usage, cache in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),  # version 1
        ):
            try:
                left = int(text_of(group / limit)) - int(text_of(group / usage))
            except ValueError:
                continue  # "max", or no such file
            yield max(0, left + (_figure(cache, text_of(group / "memory.stat")) or 0))


def _figure(name: str, text: str) -> int | None:
    found = re.search(rf"^{name}\s+(\d+)", text, re.MULTILINE)
    return int(found[1]) if found else None
