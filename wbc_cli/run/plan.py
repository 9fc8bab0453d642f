"""What a run has to do: its slides, its part of them, and which are done already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from wbc_cli.errors import MachineError, UsageError
from wbc_cli.products.folder import RunFolder
from wbc_cli.products.tables import FAILED, SlideRecord
from wbc_cli.run.fingerprint import Fingerprint, input_stamp
from wbc_cli.run.lock import LOCK, locked
from wbc_cli.run.options import AnalyzeOptions
from wbc_cli.run.shards import SHARDS, Shard, Shares, read_shares, spread
from wbc_cli.run.stopping import Stop
from wbc_cli.slides.discover import SlideSource, file_size


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


def share_out(slides: Sequence[SlideSource], shard: Shard, out: Path) -> Shares:
    """Which slides belong to which shard.

    The first shard to come writes it down; the others, and one that is sent again, keep to it, whatever has become of
    the files meanwhile.

    Raises:
        UsageError: the folder was begun with another number of shards.
        MachineError: what was written down is damaged, or nothing can be.
    """
    with locked(out / f"{LOCK}-shards"):
        shares = read_shares(out)
        if shares is None:
            sizes = {slide.name: file_size(slide.path) for slide in slides}
            sources = {slide.name: str(slide.path.absolute()) for slide in slides}
            shares = Shares(shard.count, spread(sizes, shard.count), sources)
            try:
                shares.write(out / SHARDS)
            except OSError as error:
                raise MachineError(f"{out / SHARDS}: {error.strerror}; check permissions and free space") from error
    if shares.count != shard.count:
        raise UsageError(
            f"--shard {shard}: {out} was begun with {shares.count} shards; "
            f"give I/{shares.count}, or another folder with -o"
        )
    return shares
