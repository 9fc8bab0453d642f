"""What a run has to do: its slides, its part of them, and which are done already."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from wbc_cli.acquisition.file import Acquisitions, known_acquisitions, still_holds
from wbc_cli.errors import UsageError
from wbc_cli.products.folder import RunFolder
from wbc_cli.products.records import Records
from wbc_cli.products.slide_folders import names_in, read_record, read_source
from wbc_cli.products.tables import FAILED, NOT_IN_INPUT, SlideRecord
from wbc_cli.run.fingerprint import Fingerprint, input_content, input_stamp
from wbc_cli.run.lock import LOCK, locked
from wbc_cli.run.options import AnalyzeOptions
from wbc_cli.run.samples import SampleKey, Samples
from wbc_cli.run.shards import SHARDS, Shard, Shares, assign_shards, read_shares
from wbc_cli.run.stopping import Stop
from wbc_cli.slides.discover import SlideSource, file_size
from wbc_cli.slides.names import field_name, file_name

_MAX_FIELD_DIGITS = 6  # of the number of a field in its name


@dataclass(frozen=True)
class Plan:
    """The work that a run has to do.

    Attributes:
        slides: by name.
        kept: the records of slides that need not be done again.
        known: by name, the input of slides whose files have been touched or that lack products, see
            `fingerprint.input_stamp`; where the files hold the same as then, what was found stands.
        model: what the run is made with.
        acquisitions: what the run folder knows of them, measured with the same.
    """

    slides: Mapping[str, SlideSource]
    kept: Records
    known: Mapping[str, Fingerprint]
    model: Fingerprint
    acquisitions: Acquisitions


def make_plan(
    slides: Sequence[SlideSource],
    options: AnalyzeOptions,
    samples: Samples,
    model: Fingerprint,
    folder: RunFolder,
    stop: Stop,
) -> Plan:
    """Compare what is asked for with what the run folder has.

    Slides that failed are done again: what was wrong may have been mended since. No file is read here: a disk full of
    slides takes its time, and a file whose read never returns is for the worker to come upon.

    Raises:
        StoppedError, KeyboardInterrupt: a signal came.
        SetupError: the run folder cannot be written, or what it says of acquisitions is damaged.
    """
    acquisitions = known_acquisitions(folder.out, model)
    kept = Records()
    known: dict[str, Fingerprint] = {}
    for slide in slides:
        stop.check()
        record = None if options.restart else folder.record(slide.name)
        if not record or record["status"] == FAILED or record.get("model") != model:
            continue
        stated = samples.um_per_px.get(slide.name)
        if not {"input", "write"} <= record.keys() or record.get("sample_um_per_px") != stated:
            continue
        if not still_holds(record.get("acquisition"), acquisitions, samples.keys.get(slide.name)):
            continue
        if set(record["write"]) == options.write and record["input"]["stamp"] == input_stamp(slide.files):
            kept.add(_in_its_sample(record, samples.keys.get(slide.name), folder))
        else:
            known[slide.name] = record["input"]
    return Plan({slide.name: slide for slide in slides}, kept, known, model, acquisitions)


def _in_its_sample(record: SlideRecord, key: SampleKey | None, folder: RunFolder) -> SlideRecord:
    """Return a slide's record with the sample that it belongs to now, and keep it so on the disk as well."""
    if record.get("sample") == key:
        return record
    folder.confirm(record, Path(record["path"]), {"sample": key})
    return {**record, "sample": key}


def known_names(out: Path) -> dict[str, str]:
    """Name the files that a run folder has results of, or has given to a shard, by their absolute paths."""
    shares = read_shares(out)
    known = {source: file_name(name) for name, source in shares.sources.items()} if shares else {}
    slides = out / "slides"
    for name in names_in(slides) if slides.is_dir() else ():
        with suppress(OSError, ValueError):  # what is damaged there is done again anyway
            known[read_source(slides, name)] = file_name(name)
    return known


def is_copy(out: Path, files: Sequence[Path], name: str) -> bool:
    """Tell whether a slide's files are copies of those that a run folder has results of under a name.

    They are also where it has none yet, or does not say what they were made from: then there is nothing to lose.

    Args:
        out: the run folder.
        files: the one that opens the slide, and its others.
        name: of a file, of which the slides may be fields.
    """
    for slide in (name, *(field_name(name, 0, 10**digits) for digits in range(_MAX_FIELD_DIGITS))):
        with suppress(OSError, ValueError, KeyError):
            old: Fingerprint = read_record(out / "slides", slide)["input"]
            return old["stamp"] == input_stamp(files) or old["content"] == input_content(files, lambda: None)
    return True


def absent(folder: RunFolder, present: Collection[SlideSource], records: Records) -> list[SlideRecord]:
    """Return the records of slides whose files are not in the input any more, flagged so, in the order of their names.

    Left out are those that failed, of which there is nothing to keep, and those whose very file is there under another
    name, or with other fields: they would count twice.

    Args:
        folder: the run folder.
        present: the slides that are in the input.
        records: of those of them that are done.
    """
    names = {slide.name for slide in present}
    candidates = [name for name in folder.names() if name not in names]
    if not candidates:
        return []
    sources = {str(slide.path.absolute()) for slide in present}
    contents = {record["input"]["content"] for record in records if "input" in record}
    found: list[SlideRecord] = []
    for name in candidates:
        record = folder.record(name)
        if not record or record["status"] == FAILED or record.get("source") in sources:
            continue
        if record.get("input", {}).get("content") not in contents:
            found.append({**record, "flags": [*record["flags"], NOT_IN_INPUT]})
    return found


def share_out(slides: Sequence[SlideSource], shard: Shard, out: Path) -> Callable[[str], bool]:
    """Assign slides to the shards, and return a function that tells by a slide's name whether it belongs to this one.

    The first shard to come writes it down; the others, and one that is sent again, keep to it, whatever has become of
    the files meanwhile.

    Raises:
        UsageError: the folder was begun with another number of shards.
        SetupError: what was written down is damaged, or nothing can be.
    """
    shares = read_shares(out)
    if shares is None:
        # Before the lock, as asking a slow disk for the sizes of very many files takes longer than others wait for it.
        sizes = {slide.name: file_size(slide.path) for slide in slides}
        sources = {slide.name: str(slide.path.absolute()) for slide in slides}
        with locked(out / f"{LOCK}-shards"):
            shares = read_shares(out)
            if shares is None:
                shares = Shares(shard.count, assign_shards(sizes, shard.count), sources)
                shares.write(out / SHARDS)
    if shares.count != shard.count:
        raise UsageError(
            f"--shard {shard}: {out} was begun with {shares.count} shards; "
            f"give I/{shares.count}, or another folder with -o"
        )
    return lambda name: shares.shard_of(name) == shard.index
