"""What a run is asked to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wbc_cli.products.constants import STOP_WIDTH
from wbc_cli.run.loading import ComputeOptions
from wbc_cli.run.samples import BY_FOLDER
from wbc_cli.run.shards import Shard
from wbc_cli.slides.watchdog import TIME_LIMIT


@dataclass(frozen=True)
class AnalyzeOptions:
    """What to analyse and what to write.

    Attributes:
        paths: files, folders and lists.
        out: the run folder.
        um_per_px: overrides or supplies the files' scale.
        write: names of the products to write, see `products.registry`.
        exhaustive: look at all of a slide closely, and not only where the prior sees a white cell.
        compute: device, precision and the like.
        restart: do all slides anew, those that are done as well.
        prune: take out what the run folder has of slides that are not in the input any more.
        shard: do only this part of the slides.
        time_limit: seconds without progress after which a slide counts as hung and fails.
        samples: which pictures are of one sample, see `samples.find_samples`.
        stop_width: percentage points that the widest interval of a sample may have, for "how many more cells".
        processes: how many analyse slides side by side; None chooses by device, cores, memory and the slides.
    """

    paths: tuple[Path, ...]
    out: Path
    um_per_px: float | None = None
    write: frozenset[str] = frozenset()
    exhaustive: bool = False
    compute: ComputeOptions = field(default_factory=ComputeOptions)
    restart: bool = False
    prune: bool = False
    shard: Shard | None = None
    time_limit: float = TIME_LIMIT
    samples: str = BY_FOLDER
    stop_width: float = STOP_WIDTH
    processes: int | None = None

    def cache_key(self) -> dict[str, Any]:
        """Return the options that the analysis of a slide depends on; which products are made of it is no matter."""
        return {
            "um_per_px": self.um_per_px,
            "exhaustive": self.exhaustive,
            "precision": self.compute.precision,
            "min_confidence": self.compute.min_confidence,
        }

    def to_dict(self) -> dict[str, Any]:
        """Return all of the options, as run.json has them."""
        compute = self.compute.to_dict()
        return {
            "paths": [str(path) for path in self.paths],
            "um_per_px": self.um_per_px,
            "write": sorted(self.write),
            **self.cache_key(),
            **{**compute, "weights": compute["weights"] or "shipped"},
            "shard": None if self.shard is None else str(self.shard),
            "time_limit": self.time_limit,
            "samples": self.samples,
            "stop_width": self.stop_width,
            "processes": self.processes,
        }
