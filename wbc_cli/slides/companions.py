"""Slides of several files: which files belong to a slide that another file stands for."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Collection, Container
from functools import lru_cache
from pathlib import Path

_DICOM_SUFFIX = ".dcm"
_INDEX_SUFFIXES = frozenset({".vms", ".vmu"})
LISTING_SUFFIXES = _INDEX_SUFFIXES | {_DICOM_SUFFIX}
"""Of the files that say themselves which others belong to their slide."""

_INDEX_BYTES = 1 << 16  # of an index file: a few lines that name the others
_SERIES = 0x0020000E  # DICOM's tag of the Series Instance UID
_KNOWN_SERIES = 100_000  # files whose series is remembered from one question to the next


def find_companions(files: Collection[Path], known: Container[str] = ()) -> dict[Path, Path]:
    """Tell which of the files are a part of a slide that another of them opens.

    Args:
        files: candidates by their extensions.
        known: absolute paths of files that have results.

    Returns:
        Each companion and the file that opens the slide. MRXS: all in the folder beside `x.mrxs`. VMS and VMU: the
        files they name. DICOM: the files of a series in one folder, for which the first by name stands, or the one
        that has done so before, so that a file that comes later changes no slide's name.
    """
    ordered = sorted(files, key=lambda path: (str(path.absolute()) not in known, path))
    return _mirax(ordered) | _hamamatsu(ordered) | _dicom(ordered)


def find_parts(slides: Collection[Path]) -> dict[Path, tuple[Path, ...]]:
    """The other files of each slide that has several, by the file that opens it; also those of no picture's extension.

    Args:
        slides: files that each open a slide.
    """
    parts: dict[Path, tuple[Path, ...]] = {}
    for path in slides:
        suffix = path.suffix.lower()
        if suffix == ".mrxs":
            parts[path] = tuple(_files(path.with_suffix("")))
        elif suffix in _INDEX_SUFFIXES:
            parts[path] = tuple(file for file in sorted(_named(path)) if os.path.isfile(file))  # noqa: PTH113 - as below
    return parts | _series_parts([path for path in slides if path.suffix.lower() == _DICOM_SUFFIX])


def _files(folder: Path) -> list[Path]:
    """The files in a folder, by name; none where it cannot be read, which opening the slide will tell."""
    try:
        return [path for path in sorted(folder.iterdir()) if os.path.isfile(path)]  # noqa: PTH113 - that one may raise
    except OSError:
        return []


def _mirax(files: list[Path]) -> dict[Path, Path]:
    folders = {path.with_suffix(""): path for path in files if path.suffix.lower() == ".mrxs"}
    return {path: folders[parent] for path in files for parent in path.parents if parent in folders}


def _hamamatsu(files: list[Path]) -> dict[Path, Path]:
    present = set(files)
    indexes = (path for path in files if path.suffix.lower() in _INDEX_SUFFIXES)
    return {path: index for index in indexes for path in _named(index) & present}


def _named(index: Path) -> set[Path]:
    """The files that a VMS or VMU file names."""
    try:
        with index.open("rb") as file:
            head = file.read(_INDEX_BYTES)
    except OSError:
        return set()  # a slide of its own, so that the run reports why it cannot be read
    values = re.findall(r"=\s*(\S.*?)\s*$", head.decode("latin-1"), re.MULTILINE)
    return {index.parent / value for value in values}


def _dicom(files: list[Path]) -> dict[Path, Path]:
    first: dict[tuple[Path, str], Path] = {}
    companions = {}
    for path in files:
        if path.suffix.lower() == _DICOM_SUFFIX and (series := _series(path)):
            opener = first.setdefault((path.parent, series), path)
            if opener != path:
                companions[path] = opener
    return companions


def _series_parts(slides: list[Path]) -> dict[Path, tuple[Path, ...]]:
    """The other files of each slide's series, wherever in its folder the user has not named them."""
    together: dict[tuple[Path, str], list[Path]] = defaultdict(list)
    for folder in sorted({path.parent for path in slides}):
        for path in _files(folder):
            if path.suffix.lower() == _DICOM_SUFFIX and (series := _series(path)):
                together[folder, series].append(path)
    own = {path: together.get((path.parent, _series(path)), []) for path in slides}
    return {path: tuple(file for file in files if file != path) for path, files in own.items()}


@lru_cache(_KNOWN_SERIES)
def _series(path: Path) -> str:
    """The series that a DICOM file belongs to; nothing where it is damaged, or none, so that the run reports it."""
    # Here and not above: it takes a tenth of a second, and most slides are none of its kind.
    from pydicom.errors import InvalidDicomError  # noqa: PLC0415
    from pydicom.filereader import read_partial  # noqa: PLC0415

    try:
        with path.open("rb") as file:
            data = read_partial(file, lambda tag, _, __: tag > _SERIES, defer_size=1024, specific_tags=[_SERIES])
    except (OSError, InvalidDicomError, ValueError, TypeError, AttributeError, EOFError, NotImplementedError):
        return ""
    return str(data.get(_SERIES).value) if _SERIES in data else ""
