"""The control groups of Linux, by which a scheduler or a container bounds what a process may use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def control_groups(controller: str, root: Path) -> Iterator[Path]:
    """Yield the folders of the control groups that hold this process, each followed by those around it.

    Args:
        controller: such as `cpu` or `memory`; version 1 has groups of its own for each.
        root: where `proc` and `sys` are mounted.
    """
    groups = root / "sys/fs/cgroup"
    for line in text_of(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:  # version 2
            yield from _upwards(groups, path)
        elif controller in controllers.split(","):
            yield from _upwards(groups / controller, path)


def text_of(file: Path) -> str:
    """Return what a file of the kernel says; nothing where it is not there."""
    try:
        return file.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def _upwards(mount: Path, path: str) -> Iterator[Path]:
    # Inside a container the path may be that outside, which is not there: then what is mounted is the container's own.
    inside = PurePosixPath(path.lstrip("/"))
    yield from (mount / group for group in (inside, *inside.parents))
