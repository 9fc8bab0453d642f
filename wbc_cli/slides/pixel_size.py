"""Micrometres per pixel from what files state, where it can be true of a microscope."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

# Resolution fields mostly hold what a camera or program wrote by habit (72, 96, 300 dpi); no objective that shows
# white cells gives less or more than this.
_MIN_UM, _MAX_UM = 0.03, 2.0
_MAX_PIXEL_ASPECT = 8.0  # one side of a pixel to the other

UM_PER_INCH = 25_400.0
UM_PER_CM = 10_000.0
UM_PER_METRE = 1_000_000.0
_UM_PER_UNIT = {
    **dict.fromkeys(("µm", "μm", "um", "\\u00b5m", "micron", "microns", "micrometer", "micrometre"), 1.0),
    "nm": 0.001,
    "mm": 1_000.0,
    "cm": UM_PER_CM,
    "m": UM_PER_METRE,
    **dict.fromkeys(("in", "inch", "inches"), UM_PER_INCH),
}

PixelSize = tuple[float, float]
"""The width and height of a pixel in micrometres."""


def plausible(width: float, height: float | None = None) -> PixelSize | None:
    """Return a pixel's size if a microscope can have it (0.03 to 2 um), else None; it is square if it has one side."""
    size = (width, height if height is not None and height > 0 else width)
    possible = all(_MIN_UM <= side <= _MAX_UM for side in size) and max(size) <= _MAX_PIXEL_ASPECT * min(size)
    return size if possible else None


def from_density(across: float, down: float, um_per_unit: float) -> PixelSize | None:
    """Compute a pixel's size from how many there are to a unit of length, if plausible."""
    return plausible(um_per_unit / across, um_per_unit / down if down > 0 else None) if across > 0 else None


def from_named_unit(across: float, down: float, unit: str) -> PixelSize | None:
    """Compute a pixel's size from how many there are to a unit, by its name (`micron`, `mm`, ...), if plausible."""
    um_per_unit = _UM_PER_UNIT.get(unit.strip().lower())
    return from_density(across, down, um_per_unit) if um_per_unit else None


def from_ome(xml: str, image: int = 0) -> PixelSize | None:
    """Read PhysicalSizeX and Y of an image of an OME-XML description, by its place, if it is there and plausible."""
    if not re.search(r"<(\w+:)?OME\b", xml[:2000]):
        return None
    try:
        pixels = [e for e in ET.fromstring(xml.strip()).iter() if e.tag.rpartition("}")[2] == "Pixels"]
        own = pixels[image]
        sides = [(own.get(f"PhysicalSize{a}", "nan"), own.get(f"PhysicalSize{a}Unit", "µm").lower()) for a in "XY"]
        width, height = (float(size) * _UM_PER_UNIT[unit] for size, unit in sides)
    except (ET.ParseError, ValueError, LookupError):
        return None
    return plausible(width, height)
