"""Parts of a run, each done by a process or a machine of its own."""

from __future__ import annotations

import hashlib
import heapq
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from wbc_cli.errors import UsageError
from wbc_cli.products.shared_json import read_shared, write_shared

SHARDS = "shards.json"
"""The file in a run folder that says which slides are whose."""


@dataclass(frozen=True)
class Shard:
    """The part `index` (from 0, as in Slurm arrays) of `count`."""

    index: int
    count: int

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @property
    def label(self) -> str:
        """The name of the shard in file names, which sort in the order of the shards."""
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


def assign_shards(sizes: Mapping[str, int], count: int) -> dict[str, int]:
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


def shard_of_new_slide(name: str, count: int) -> int:
    """Choose the shard of a slide that came after the others had been assigned: by its name, the same whoever asks."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) % count


@dataclass(frozen=True)
class Shares:
    """Which shard every slide of a run belongs to.

    Attributes:
        count: of shards.
        slides: the shard's index, by name.
        sources: absolute path of each slide's file, by name.
    """

    count: int
    slides: dict[str, int]
    sources: dict[str, str]

    def shard_of(self, name: str) -> int:
        """Return the shard of a slide, also of one that came late."""
        return self.slides.get(name, shard_of_new_slide(name, self.count))

    def write(self, file: Path) -> None:
        """Write SHARDS in one go.

        Raises:
            SetupError: the disk is full or read-only.
        """
        write_shared(asdict(self), file)


def read_shares(out: Path) -> Shares | None:
    """Read what SHARDS of a run folder says; None where it was begun without shards.

    Raises:
        SetupError: it is damaged, or cannot be read.
    """
    return read_shared(
        out / SHARDS,
        _shares,
        "Remove it once no shard is running: the next one writes it anew, and what is done stays done.",
    )


def _shares(value: Any) -> Shares:  # noqa: ANN401 - any JSON
    shares = Shares(value["count"], dict(value["slides"]), dict(value["sources"]))
    if type(shares.count) is not int or shares.count < 1 or set(map(type, shares.slides.values())) - {int}:
        raise ValueError("no numbers where shards are counted")
    return shares
