"""Parts of a run, each done by a process or a machine of its own."""

from __future__ import annotations

import hashlib
import heapq
import re
from collections.abc import Mapping
from dataclasses import dataclass

from wbc_cli.errors import UsageError


@dataclass(frozen=True)
class Shard:
    """Part `index` (from 0, as in Slurm arrays) of `count`."""

    index: int
    count: int

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @property
    def label(self) -> str:
        """For file names, in an order that sorts."""
        return f"{self.index:0{len(str(self.count - 1))}d}-of-{self.count}"

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read `I/N`.

        Raises:
            UsageError: it is something else.
        """
        match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
        if not match or int(match[1]) >= int(match[2]):
            raise UsageError(f"--shard {text}: give I/N with I from 0 to N - 1, such as 0/16")
        return cls(int(match[1]), int(match[2]))


def spread(sizes: Mapping[str, int], count: int) -> dict[str, int]:
    """Give every slide to one of `count` shards, so that each has about as much to do.

    The largest goes first, each to the shard that has least (Graham, 1969, longest processing time first).

    Args:
        sizes: bytes of each slide, by name.
        count: of shards.

    Returns:
        The shard's index, by name.
    """
    loads = [(0, index) for index in range(count)]
    shards = {}
    for name in sorted(sizes, key=lambda name: (-sizes[name], name)):
        load, index = heapq.heappop(loads)
        shards[name] = index
        heapq.heappush(loads, (load + sizes[name], index))
    return shards


def late(name: str, count: int) -> int:
    """The shard of a slide that came after the others had been spread: by its name, the same whoever asks."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) % count
