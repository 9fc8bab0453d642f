"""The products of a slide that can be left out, as `--write` names them; tables and records always are written."""

from __future__ import annotations

USUAL_PRODUCTS: tuple[str, ...] = ("mask", "classes", "overlay", "explain", "geojson", "report", "features")
PRODUCTS: tuple[str, ...] = (*USUAL_PRODUCTS, "png")

SCHEMA_VERSION = 1
"""Of the records (JSON) in a run folder."""
