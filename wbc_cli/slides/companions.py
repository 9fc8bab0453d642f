"""Slides of several files: which files belong to a slide that another file stands for."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from functools import lru_cache
from pathlib import Path
from typing import Protocol

_MAX_INDEX_BYTES = 1 << 16  # of an index file: a few lines that name the others
_SERIES = 0x0020000E  # DICOM's tag of the Series Instance UID
_MAX_KNOWN_SERIES = 100_000  # files whose series is remembered from one question to the next


class Companions(Protocol):
    """The other files that belong to the slides of a format.

    Attributes:
        in_file: whether a slide's file says itself which these are, so that it has to be read for it.
    """

    in_file: bool

    def openers(self, own: list[Path], files: list[Path]) -> dict[Path, Path]:
        """Tell which files are a part of a slide that another one opens.

        Args:
            own: the files of the format, by their extension; the first stands for its slide where several could.
            files: all that were found, these among them.

        Returns:
            Each companion and the file that opens its slide.
        """
        ...

    def parts(self, slides: list[Path]) -> dict[Path, tuple[Path, ...]]:
        """List the other files of each slide, also those of no picture's extension.

        Args:
            slides: files of the format that each open a slide.
        """
        ...


class MiraxFolder:
    """The companions of MRXS: all that lies in the folder beside the file that has its name."""

    in_file = False

    def openers(self, own: list[Path], files: list[Path]) -> dict[Path, Path]:
        """See `Companions.openers`."""
        folders = {path.with_suffix(""): path for path in own}
        return {path: folders[parent] for path in files for parent in path.parents if parent in folders}

    def parts(self, slides: list[Path]) -> dict[Path, tuple[Path, ...]]:
        """See `Companions.parts`."""
        return {path: tuple(_files(path.with_suffix(""))) for path in slides}


class HamamatsuIndex:
    """The companions of VMS and VMU: the files that the index file names."""

    in_file = True

    def openers(self, own: list[Path], files: list[Path]) -> dict[Path, Path]:
        """See `Companions.openers`."""
        present = set(files)
        return {path: index for index in own for path in self._named(index) & present}

    def parts(self, slides: list[Path]) -> dict[Path, tuple[Path, ...]]:
        """See `Companions.parts`."""
        return {index: tuple(filter(_is_file, sorted(self._named(index)))) for index in slides}

    @staticmethod
    def _named(index: Path) -> set[Path]:
        try:
            with index.open("rb") as file:
                head = file.read(_MAX_INDEX_BYTES)
        except OSError:
            return set()  # a slide of its own, so that the run reports why it cannot be read
        values = re.findall(r"=\s*(\S.*?)\s*$", head.decode("latin-1"), re.MULTILINE)
        return {index.parent / value for value in values}


class DicomSeries:
    """The companions of DICOM: the files of its series in its folder."""

    in_file = True

    def openers(self, own: list[Path], files: list[Path]) -> dict[Path, Path]:
        """See `Companions.openers`."""
        first: dict[tuple[Path, str], Path] = {}
        companions = {}
        for path in own:
            if series := _series(path):
                opener = first.setdefault((path.parent, series), path)
                if opener != path:
                    companions[path] = opener
        return companions

    def parts(self, slides: list[Path]) -> dict[Path, tuple[Path, ...]]:
        """See `Companions.parts`; wherever in its folder the user has not named them."""
        suffixes = {path.suffix.lower() for path in slides}
        members: dict[tuple[Path, str], list[Path]] = defaultdict(list)
        for folder in sorted({path.parent for path in slides}):
            for path in _files(folder):
                if path.suffix.lower() in suffixes and (series := _series(path)):
                    members[folder, series].append(path)
        own = {path: members.get((path.parent, _series(path)), []) for path in slides}
        return {path: tuple(file for file in files if file != path) for path, files in own.items()}


def _files(folder: Path) -> list[Path]:
    """List the files in a folder, sorted by name; none where it cannot be read, which opening the slide will tell."""
    try:
        return list(filter(_is_file, sorted(folder.iterdir())))
    except OSError:
        return []


def _is_file(path: Path) -> bool:
    return os.path.isfile(path)  # noqa: PTH113 - the other way may raise


@lru_cache(_MAX_KNOWN_SERIES)
def _series(path: Path) -> str:
    """Find the series of a DICOM file; nothing where it is damaged, or no DICOM, so that the run reports it."""
    # Here and not above: it takes a tenth of a second, and most slides are none of its kind.
    from pydicom.errors import BytesLengthException, InvalidDicomError  # noqa: PLC0415
    from pydicom.filereader import read_partial  # noqa: PLC0415

    try:
        with path.open("rb") as file:
            data = read_partial(file, lambda tag, _, __: tag > _SERIES, defer_size=1024, specific_tags=[_SERIES])
        return str(data[_SERIES].value)
    except (
        *(InvalidDicomError, BytesLengthException, NotImplementedError, EOFError, OSError),
        *(ValueError, TypeError, AttributeError, LookupError),
    ):
        return ""
