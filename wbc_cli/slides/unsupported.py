"""Files of kinds that cannot be read, told from damaged ones, and what to export instead."""

from __future__ import annotations

import re
from pathlib import Path

from wbc_cli.errors import SlideError
from wbc_cli.slides.formats import FORMATS, TIFF, named_format

_EXPORT = "Export it as pyramidal TIFF, OME-TIFF or DICOM from the scanner's program"
_BY_SUFFIX = {
    ".vsi": f"an Olympus VSI; it holds an overview only, and the scan in the folder beside it is not read. {_EXPORT}",
    ".ets": f"a part of an Olympus VSI, which is not read. {_EXPORT}",
    ".lif": f"a Leica LIF, which is not read. {_EXPORT}",
    ".nd2": f"a Nikon ND2, which is not read. {_EXPORT}",
    ".isyntax": f"a Philips iSyntax, which is not read. {_EXPORT}",
    ".kfb": f"a KFBio slide, which is not read. {_EXPORT}",
    ".sdpc": f"an SQRAY slide, which is not read. {_EXPORT}",
}
_HEAD_BYTES = 1 << 16
_PICTURE = "Save it as PNG, TIFF or JPEG of 8 bits"
_BY_START = {
    b"\xda\xce\xbe\x0a": _BY_SUFFIX[".nd2"],
    b"SIS\0": _BY_SUFFIX[".ets"],
    b"\x70\0\0\0": _BY_SUFFIX[".lif"],
    b"\0\0\0\x0cjP  ": f"a JPEG 2000 file, which is not read. {_PICTURE}",
    b"\xff\x4f\xff\x51": f"a JPEG 2000 codestream, which is not read. {_PICTURE}",
    b"\0\0\0\x0cJXL ": f"a JPEG XL, which is not read. {_PICTURE}",
    b"\xff\x0a": f"a JPEG XL, which is not read. {_PICTURE}",
    b"II\xbc": f"a JPEG XR, which is not read. {_PICTURE}",
    b"GIF8": f"a GIF, which has too few colours. {_PICTURE}, from the source",
    b"%PDF": f"a PDF. {_PICTURE}, from the source",
}
_DICOM_MODALITY = re.compile(rb"\x08\x00\x60\x00CS..([A-Z]+)", re.DOTALL)

UNREAD_SUFFIXES: frozenset[str] = frozenset(
    f".{name}"
    for kinds in (
        "avif gif heic heif j2c j2k jp2 jpf jpx jxl jxr pbm pcx pgm pnm ppm psd tga wdp webp",
        "arw cr2 cr3 dng nef orf pef raf rw2",  # of cameras
        "afi dv flex i2syntax ics ims ipl isyntax kfb lif lof lsm mds mdsx mrc nd nd2 oib oif r3d sdpc sld stk svsx",
        "tmap tron vsi zif zvi",
    )
    for name in kinds.split()
) - {suffix for own in FORMATS for suffix in own.suffixes}
"""The pictures and slides that the tool does not read: counted, so that nobody takes them for analysed."""


def refuse_overview(path: Path) -> None:
    """Refuse what a slide reader would open, though it is the overview of a scan that nothing here can read.

    Raises:
        SlideError: it is one.
    """
    suffix = path.suffix.lower()
    folder = path.parent / f"_{path.stem}_"  # where Olympus has the scan, whatever the overview is called
    if suffix == ".vsi" or (suffix in TIFF.suffixes and any(folder.glob("*/*.ets"))):
        raise SlideError(f"{path}: {_BY_SUFFIX['.vsi']}.")


def refuse_unsupported(path: Path) -> None:
    """Refuse a file that no slide reader knows, if it is of another kind or named as a slide.

    Raises:
        SlideError: it is one; the message says what to do instead.
    """
    suffix = path.suffix.lower()
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return  # whoever opens it next says why
    kind = _kind(head) or (head and _BY_SUFFIX.get(suffix))
    named = named_format(path)
    if not kind and head and named and named.is_slide:
        # As a picture such a file would show something else, its thumbnail for example.
        kind = named.incomplete or (
            f"named as a slide ({suffix}), and OpenSlide does not know it as one. Copy it again, with all files that "
            "belong to it; if it is a plain picture, give it the extension of one"
        )
    if kind:
        raise SlideError(f"{path}: {kind}.")


def _kind(head: bytes) -> str | None:
    if head[128:132] == b"DICM":
        stated = _DICOM_MODALITY.search(head)
        modality = f" of modality {stated[1].decode()}" if stated else ""
        return (
            f"a DICOM{modality} that is no whole-slide image which OpenSlide reads. Export that, or the picture as "
            "PNG or TIFF"
        )
    if head[4:8] == b"ftyp":
        return f"a HEIF or AVIF picture, as telephones take, which is not read. {_PICTURE}"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return f"a WebP, which is not read. {_PICTURE}"
    return next((kind for start, kind in _BY_START.items() if head.startswith(start)), None)
