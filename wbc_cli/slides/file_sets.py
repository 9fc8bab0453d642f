"""Which of the files that were found are slides, and which belong to a slide of several files."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Container
from pathlib import Path

from wbc_cli.slides.companions import Companions
from wbc_cli.slides.formats import FORMATS, named_format


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
    of_several = {path for path in files if (own := named_format(path)) and own.companions}
    if not of_several:
        return {}
    ordered = sorted(files, key=lambda path: (str(path.absolute()) not in known, path))
    companions: dict[Path, Path] = {}
    for own in FORMATS:
        mine = [path for path in ordered if path in of_several and named_format(path) is own]
        if own.companions and mine:
            companions |= own.companions.openers(mine, ordered)
    return companions


def find_parts(slides: Collection[Path]) -> dict[Path, tuple[Path, ...]]:
    """Find the other files of each slide that has several, by the one that opens it, whatever their extension.

    Args:
        slides: files that each open a slide.
    """
    own_slides: dict[Companions, list[Path]] = defaultdict(list)
    for path in slides:
        own = named_format(path)
        if own and own.companions:
            own_slides[own.companions].append(path)
    return {path: files for own, paths in own_slides.items() for path, files in own.parts(paths).items()}
