"""Which sample every slide belongs to: by the folder that holds it, or by a table; and what scale a table gives."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePath

from wbc_cli.csv_files.rows import read_rows
from wbc_cli.errors import UsageError
from wbc_cli.slides.discover import SlideSource
from wbc_cli.slides.formats import named_format
from wbc_cli.slides.names import file_name

BY_FOLDER, NO_SAMPLES = "folder", "none"
_SCALES = (0.01, 10.0)  # micrometres a pixel, as --mpp takes them

SampleKey = dict[str, str]
"""What a record says of its slide's sample: its `name`, and the `folder` or file that tells it from another of that
name; empty where a table names it."""


@dataclass(frozen=True)
class Samples:
    """The samples of a run's slides.

    Attributes:
        keys: of the slides that belong to one, by the slide's name.
        um_per_px: micrometres a pixel of the slides that a table gives them for, by the slide's name.
        notes: what a user should know of a table.
    """

    keys: Mapping[str, SampleKey] = field(default_factory=dict)
    um_per_px: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def find_samples(slides: Sequence[SlideSource], choice: str) -> Samples:
    """Tell the samples of slides.

    Args:
        slides: all of the run.
        choice: what `--samples` says: "folder" (the pictures of a folder are one, and a whole slide is one), "none", or
            the path of a CSV with the columns path and sample, and mpp where micrometres a pixel are known. A path
            counts from the table's own folder; one of a folder stands for all pictures right in it.

    Raises:
        UsageError: the table cannot be read, contradicts itself, or names none of the slides.
    """
    if choice == NO_SAMPLES:
        return Samples()
    if choice == BY_FOLDER:
        in_folder = cache(_in_folder)
        return Samples(
            {slide.name: _of_slide(slide) or in_folder(slide.path.parent, slide.known_by.parent) for slide in slides}
        )
    return _by_table(slides, Path(choice))


def _of_slide(slide: SlideSource) -> SampleKey | None:
    """Return the sample that a whole slide is; None for a picture."""
    own = named_format(slide.path)
    return {"name": file_name(slide.name), "folder": str(slide.path.absolute())} if own and own.is_slide else None


def _in_folder(folder: Path, known_by: PurePath) -> SampleKey:
    """Return the sample of all pictures of a folder."""
    place = folder.absolute()
    return {"name": known_by.as_posix() if known_by.parts else place.name, "folder": str(place)}


@dataclass(frozen=True)
class _Entry:
    line: int
    sample: str
    um_per_px: float | None


def _by_table(slides: Sequence[SlideSource], table: Path) -> Samples:
    entries = _read(table)
    keys: dict[str, SampleKey] = {}
    scales: dict[str, float] = {}
    used: set[str] = set()
    for slide in slides:
        place = os.path.realpath(slide.path)
        # A picture's own line goes before that of its folder.
        known = next((path for path in (place, str(Path(place).parent)) if path in entries), None)
        if known is None:
            continue
        used.add(known)
        entry = entries[known]
        keys[slide.name] = {"name": entry.sample, "folder": ""}
        if entry.um_per_px is not None:
            scales[slide.name] = entry.um_per_px
    if not keys:
        raise UsageError(
            f"{table}: names none of the {len(slides)} pictures to analyse; its paths count from its own folder"
        )
    notes = []
    if without := len(slides) - len(keys):
        notes.append(f"{table}: {without} of {len(slides)} pictures are not in it; they count in no sample")
    if unused := [entry.line for path, entry in entries.items() if path not in used]:
        notes.append(f"{table}: {len(unused)} lines name no picture to analyse, the first of them line {min(unused)}")
    return Samples(keys, scales, tuple(notes))


def _read(table: Path) -> dict[str, _Entry]:
    """Read the lines by real path."""
    entries: dict[str, _Entry] = {}
    for line, row in read_rows(table, ("path", "sample")):
        if not row["path"] or not row["sample"]:
            raise UsageError(f"{table}, line {line}: no path or no sample; give both")
        entry = _Entry(line, row["sample"], _scale(table, line, row.get("mpp", "")))
        known = entries.setdefault(os.path.realpath(table.parent / row["path"]), entry)
        if (known.sample, known.um_per_px) != (entry.sample, entry.um_per_px):
            raise UsageError(f"{table}, line {line}: says something else of {row['path']} than line {known.line}")
    return entries


def _scale(table: Path, line: int, text: str) -> float | None:
    if not text:
        return None
    try:
        value = float(text.replace(",", "."))  # as Excel saves it where the comma is for decimals
    except ValueError:
        value = 0.0
    if not _SCALES[0] <= value <= _SCALES[1]:
        raise UsageError(f"{table}, line {line}: mpp {text}: give micrometres a pixel between 0.01 and 10, or nothing")
    return value
