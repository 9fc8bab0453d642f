"""The file formats that are read: a row each, which discovery, readers, fingerprints and the help all go by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING

from wbc_cli.slides.companions import Companions, DicomSeries, HamamatsuIndex, MiraxFolder

if TYPE_CHECKING:
    from wbc_cli.slides.fields import Contents
    from wbc_cli.slides.reader import SlideReader

_OPENSLIDE = "wbc_cli.slides.openers:open_with_openslide"
_PICTURE = "wbc_cli.slides.openers:open_picture"


@dataclass(frozen=True)
class Format:
    """One file format.

    Attributes:
        name: what the help and the guide call it.
        suffixes: of the files that are looked for in folders, in lower case.
        opener: `module:function` of what opens a file: its path and the number of its field, or None, in, a SlideReader
            out. It is imported when the first such file is opened, as what decodes images is slow to load.
        signatures: what the files begin with; none where OpenSlide tells.
        vendors: what OpenSlide calls the format.
        is_slide: a file of such a suffix is a whole slide, and never opened as a plain picture.
        companions: which other files belong to a slide, where it has several.
        contents: `module:function` of what counts the fields of a file, where it may have several.
        may_be_product: this tool writes such pictures itself, which are no specimens.
        incomplete: what is wrong with a file of such a suffix that is of no known format, and what to do.
    """

    name: str
    suffixes: tuple[str, ...]
    opener: str
    signatures: tuple[bytes, ...] = ()
    vendors: tuple[str, ...] = ()
    is_slide: bool = False
    companions: Companions | None = None
    contents: str = ""
    may_be_product: bool = False
    incomplete: str = ""

    @property
    def is_read_at_once(self) -> bool:
        """Whether discovery reads what a file begins with, and does not only list it."""
        return self.may_be_product or bool(self.companions and self.companions.in_file)

    def open(self, path: Path, field: int | None) -> SlideReader:
        """Open a file.

        Raises:
            SlideError: it cannot be read.
        """
        opener: Callable[[Path, int | None], SlideReader] = resolve_name(self.opener)
        return opener(path, field)

    @property
    def contents_of(self) -> Callable[[Path], Contents] | None:
        """The function that counts the fields of a file; None where it has one."""
        count: Callable[[Path], Contents] | None = resolve_name(self.contents) if self.contents else None
        return count


TIFF = Format(
    "TIFF",
    (".tif", ".tiff", ".btf", ".tf2", ".tf8", ".qptiff"),
    "wbc_cli.slides.openers:open_tiff_field",
    signatures=(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    vendors=("generic-tiff",),
    contents="wbc_cli.slides.fields:contents_of",
    may_be_product=True,
)
_INCOMPLETE_MIRAX = (
    "a MIRAX slide without its data: the folder of the same name must lie beside it, with Slidedat.ini and all else "
    "that is in it. Copy both"
)
_INCOMPLETE_HAMAMATSU = "a Hamamatsu slide whose other files, which it names, do not lie beside it. Copy all of them"

FORMATS: tuple[Format, ...] = (
    Format("SVS", (".svs",), "wbc_cli.slides.openers:open_aperio", vendors=("aperio",), is_slide=True),
    Format("NDPI", (".ndpi",), "wbc_cli.slides.ndpi:open_ndpi", vendors=("hamamatsu",), is_slide=True),
    Format(
        "MRXS",
        (".mrxs",),
        _OPENSLIDE,
        vendors=("mirax",),
        is_slide=True,
        companions=MiraxFolder(),
        incomplete=_INCOMPLETE_MIRAX,
    ),
    Format(
        "VMS",
        (".vms", ".vmu"),
        _OPENSLIDE,
        vendors=("hamamatsu",),
        is_slide=True,
        companions=HamamatsuIndex(),
        incomplete=_INCOMPLETE_HAMAMATSU,
    ),
    Format("SCN", (".scn",), "wbc_cli.slides.scn:open_scn", vendors=("leica",), is_slide=True),
    Format("BIF", (".bif",), _OPENSLIDE, vendors=("ventana",), is_slide=True),
    Format(
        "DICOM",
        (".dcm",),
        "wbc_cli.slides.dicom:open_dicom",
        vendors=("dicom",),
        is_slide=True,
        companions=DicomSeries(),
    ),
    Format("CZI", (".czi",), _OPENSLIDE, vendors=("zeiss",), is_slide=True),
    Format("SVSLIDE", (".svslide",), _OPENSLIDE, vendors=("sakura",), is_slide=True),
    Format("Philips TIFF", (), _OPENSLIDE, vendors=("philips",), is_slide=True),
    Format("Trestle TIFF", (), _OPENSLIDE, vendors=("trestle",), is_slide=True),
    Format("PNG", (".png",), _PICTURE, signatures=(b"\x89PNG\r\n\x1a\n",), may_be_product=True),
    Format("JPEG", (".jpg", ".jpeg", ".jpe", ".jfif", ".jif"), _PICTURE, signatures=(b"\xff\xd8\xff",)),
    Format("BMP", (".bmp", ".dib"), _PICTURE, signatures=(b"BM",)),
    TIFF,
)
"""All formats as they are tried: what OpenSlide knows first, since most of that begins as a TIFF or JPEG does."""

SLIDES = tuple(own for own in FORMATS if own.is_slide)
PICTURES = tuple(own for own in FORMATS if not own.is_slide)

HEAD_BYTES = max(len(signature) for own in FORMATS for signature in own.signatures)
"""What is enough of a file to recognise a picture by."""


def named_format(path: Path) -> Format | None:
    """Return the format that a file's extension stands for, whatever the file holds; None for an unknown one."""
    suffix = path.suffix.lower()
    return next((own for own in FORMATS if suffix in own.suffixes), None)


def read_head(path: Path, count: int) -> bytes:
    """Read the first bytes of a file; none where it cannot be read, which opening it will tell."""
    try:
        with path.open("rb", buffering=0) as file:
            return file.read(count)
    except OSError:
        return b""


def recognise(head: bytes, vendor: str | None = None) -> Format | None:
    """Recognise the format of a file by its content, whatever it is named; None where it is none of these.

    Args:
        head: its first HEAD_BYTES or more.
        vendor: what OpenSlide says that it is.
    """
    return next((own for own in FORMATS if vendor in own.vendors or head.startswith(own.signatures)), None)
