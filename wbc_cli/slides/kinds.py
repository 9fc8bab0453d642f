"""Which files are looked for in a folder, by their extensions."""

from __future__ import annotations

TIFF_SUFFIXES = frozenset({".tif", ".tiff", ".btf", ".tf2", ".tf8", ".qptiff"})
IMAGE_SUFFIXES = TIFF_SUFFIXES | {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".bmp", ".dib"}
SLIDE_SUFFIXES = frozenset({".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".vms", ".vmu", ".dcm", ".svslide", ".czi"})

UNREAD_SUFFIXES = frozenset(
    f".{name}"
    for kinds in (
        "avif gif heic heif j2c j2k jp2 jpf jpx jxl jxr pbm pcx pgm pnm ppm psd tga wdp webp",
        "arw cr2 cr3 dng nef orf pef raf rw2",  # of cameras
        "afi dv flex i2syntax ics ims ipl isyntax kfb lif lof lsm mds mdsx mrc nd nd2 oib oif r3d sdpc sld stk svsx",
        "tmap tron vsi zif zvi",
    )
    for name in kinds.split()
)
"""Pictures and slides that the tool does not read: counted, so that nobody takes them for analysed."""
