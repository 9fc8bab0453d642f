"""What a cell looks like, in the attributes that haematologists use, and in words.

Attributes and values are those of WBCAtt (Tsutsui et al., NeurIPS 2023), which were given to the five mature types.
"""

from __future__ import annotations

from collections.abc import Mapping

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "cell_size": ("small", "big"),
    "cell_shape": ("round", "irregular"),
    "nucleus_shape": (
        "unsegmented-round",
        "unsegmented-indented",
        "unsegmented-band",
        "segmented-bilobed",
        "segmented-multilobed",
        "irregular",
    ),
    "nuclear_cytoplasmic_ratio": ("low", "high"),
    "chromatin_density": ("loosely", "densely"),
    "cytoplasm_vacuole": ("no", "yes"),
    "cytoplasm_texture": ("clear", "frosted"),
    "cytoplasm_colour": ("light blue", "blue", "purple blue"),
    "granule_type": ("nil", "small", "round", "coarse"),
    "granule_colour": ("nil", "pink", "purple", "red"),
    "granularity": ("no", "yes"),
}

_NUCLEUS = {
    "unsegmented-round": "round nucleus",
    "unsegmented-indented": "indented nucleus",
    "unsegmented-band": "band-shaped nucleus",
    "segmented-bilobed": "bilobed nucleus",
    "segmented-multilobed": "multilobed nucleus",
    "irregular": "irregular nucleus",
}

Morphology = Mapping[str, str]
"""A value for each of ATTRIBUTES; empty for a cell that is not described."""


def describe(morphology: Morphology) -> str:
    """Put a cell's attributes into words: "bilobed nucleus, dense chromatin, round red granules, ..."."""
    if not morphology:
        return ""
    chromatin = "dense" if morphology["chromatin_density"] == "densely" else "loose"
    parts = [_NUCLEUS[morphology["nucleus_shape"]], f"{chromatin} chromatin", _granules(morphology)]
    texture = "frosted " if morphology["cytoplasm_texture"] == "frosted" else ""
    parts.append(f"{texture}{morphology['cytoplasm_colour']} cytoplasm")
    if morphology["nuclear_cytoplasmic_ratio"] == "high":
        parts[-1] = f"little {parts[-1]}"
    if morphology["cytoplasm_vacuole"] == "yes":
        parts.append("vacuoles")
    if morphology["cell_shape"] == "irregular":
        parts.append("irregular outline")
    return ", ".join(parts)


def _granules(morphology: Morphology) -> str:
    kind, colour = morphology["granule_type"], morphology["granule_colour"]
    if morphology["granularity"] == "no" or kind == "nil":
        return "no granules"
    return f"{kind} granules" if colour == "nil" else f"{kind} {colour} granules"
