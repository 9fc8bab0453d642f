"""Finding, opening and reading images and slides."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wbc_cli.slides.reader import SlideReader


def open_slide(path: Path, field: int | None = None) -> SlideReader:
    """Open an image or a slide with the reader that suits its content.

    The file's extension does not matter, but that what is named as a slide is never opened as a plain picture. A few
    tiles of a slide may be unreadable, see `fault_tolerant.FaultTolerantReader`; a plain image is decoded whole or not
    at all.

    Args:
        path: the file.
        field: which of the fields of a TIFF that has several, from 0.

    Raises:
        SlideError: the file is missing, empty, damaged, too large or of a kind that cannot be read, or has several
            fields and none is named.
    """
    # Here and not above: OpenSlide, OpenCV and tifffile take a quarter of a second, and `--help` needs none of them.
    from wbc_cli.slides.choice import choose_reader  # noqa: PLC0415

    return choose_reader(path, field)
