"""What the supervisor tells the worker, and the worker the supervisor."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from wbc_cli.acquisition.grouping import Picture

STOP = "stop\n"
"""What the supervisor sends to have the work stopped."""

Event = Mapping[str, Any]
"""What the worker says: under `event` what has happened, see `worker.work`, and more about it."""

Emit = Callable[[Event], None]


@dataclass(frozen=True)
class Job:
    """The work that a worker has to do.

    Attributes:
        out: the run folder.
        scratch: where its products are written before they are put in place.
        slides: files by name, the one that opens the slide first.
        fields: which field of its file a slide is, by name, where that has several.
        pictures: the plain pictures of the slides' folders, those that are none of these slides as well, see
            `grouping.pictures_by_folder`.
        unmeasurable: names of pictures that have brought a worker down, and are not measured for their acquisition.
        known: by name, the input of slides whose analysis stands if their files still hold it, see `plan.Plan`.
        model: what the run is made with, as the records are to say.
        samples: what the records say of their slides' samples, by name, see `samples.SampleKey`.
        scales: micrometres a pixel that go before `um_per_px`, by name.
        um_per_px, write, exhaustive, compute: see AnalyzeOptions.
        alone: one slide at a time, to see which of them it is that brings the process down.
        time_limit: seconds without progress after which a slide counts as hung.
        log_level: of what goes to standard error.
    """

    out: str
    scratch: str
    slides: dict[str, list[str]]
    fields: dict[str, int]
    pictures: dict[str, list[Picture]]
    unmeasurable: list[str]
    known: dict[str, dict[str, str]]
    model: dict[str, str]
    samples: dict[str, dict[str, str]]
    scales: dict[str, float]
    um_per_px: float | None
    write: list[str]
    exhaustive: bool
    compute: dict[str, Any]
    alone: bool
    time_limit: float
    log_level: int

    def to_line(self) -> str:
        """Return a line for the worker's standard input; names that are no UTF-8 survive."""
        return json.dumps(asdict(self)) + "\n"

    @classmethod
    def from_line(cls, line: str) -> Job:
        """Read a job from what `to_line` wrote."""
        values = json.loads(line)
        pictures = {folder: [Picture(*one) for one in found] for folder, found in values.pop("pictures").items()}
        return cls(**values, pictures=pictures)
