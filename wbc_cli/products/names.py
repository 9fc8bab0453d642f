"""The products of a slide that can be left out, as `--write` names them; tables always are written."""

from __future__ import annotations

USUAL_PRODUCTS: tuple[str, ...] = ("mask", "classes", "overlay", "explain", "geojson", "report")
PRODUCTS: tuple[str, ...] = (*USUAL_PRODUCTS, "png")
