"""The cells as GeoJSON objects that QuPath imports."""

from __future__ import annotations

import json
import math
import uuid
from pathlib import Path
from typing import Any

import shapely

from wbc_cli.cells import NUCLEUS, Cell, SlideResult
from wbc_cli.classes import BY_NAME, CLASSES
from wbc_cli.products.polygons import largest_piece, trace
from wbc_cli.slides.reader import SlideReader


def write_geojson(result: SlideResult, reader: SlideReader, path: Path) -> None:
    """Write `cells.geojson`, a feature a line in the order of the ids; memory holds one at a time.

    QuPath shows the scanned area of a slide only, so coordinates are level-0 pixels from the corner of that (see
    `SlideReader.bounds`). The file is ASCII.

    Args:
        result: the analysed slide.
        reader: the same slide, open; no pixels are read.
        path: the file.

    Raises:
        OSError: the disk is full or read-only.
    """
    corner = tuple(round(at * pixels) for at, pixels in zip(reader.bounds, reader.file_pixels, strict=True))
    slide_id = uuid.uuid5(uuid.NAMESPACE_URL, result.name)
    before = ""
    with path.open("w", encoding="ascii", newline="\n") as file:
        file.write('{"type":"FeatureCollection","features":[\n')
        for cell in sorted(result.cells, key=lambda cell: cell.id):
            if cell.mask.any():  # QuPath has no objects without an area
                file.write(before + json.dumps(_feature(cell, slide_id, corner), separators=(",", ":")))
                before = ",\n"
        file.write("\n]}\n")


def _feature(cell: Cell, slide_id: uuid.UUID, corner: tuple[int, ...]) -> dict[str, Any]:
    """Describe a cell with its nucleus, or a detection if it has none.

    Each outline is one valid polygon, of the largest piece: one that is not valid makes QuPath give up the whole file.
    The areas among the measurements are of all pieces.
    """
    x, y = cell.box[0] - corner[0], cell.box[1] - corner[1]
    whole = largest_piece(cell.mask > 0)
    nucleus = largest_piece(whole & (cell.mask == NUCLEUS))
    kind = BY_NAME[cell.class_name]
    feature: dict[str, Any] = {
        "type": "Feature",
        # Of the place and not of the cell's number, which changes when another cell is found before it.
        "id": str(uuid.uuid5(slide_id, f"{math.floor(cell.x)},{math.floor(cell.y)}")),
        "geometry": _geometry(trace(whole, x, y)),
        "properties": {
            "objectType": "detection",
            "classification": {"name": kind.label, "color": list(kind.colour)},
            "measurements": _measurements(cell),
            "isLocked": True,
        },
    }
    if nucleus.any():
        feature["nucleusGeometry"] = _geometry(trace(nucleus, x, y))
        feature["properties"]["objectType"] = "cell"
    return feature


def _geometry(polygon: shapely.Polygon) -> dict[str, Any]:
    rings = (polygon.exterior, *polygon.interiors)
    return {"type": "Polygon", "coordinates": [shapely.get_coordinates(ring).astype(int).tolist() for ring in rings]}


def _measurements(cell: Cell) -> dict[str, float]:
    """Return the figures of cells.csv under names as QuPath gives them, without those that are no finite numbers."""
    figures = {
        "Probability": (cell.confidence, 4),
        **{f"Probability: {kind.label}": (p, 4) for kind, p in zip(CLASSES, cell.probabilities, strict=True)},
        "Area µm^2": (cell.area_um2, 2),
        "Nucleus: Area µm^2": (cell.nucleus_area_um2, 2),
        "Saliency": (cell.saliency, 3),
        "Grad-CAM in cell": (cell.cam_in_cell, 3),
        "Grad-CAM with saliency": (cell.cam_saliency, 3),
    }
    finite = {name: round(float(value), digits) for name, (value, digits) in figures.items() if math.isfinite(value)}
    return {"Cell id": cell.id, **finite}
