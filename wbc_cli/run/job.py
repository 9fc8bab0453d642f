"""What the supervisor tells a worker, and a worker the supervisor."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wbc_cli.acquisition.grouping import Picture

STOP = "stop\n"
"""What the supervisor sends to have the work stopped."""

NO_MORE = "no more\n"
"""What the supervisor sends after the last order."""

UNMEASURABLE = "unmeasurable: "
"""What the supervisor sends, before the name of a picture as JSON, where one joins `Job.unmeasurable`."""

Event = Mapping[str, Any]
"""What a worker says: under `event` what has happened, see `worker.work`, and more about it."""

Emit = Callable[[Event], None]


@dataclass(frozen=True)
class Order:
    """One slide that a worker has to do.

    Attributes:
        name: of the slide.
        files: its files, the one that opens it first.
        field: which field of its file it is, where that has several.
        known: the input of a slide whose analysis stands if its files still hold it, see `plan.Plan`.
        sample: what its record says of its sample, see `samples.SampleKey`.
        um_per_px: micrometres a pixel that go before those of the job.
    """

    name: str
    files: list[str]
    field: int | None
    known: dict[str, str] | None
    sample: dict[str, str] | None
    um_per_px: float | None

    @property
    def paths(self) -> list[Path]:
        """The paths of its files."""
        return [Path(file) for file in self.files]

    def to_line(self) -> str:
        """Return a line for the worker's standard input; names that are no UTF-8 survive."""
        return json.dumps(vars(self)) + "\n"

    @classmethod
    def from_line(cls, line: str) -> Order:
        """Read an order from what `to_line` wrote."""
        return cls(**json.loads(line))


@dataclass(frozen=True)
class Job:
    """The work that a worker has to do, but for the slides, of which it gets an order each.

    Attributes:
        out: the run folder.
        scratch: where its products are written before they are put in place.
        pictures: the plain pictures of the slides' folders and of those beside them, those that are none of these
            slides as well, see `grouping.pictures_by_folder`.
        unmeasurable: names of pictures that have brought a worker down, and are not measured for their acquisition;
            some may join while the work goes on.
        unknown: some of the slides have not been analysed yet, so that the network is needed in any case.
        model: what the run is made with, as the records are to say.
        um_per_px, write, exhaustive, compute: see AnalyzeOptions.
        processes: how many share the work, the worker among them; None where that is for the worker to choose, which
            knows the device.
        most_processes: the most that it may choose.
        cores_a_process: how many cores each of them is to have then.
        locks: what the workers share, see `shared_locks.hold`; None where nobody shares any.
        alone: one slide at a time, to see which of them it is that brings the process down.
        time_limit: seconds without progress after which a slide counts as hung.
        log_level: of what goes to standard error.
    """

    out: str
    scratch: str
    pictures: dict[str, list[Picture]]
    unmeasurable: list[str]
    unknown: bool
    model: dict[str, str]
    um_per_px: float | None
    write: list[str]
    exhaustive: bool
    compute: dict[str, Any]
    processes: int | None
    most_processes: int
    cores_a_process: int
    locks: int | None
    alone: bool
    time_limit: float
    log_level: int

    def stated_scale(self, of_table: float | None) -> float | None:
        """Return the micrometres a pixel that the user states: those of the table of samples go before the option's."""
        return self.um_per_px if of_table is None else of_table

    def to_line(self) -> str:
        """Return a line for the worker's standard input; names that are no UTF-8 survive."""
        return json.dumps(vars(self)) + "\n"

    @classmethod
    def from_line(cls, line: str) -> Job:
        """Read a job from what `to_line` wrote."""
        values = json.loads(line)
        pictures = {folder: [Picture(*one) for one in found] for folder, found in values.pop("pictures").items()}
        return cls(**values, pictures=pictures)
