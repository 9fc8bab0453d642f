"""Which pictures are of one acquisition: those of one folder, size and camera, and crops of any size."""

from __future__ import annotations

import hashlib
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import NamedTuple, TypeVar

from PIL import Image, UnidentifiedImageError

from wbc_cli.errors import SlideError
from wbc_cli.slides.discover import SlideSource
from wbc_cli.slides.fields import fields_of, open_tiff
from wbc_cli.slides.formats import named_format
from wbc_cli.slides.header import read_header
from wbc_cli.slides.pixel_size import PixelSize
from wbc_cli.slides.tiff import DAMAGE

_MAKE, _MODEL, _ORIENTATION = 271, 272, 274  # tags, the same in EXIF and TIFF
_ID_DIGITS = 16

MIN_PICTURES, MAX_PICTURES = 5, 24
"""The fewest pictures that make an acquisition; fewer are each taken by itself. And the most that are measured."""

CROP = (0, 0)
"""In place of the size of crops of cells, which programs cut to any size, see `size_of`."""
_MAX_CROP_PX = 320  # of either side; cameras give no field that small

T = TypeVar("T")

# Of a file whose EXIF data are damaged nothing is known but its size, and nothing is wrong with its pixels for that.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.TiffImagePlugin")


class Picture(NamedTuple):
    """A plain picture of a run, as JSON has it.

    Attributes:
        name: of the slide.
        path: of its file.
        field: which of the file's fields it is, from 0; None where it has one.
        um_per_px: what the table of samples states; None where it states nothing.
    """

    name: str
    path: str
    field: int | None
    um_per_px: float | None


@dataclass(frozen=True)
class AcquisitionKey:
    """A key holds what the pictures of one acquisition have in common.

    Attributes:
        folder: absolute path of the folder that holds them.
        width, height: pixels as the file stores them, see `size_of`.
        camera: maker, model and orientation as the file states them; empty where it does not.
        um_per_px: micrometres a pixel as the file states them, or None.
    """

    folder: str
    width: int
    height: int
    camera: str
    um_per_px: float | None

    @property
    def size(self) -> tuple[int, int]:
        """The width and height."""
        return self.width, self.height

    @property
    def camera_key(self) -> AcquisitionKey:
        """The key that the pictures of this camera share with those in the folders beside their own."""
        return replace(self, folder=parent_of(self.folder))

    @property
    def id(self) -> str:
        """A short name for it, the same in every run."""
        return hashlib.sha256(repr(astuple(self)).encode("utf-8", "surrogateescape")).hexdigest()[:_ID_DIGITS]


def size_of(width: int, height: int) -> tuple[int, int]:
    """Return the size by which the pictures of an acquisition are known from a width and height in pixels."""
    return CROP if max(width, height) <= _MAX_CROP_PX else (width, height)


def folder_of(path: Path) -> str:
    """Return the absolute path of the folder that holds a file."""
    return str(path.absolute().parent)


def parent_of(folder: str) -> str:
    """Return the path of the folder that holds a folder."""
    return str(Path(folder).parent)


def pictures_by_folder(
    slides: Iterable[SlideSource], wanted: Iterable[SlideSource], um_per_px: Mapping[str, float]
) -> dict[str, list[Picture]]:
    """Gather the plain pictures of the folders that hold the wanted slides, and of those beside them; no file is read.

    Args:
        slides: all of the run, whichever shard they belong to.
        wanted: those that are to be analysed.
        um_per_px: micrometres a pixel that the table of samples states, by name.
    """
    parents = {parent_of(folder_of(slide.path)) for slide in wanted if _may_be_plain(slide)}
    found: dict[str, list[Picture]] = defaultdict(list)
    for slide in slides:
        folder = folder_of(slide.path)
        if parent_of(folder) in parents and _may_be_plain(slide):
            found[folder].append(Picture(slide.name, str(slide.path), slide.field, um_per_px.get(slide.name)))
    return dict(found)


def drawn(pictures: Iterable[T], name_of: Callable[[T], str]) -> list[T]:
    """Put pictures in an order that is as good as random and depends on nothing but their names."""
    return sorted(pictures, key=lambda picture: hashlib.sha256(name_of(picture).encode("utf-8", "replace")).digest())


def key_of(path: Path, field: int | None) -> AcquisitionKey | None:
    """Read which acquisition a picture belongs to; None for a whole slide, and for a file that cannot be read.

    Only the head of the file is read, and no pixel is decoded.
    """
    try:
        header = read_header(path)
        if header.kind == "tiff":
            return _of_tiff(path, field or 0)
        camera = _camera(path) if header.kind == "jpeg" else ""
    except (SlideError, *DAMAGE):
        return None
    size = size_of(header.width, header.height)
    return AcquisitionKey(folder_of(path), *size, camera, _side(header.pixel_um))


def _may_be_plain(slide: SlideSource) -> bool:
    own = named_format(slide.path)
    return not (slide.problem or slide.parts or (own and own.is_slide))


def _of_tiff(path: Path, number: int) -> AcquisitionKey | None:
    with open_tiff(path) as tiff:
        fields = fields_of(tiff)
        if number >= len(fields) or fields[number].series.keyframe.is_tiled:
            return None
        page = fields[number].series.keyframe
        said = (page.tags.valueof(tag) for tag in (_MAKE, _MODEL, _ORIENTATION))
        side = _side(fields[number].pixel_um)
        size = size_of(page.imagewidth, page.imagelength)
        return AcquisitionKey(folder_of(path), *size, _joined(said), side)


def _camera(path: Path) -> str:
    try:
        with Image.open(path) as image:
            exif = image.getexif()
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError):
        return ""
    return _joined(exif.get(tag) for tag in (_MAKE, _MODEL, _ORIENTATION))


def _joined(said: Iterable[object]) -> str:
    return " ".join(str(value).strip("\0 ") for value in said if value is not None)


def _side(pixel_um: PixelSize | None) -> float | None:
    return min(pixel_um) if pixel_um else None
