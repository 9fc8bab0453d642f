"""The products of a slide that `--write` can leave out: a row each, which run folder, help and guide go by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wbc_cli.cells import SlideResult
    from wbc_cli.slides.reader import SlideReader

THUMBNAILS = "thumbnails.zip"
FEATURES = "features.safetensors"


@dataclass(frozen=True)
class Product:
    """One file of a slide.

    Attributes:
        name: what `--write` calls it.
        file: its name in the slide's folder.
        writer: `module:function` of what writes it: the slide's result, its open reader and the file's path in. It is
            imported when it is first written, as what draws and encodes is slow to load.
        in_file_pixels: its places are in the file's own pixels, and not in the square ones that were looked at.
        is_usual: it is written where nothing else is asked for.
        note: what the help says of it, if anything.
    """

    name: str
    file: str
    writer: str
    in_file_pixels: bool = False
    is_usual: bool = True
    note: str = ""

    def write(self, result: SlideResult, reader: SlideReader, path: Path) -> None:
        """Write the product of a slide.

        Raises:
            SlideError: a region for a picture cannot be decoded.
            OSError: the disk is full or read-only.
        """
        writer: Callable[[SlideResult, SlideReader, Path], None] = resolve_name(self.writer)
        writer(result, reader, path)


PRODUCTS: tuple[Product, ...] = (
    Product("mask", "mask.ome.tif", "wbc_cli.products.masks:write_mask", in_file_pixels=True),
    Product("classes", "classes.ome.tif", "wbc_cli.products.masks:write_class_mask", in_file_pixels=True),
    Product("overlay", "overlay.png", "wbc_cli.products.overlay:write_overlay"),
    Product("explain", "explain.png", "wbc_cli.products.explain:write_explain"),
    Product("geojson", "cells.geojson", "wbc_cli.products.geojson:write_geojson", in_file_pixels=True),
    Product("report", THUMBNAILS, "wbc_cli.products.thumbnails:write_thumbnails"),
    Product("features", FEATURES, "wbc_cli.products.features:write_features"),
    Product(
        "png",
        "mask.png",
        "wbc_cli.products.masks:write_png_mask",
        in_file_pixels=True,
        is_usual=False,
        note="png is the mask of a picture of up to 100 megapixels.",
    ),
)
"""All products; tables and records are none of them: they always are written."""

PRODUCT_NAMES = tuple(product.name for product in PRODUCTS)
USUAL_PRODUCTS = tuple(product.name for product in PRODUCTS if product.is_usual)
