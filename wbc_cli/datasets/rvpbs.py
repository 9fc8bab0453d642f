"""RV-PBS: whole fields in folders by class, each with the outlines of its cells as CVAT writes them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

from wbc_cli.classes import BLAST
from wbc_cli.datasets.images import bare_sample, find_images, shrunk_scale
from wbc_cli.errors import SlideError, UsageError
from wbc_cli.manifest import Box, Sample
from wbc_cli.slides.header import read_header

_UM_PER_PX, _WIDTH = 0.017, 4032  # estimated: red cells are then 7.5 um across
_TABLE = "annotations.xml"
_TYPES = {
    "band cell": "neutrophil",
    "basophil": "basophil",
    "blast cell": BLAST,
    "eosinophil": "eosinophil",
    "lymphocyte": "lymphocyte",
    "metamyelocyte": "immature_granulocyte",
    "monocyte": "monocyte",
    "myelocyte": "immature_granulocyte",
    "neutrophil": "neutrophil",
    "promyelocyte": "immature_granulocyte",
}
_BACKGROUND_LABEL = "bg"
_MIN_SAME_CELL_OVERLAP = 0.5  # of the smaller box: one cell that two classes' tables outline


def read_rvpbs(folder: Path) -> Iterator[Sample]:
    """Read <class>/IMG_2919.jpg, or below it, and <class>/annotations.xml with polygons by the image's name.

    A field with cells of two classes lies in the folders of both, and each outlines its own: it is one image, with the
    boxes of both. One without outlines is of the split "drop".

    Raises:
        UsageError: an annotation is damaged.
    """
    tables = sorted(folder.rglob(_TABLE))
    outlined: dict[str, list[tuple[Box, float]]] = {}
    for table in tables:
        for name, box, side in _read_table(table):
            outlined.setdefault(name, []).append((box, side))
    fields = {image.name: image for image in reversed(find_images(folder)) if _has_table(image, tables)}
    for name, image in sorted(fields.items(), key=lambda field: field[1]):
        boxes = _boxes(image, outlined.get(name, []))
        yield replace(
            bare_sample(folder, image, "rvpbs", "test" if boxes else "drop"),
            labels=tuple(box.label for box in boxes),
            um_per_px=shrunk_scale(image, _UM_PER_PX, _WIDTH),
            boxes=boxes,
        )


def _has_table(image: Path, tables: list[Path]) -> bool:
    return any(table.parent in image.parents for table in tables)


def _read_table(table: Path) -> Iterator[tuple[str, Box, float]]:
    """Read the image's name, the box around an outline, and the longer side of the image that both are in."""
    try:
        for image in ElementTree.parse(table).iterfind("image"):
            side = max(float(image.get("width", "")), float(image.get("height", "")))
            for outline in image.iterfind("polygon"):
                kind = outline.get("label", "").strip().lower()
                if kind == _BACKGROUND_LABEL:
                    continue
                points = [tuple(map(float, point.split(","))) for point in outline.get("points", "").split(";")]
                x, y = zip(*points, strict=True)
                yield Path(image.get("name", "")).name, Box(_TYPES[kind], min(x), min(y), max(x), max(y)), side
    except (ElementTree.ParseError, ValueError, KeyError) as error:
        raise UsageError(f"{table}: not outlines from CVAT ({error}); copy it again from its source") from error


def _boxes(image: Path, outlined: list[tuple[Box, float]]) -> tuple[Box, ...]:
    """Convert an image's boxes to its own pixels, each cell once."""
    try:
        header = read_header(image)
    except SlideError:  # analysing it will say what is wrong
        header = None
    boxes: list[Box] = []
    for box, side in outlined:
        shrunk = max(header.width, header.height) / side if header and header.width else 1.0
        own = Box(box.label, *(shrunk * corner for corner in (box.x0, box.y0, box.x1, box.y1)))
        if (
            own.x1 > own.x0
            and own.y1 > own.y0
            and not any(_common(own, other) > _MIN_SAME_CELL_OVERLAP for other in boxes)
        ):
            boxes.append(own)
    return tuple(boxes)


def _common(first: Box, second: Box) -> float:
    """Divide the common area by that of the smaller box."""
    width = min(first.x1, second.x1) - max(first.x0, second.x0)
    height = min(first.y1, second.y1) - max(first.y0, second.y0)
    areas = [(box.x1 - box.x0) * (box.y1 - box.y0) for box in (first, second)]
    return max(0.0, width) * max(0.0, height) / min(areas)
