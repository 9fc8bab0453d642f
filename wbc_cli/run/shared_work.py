"""What the workers of a run do once for all of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from wbc_cli.products.atomic import replace_file, write_text
from wbc_cli.resources.shared_locks import hold
from wbc_cli.run.job import Emit, Job

T = TypeVar("T")


class SharedWork:
    """Work that one of a run's workers does for all, which wait for what comes out or find it in the scratch folder.

    Whoever does it is watched by the supervisor, and killed if it hangs: those that wait are not to blame, and the
    first of them does it then. Threads of one worker are to see to it themselves that no two do the same.
    """

    def __init__(self, job: Job, emit: Emit) -> None:
        """Do nothing yet.

        Args:
            job: says what the workers share.
            emit: is told that a worker which waits is alive.
        """
        self._locks, self._scratch, self._emit = job.locks, Path(job.scratch), emit

    def alone(self, name: str) -> AbstractContextManager[None]:
        """Keep the other workers away from what goes by a name."""
        return nullcontext() if self._locks is None else hold(self._locks, name, lambda: self._emit({"event": "beat"}))

    def once(self, name: str, do: Callable[[], T | None], read: Callable[[Any], T]) -> T | None:
        """Do what no worker has done yet, and return what came out of it.

        Args:
            name: of it, good for a file.
            do: does it; what it returns is JSON or a dataclass.
            read: makes what `do` returned, unless it was None, of its JSON.

        Raises:
            SetupError: the disk is full or read-only.
            Whatever `do` raises; it is not done then.
        """
        note = self._scratch / f"{name}.json"
        with self.alone(name):
            if not note.exists():
                text = json.dumps(do(), default=asdict)
                replace_file(note, self._scratch, lambda fresh: write_text(text, fresh))
        found = json.loads(note.read_text(encoding="utf-8"))
        return None if found is None else read(found)
