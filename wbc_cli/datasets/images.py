"""Finding a data set's images below a folder, and what is known of them by their path and size."""

from __future__ import annotations

import re
from pathlib import Path

from wbc_cli.errors import SlideError
from wbc_cli.manifest import Sample
from wbc_cli.slides.formats import PICTURES, named_format
from wbc_cli.slides.header import read_header


def find_images(folder: Path) -> list[Path]:
    """List all images below, in a fixed order.

    Hidden files are left out: archives made on a Mac hold one beside every image.
    """
    files = (file for file in folder.rglob("*") if named_format(file) in PICTURES)
    return sorted(file for file in files if not file.name.startswith("."))


def folders_above(folder: Path, image: Path) -> list[str]:
    """Name the folders around the image, nearest first and `folder` last, by lower-case letters and digits alone."""
    names = (folder.name, *image.relative_to(folder).parts[:-1])
    return [re.sub("[^a-z0-9]", "", name.lower()) for name in reversed(names)]


def bare_sample(folder: Path, image: Path, dataset: str, split: str = "test") -> Sample:
    """Make a sample of which nothing is known but its path."""
    return Sample(image, dataset, split, (), str(image.relative_to(folder)), None, None, ())


def shrunk_scale(image: Path, um_per_px: float, width: int) -> float:
    """Return the scale of an original or of a copy that was shrunk whole; originals may differ by some pixels in width.

    Args:
        image: the file.
        um_per_px: scale of the originals.
        width: their pixels along the longer side.
    """
    try:
        header = read_header(image)
    except SlideError:  # analysing it will say what is wrong
        return um_per_px
    found = max(header.width, header.height)
    return um_per_px * width / found if 0 < found < 0.9 * width else um_per_px
