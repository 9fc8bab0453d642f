"""What a run has to do: its slides, its part of them, and which are done already."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wbc_cli.errors import MachineError, UsageError
from wbc_cli.products.folder import RunFolder
from wbc_cli.products.tables import FAILED, SCHEMA_VERSION, SlideRecord
from wbc_cli.run.fingerprint import Fingerprint, input_stamp
from wbc_cli.run.options import AnalyzeOptions
from wbc_cli.run.shards import Shard, late, spread
from wbc_cli.run.stopping import Stop
from wbc_cli.slides.discover import SlideSource, file_size

SHARDS = "shards.json"


@dataclass(frozen=True)
class Plan:
    """What a run has to do.

    Attributes:
        slides: by name.
        kept: the records of slides that need not be done again, by name.
        known: by name, what the files of slides held that have been touched; where they still do, the results stand.
        model: what the run is made with.
    """

    slides: Mapping[str, SlideSource]
    kept: Mapping[str, SlideRecord]
    known: Mapping[str, str]
    model: Fingerprint


def make_plan(
    slides: Sequence[SlideSource], options: AnalyzeOptions, model: Fingerprint, folder: RunFolder, stop: Stop
) -> Plan:
    """Compare what is asked for with what the run folder has.

    Slides that failed are done again: what was wrong may have been mended since. No file is read here: a disk full of
    slides takes its time, and a file whose read never returns is for the worker to come upon.

    Raises:
        StoppedError, KeyboardInterrupt: a signal came.
    """
    kept: dict[str, SlideRecord] = {}
    known: dict[str, str] = {}
    for slide in slides:
        stop.check()
        record = None if options.restart else folder.record(slide.name)
        if not record or record["status"] == FAILED or record.get("model") != model or "input" not in record:
            continue
        if record["input"]["stamp"] == input_stamp(slide.files):
            kept[slide.name] = record
        else:
            known[slide.name] = record["input"]["content"]
    return Plan({slide.name: slide for slide in slides}, kept, known, model)


def sharded(slides: Sequence[SlideSource], shard: Shard, out: Path) -> list[SlideSource]:
    """A shard's slides.

    The first shard to come writes down which slides belong to which; the others, and one that is sent again, keep to
    it, whatever has become of the files meanwhile.

    Raises:
        UsageError: the folder was begun with another number of shards.
        MachineError: it cannot be written.
    """
    file = out / SHARDS
    try:
        if not file.exists():
            shards = spread({slide.name: file_size(slide.path) for slide in slides}, shard.count)
            _write_once(file, {"schema_version": SCHEMA_VERSION, "count": shard.count, "slides": shards})
        plan = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise MachineError(f"{file}: {error.strerror}; check permissions and free space") from error
    if plan["count"] != shard.count:
        raise UsageError(
            f"--shard {shard}: {out} was begun with {plan['count']} shards; "
            f"give I/{plan['count']}, or another folder with -o"
        )
    return [s for s in slides if plan["slides"].get(s.name, late(s.name, shard.count)) == shard.index]


def _write_once(file: Path, value: Mapping[str, Any]) -> None:
    """Write a file whole, unless somebody else is faster."""
    with tempfile.TemporaryDirectory(prefix=".shards-", dir=file.parent) as scratch:
        fresh = Path(scratch, file.name)
        fresh.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
        try:
            os.link(fresh, file)
        except FileExistsError:
            return
