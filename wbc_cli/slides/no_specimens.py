"""Folders that hold pictures but no specimens: thumbnails, deleted files, tiles, and results of this tool."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from pathlib import Path

_RUN_RECORDS = ("run.json", "slide.json")  # the second one also in runs that were stopped
_RECORD_HEAD = 100  # bytes that hold the first key, which tells ours from a microscope's run.json
_OF_FILE_SERVERS = frozenset(
    {
        *("@eadir", "@tmp", "@recycle", "@recently-snapshot", "#recycle", "#snapshot", "~snapshot"),
        *("$recycle.bin", "recycler", "recycled", "system volume information", "lost+found"),
        *("__macosx", "network trash folder", "temporary items"),
    }
)
_QUPATH_RECORDS = ("server.json", "summary.json", "data.qpdata")
_ZOOM_TILES = ("0_0.jpeg", "0_0.jpg", "0_0.png")


def why_no_specimens(folder: Path, beside: Collection[str]) -> str | None:
    """Say why a folder is to be left out; None where it is not.

    Args:
        folder: the folder.
        beside: names of the files in the folder around it.
    """
    name = folder.name
    reasons = {
        "holds thumbnails or deleted files": name.casefold() in _OF_FILE_SERVERS,
        "holds results of wbc-cli": any(_is_our_record(folder / record) for record in _RUN_RECORDS),
        "holds what QuPath keeps of slides": _is_of_qupath(folder, beside),
        "holds the tiles of a picture": _is_of_tiles(folder, beside),
    }
    return next((reason for reason, true in reasons.items() if true), None)


def _is_of_qupath(folder: Path, beside: Collection[str]) -> bool:
    if folder.name == "thumbnails":
        return any(other.endswith(".qpproj") for other in beside)
    return _has(folder, "thumbnail.jpg") and any(_has(folder, record) for record in _QUPATH_RECORDS)


def _is_of_tiles(folder: Path, beside: Collection[str]) -> bool:
    """Tell whether a folder holds tiles of Deep Zoom or Zoomify."""
    name = folder.name
    if name.endswith("_files"):
        return f"{name.removesuffix('_files')}.dzi" in beside or any(_has(folder / "0", tile) for tile in _ZOOM_TILES)
    return re.fullmatch(r"TileGroup\d+", name) is not None and "ImageProperties.xml" in beside


def _has(folder: Path, name: str) -> bool:
    return os.path.lexists(folder / name)  # no error where the folder cannot be read


def _is_our_record(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return b'"schema_version"' in file.read(_RECORD_HEAD)
    except OSError:
        return False
