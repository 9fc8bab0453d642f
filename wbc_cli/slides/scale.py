"""Micrometres per pixel from what files state, where it can be true of a microscope."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

# Resolution fields mostly hold what a camera or program wrote by habit (72, 96, 300 dpi); no objective that shows
# white cells gives less or more than this.
_MIN_UM, _MAX_UM = 0.03, 2.0

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


def plausible(um_per_px: float) -> float | None:
    """Return the value if a microscope can have it (0.03 to 2 um a pixel), else None."""
    return um_per_px if _MIN_UM <= um_per_px <= _MAX_UM else None


def from_density(pixels: float, um_per_unit: float) -> float | None:
    """Scale from a number of pixels per unit of length, if plausible."""
    return plausible(um_per_unit / pixels) if pixels > 0 else None


def from_named_unit(pixels: float, unit: str) -> float | None:
    """Scale from a number of pixels per unit, the unit by its name (`micron`, `mm`, ...), if plausible."""
    um_per_unit = _UM_PER_UNIT.get(unit.strip().lower())
    return from_density(pixels, um_per_unit) if um_per_unit else None


def from_ome(xml: str) -> float | None:
    """Scale of the first image of an OME-XML description (PhysicalSizeX), if there is one and it is plausible."""
    if not re.search(r"<(\w+:)?OME\b", xml[:2000]):
        return None
    try:
        pixels = next((e for e in ET.fromstring(xml.strip()).iter() if e.tag.rpartition("}")[2] == "Pixels"), None)
        if pixels is None:
            return None
        size = float(pixels.get("PhysicalSizeX", "nan"))
    except (ET.ParseError, ValueError):
        return None
    um_per_unit = _UM_PER_UNIT.get(pixels.get("PhysicalSizeXUnit", "µm").lower())
    return plausible(size * um_per_unit) if um_per_unit else None
