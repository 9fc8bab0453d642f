"""Finding, opening and reading images and slides."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wbc_cli.slides.reader import SlideReader


def open_slide(path: Path) -> SlideReader:
    """Open an image or a slide with the reader that suits its content; the file's extension does not matter.

    A few tiles of a slide may be unreadable, see `patchy.PatchyReader`; a plain image is decoded whole or not at all.

    Raises:
        SlideError: the file is missing, empty, damaged, too large or of no known format.
    """
    # Here and not above: OpenSlide, OpenCV and tifffile take a quarter of a second, and `--help` needs none of them.
    from openslide import OpenSlide  # noqa: PLC0415

    from wbc_cli.slides.image import ImageReader  # noqa: PLC0415
    from wbc_cli.slides.patchy import PatchyReader  # noqa: PLC0415
    from wbc_cli.slides.slide import OpenSlideReader  # noqa: PLC0415
    from wbc_cli.slides.tiff import is_8_bit_colour  # noqa: PLC0415
    from wbc_cli.slides.tiled import TiledTiffReader  # noqa: PLC0415

    vendor = OpenSlide.detect_format(path)
    # The other formats inside TIFF have tiles that overlap, are missing or lie beside each other in ways of their own.
    if vendor in {None, "aperio", "generic-tiff"} and (tiled := TiledTiffReader.open_plain(path)):
        return PatchyReader(tiled, tiled.tile_size)
    if vendor is None or (vendor == "generic-tiff" and not is_8_bit_colour(path)):
        return ImageReader(path)
    slide = OpenSlideReader(path)
    return PatchyReader(slide, slide.tile_size)
