"""Slides of several files: which files belong to a slide that another file stands for."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

_DICOM_HEAD = 1 << 16  # bytes: the identifiers come long before the pixels
# Study and series UID stand side by side at the top level only, never in a sequence that refers to another series.
_DICOM_SERIES = re.compile(rb"\x20\x00\x0d\x00UI..[\d.]+\0?\x20\x00\x0e\x00UI..([\d.]+)", re.DOTALL)


def find_companions(files: Collection[Path]) -> dict[Path, Path]:
    """Tell which of the files are a part of a slide that another of them opens.

    Args:
        files: candidates by their extensions.

    Returns:
        Each companion and the file that opens the slide. MRXS: all in the folder beside `x.mrxs`. VMS and VMU: the
        files they name. DICOM: the files of a series in one folder, for which the first by name stands.
    """
    ordered = sorted(files)
    return _mirax(ordered) | _hamamatsu(ordered) | _dicom(ordered)


def _mirax(files: list[Path]) -> dict[Path, Path]:
    folders = {path.with_suffix(""): path for path in files if path.suffix.lower() == ".mrxs"}
    return {path: folders[parent] for path in files for parent in path.parents if parent in folders}


def _hamamatsu(files: list[Path]) -> dict[Path, Path]:
    present = set(files)
    companions: dict[Path, Path] = {}
    for index in files:
        if index.suffix.lower() in {".vms", ".vmu"}:
            values = re.findall(r"=\s*(\S.*?)\s*$", _head(index).decode("latin-1"), re.MULTILINE)
            companions |= {path: index for path in {index.parent / value for value in values} & present}
    return companions


def _dicom(files: list[Path]) -> dict[Path, Path]:
    first: dict[tuple[Path, bytes], Path] = {}
    companions = {}
    for path in files:
        if path.suffix.lower() == ".dcm" and (series := _DICOM_SERIES.search(_head(path))):
            opener = first.setdefault((path.parent, series[1]), path)
            if opener != path:
                companions[path] = opener
    return companions


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_DICOM_HEAD)
    except OSError:
        return b""  # stays a slide of its own, so that the run reports why it cannot be read
