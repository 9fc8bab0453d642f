"""Finding the slides under what the user names: files, folders, lists."""

from __future__ import annotations

import csv
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import NamedTuple

from wbc_cli.errors import UsageError
from wbc_cli.slides.companions import find_companions
from wbc_cli.slides.names import unique_names

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"})
SLIDE_SUFFIXES = frozenset({".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".vms", ".vmu", ".dcm", ".svslide", ".czi"})
_TIFF_SUFFIXES = frozenset({".tif", ".tiff"})
LIST_SUFFIXES = frozenset({".txt", ".csv"})
_RUN_RECORDS = ("run.json", "slide.json")  # the second one also in runs that were stopped
_RECORD_HEAD = 100  # bytes that hold the first key, which tells ours from a microscope's run.json


@dataclass(frozen=True)
class SlideSource:
    """One slide to analyse.

    Attributes:
        name: unique among the slides of the run, safe as a folder name.
        path: the file that opens it.
        field: which of the file's fields it is, from 0, where that has several.
    """

    name: str
    path: Path
    field: int | None = None


@dataclass(frozen=True)
class Discovery:
    """What the given paths hold.

    Attributes:
        slides: by name.
        skipped: files and folders left out, and why; those of other kinds (by extension) are not mentioned.
    """

    slides: tuple[SlideSource, ...]
    skipped: tuple[tuple[Path, str], ...]


class _Found(NamedTuple):
    path: Path
    known_by: PurePath


def discover(paths: Sequence[Path]) -> Discovery:
    """Find the slides in files, folders and list files.

    Folders are walked, links followed, and what is hidden or holds results of this tool is left out. A file named by
    the user is taken whatever its extension. A list (.txt, .csv) has one path a line (of a CSV the first column),
    relative to the list's folder; blank lines and those that begin with # do not count. A slide reached in two ways is
    taken once, a slide of several files (DICOM, MRXS, VMS) too.

    Of a TIFF that has several fields each is a slide, NAME+1, NAME+2 and so on.

    A slide is known by its path relative to the folder it was found in, or to that of the list, or by its file name.

    Returns:
        The slides, sorted by name; none is no error.

    Raises:
        UsageError: a path or a list's line names nothing that exists, or a list cannot be read.
    """
    skipped: list[tuple[Path, str]] = []
    found: dict[str, _Found] = {}
    for path in paths:
        for file in _expand(path, skipped):
            first = found.setdefault(os.path.realpath(file.path), file)
            if first.path != file.path:
                skipped.append((file.path, f"the same file as {first.path}"))
    known_by = {file.path: file.known_by for file in found.values()}
    for path, opener in find_companions(known_by).items():
        skipped.append((path, f"part of {opener}"))
        del known_by[path]
    contents = _contents(known_by, skipped)
    slides = [slide for path, name in unique_names(known_by).items() for slide in _slides(name, path, contents)]
    return Discovery(tuple(sorted(slides, key=lambda slide: slide.name)), tuple(sorted(skipped)))


def _contents(known_by: dict[Path, PurePath], skipped: list[tuple[Path, str]]) -> dict[Path, int]:
    """How many fields there are in each TIFF; of OME-TIFFs that are one set, the first stands for all."""
    tiffs = sorted(path for path in known_by if path.suffix.lower() in _TIFF_SUFFIXES)
    if not tiffs:
        return {}
    from wbc_cli.slides.fields import contents_of  # noqa: PLC0415 (not above: it takes a quarter of a second)

    fields: dict[Path, int] = {}
    for path in tiffs:
        if path in known_by:  # and no part of one before
            contents = contents_of(path)
            fields[path] = contents.fields
            for part in sorted((contents.files & known_by.keys()) - {path}):
                skipped.append((part, f"part of {path}"))
                del known_by[part]
    return fields


def _slides(name: str, path: Path, fields: dict[Path, int]) -> list[SlideSource]:
    count = fields.get(path, 1)
    if count == 1:
        return [SlideSource(name, path)]
    return [SlideSource(f"{name}+{number + 1:0{len(str(count))}}", path, number) for number in range(count)]


def file_size(path: Path) -> int:
    """Of a slide's file in bytes; 1 for what cannot be asked, as opening it will say what is wrong."""
    try:
        return max(1, path.stat().st_size)
    except OSError:
        return 1


def _expand(path: Path, skipped: list[tuple[Path, str]]) -> Iterator[_Found]:
    if path.suffix.lower() in LIST_SUFFIXES and not _is_folder(path):
        for entry in _listed(path):
            inside = entry.is_relative_to(path.parent) and ".." not in entry.relative_to(path.parent).parts
            yield from _files(entry, entry.relative_to(path.parent) if inside else None, skipped)
    else:
        yield from _files(path, None, skipped)


def _files(path: Path, known_by: PurePath | None, skipped: list[tuple[Path, str]]) -> Iterator[_Found]:
    if _is_folder(path):
        for file in _walk(path, skipped):
            yield _Found(file, (known_by or PurePath()) / file.relative_to(path))
    else:
        yield _Found(path, known_by or PurePath(path.name))


def _is_folder(path: Path) -> bool:
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}. Check the path and that you may read it.") from error
    if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
        raise UsageError(f"{path}: neither a file nor a folder. Name an image, a folder of images or a list of them.")
    return stat.S_ISDIR(mode)


def _listed(path: Path) -> list[Path]:
    try:
        # As in the names that the system hands out, bytes that are no UTF-8 survive; Excel puts a mark at the start.
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            lines = [line.strip() for line in file]
    except OSError as error:
        raise UsageError(f"{path}: cannot read the list: {error.strerror}. Check that you may read it.") from error
    if path.suffix.lower() == ".csv":
        lines = [row[0].strip() if row else "" for row in csv.reader(lines)]
    return [path.parent / line for line in lines if line and not line.startswith("#")]


def _walk(root: Path, skipped: list[tuple[Path, str]]) -> Iterator[Path]:
    seen = {os.path.realpath(root)}

    def enter(folder: Path) -> bool:
        real = os.path.realpath(folder)
        if folder.name.startswith(".") or real in seen:
            return False
        seen.add(real)
        if any(_is_our_record(folder / record) for record in _RUN_RECORDS):
            skipped.append((folder, "holds results of wbc-cli"))
            return False
        return True

    def unreadable(error: OSError) -> None:
        skipped.append((Path(error.filename), f"cannot be read: {error.strerror}"))

    for here, folders, files in os.walk(root, followlinks=True, onerror=unreadable):
        folder = Path(here)
        folders[:] = [name for name in sorted(folders) if enter(folder / name)]
        for path in (folder / name for name in sorted(files)):
            if _is_slide(path):
                yield path


def _is_slide(path: Path) -> bool:
    known = path.suffix.lower() in IMAGE_SUFFIXES | SLIDE_SUFFIXES
    return known and not path.name.startswith(".") and path.is_file()


def _is_our_record(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return b'"schema_version"' in file.read(_RECORD_HEAD)
    except OSError:
        return False
