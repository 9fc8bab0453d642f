"""The cell classes: names, labels, colours, and the parts that some of them play."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CellClass:
    """A class of cells as every product shows it.

    Attributes:
        name: the identifier in CSV columns, manifests and weights.
        label: what people read.
        colour: sRGB, the same in every product (after Okabe and Ito, told apart by colour-blind eyes).
        differential: whether the percentages of the differential are taken of it.
        white_cell: whether it is a white blood cell (platelets and erythroblasts are reported beside them).
    """

    name: str
    label: str
    colour: tuple[int, int, int]
    differential: bool
    white_cell: bool


NEUTROPHIL = "neutrophil"
EOSINOPHIL = "eosinophil"
BASOPHIL = "basophil"
LYMPHOCYTE = "lymphocyte"
MONOCYTE = "monocyte"
BLAST = "blast"
ERYTHROBLAST = "erythroblast"
OTHER = "platelet"
"""The class of platelets, and also of dirt and whatever else is no nucleated cell."""

NOT_BLAST = "not_blast"
"""A label of truth for any normal cell, which no cell is ever reported as."""

CLASSES: tuple[CellClass, ...] = (
    CellClass(NEUTROPHIL, "Neutrophil", (0, 114, 178), True, True),
    CellClass(EOSINOPHIL, "Eosinophil", (213, 94, 0), True, True),
    CellClass(BASOPHIL, "Basophil", (86, 60, 140), True, True),
    CellClass(LYMPHOCYTE, "Lymphocyte", (0, 158, 115), True, True),
    CellClass(MONOCYTE, "Monocyte", (230, 159, 0), True, True),
    CellClass("immature_granulocyte", "Immature granulocyte", (86, 180, 233), False, True),
    CellClass(BLAST, "Blast (suspect)", (200, 30, 60), False, True),
    CellClass(ERYTHROBLAST, "Erythroblast", (204, 121, 167), False, False),
    CellClass(OTHER, "Platelet/other", (110, 110, 110), False, False),
)
UNIDENTIFIED = CellClass("unidentified", "Unidentified", (40, 40, 40), False, True)

CLASS_NAMES: tuple[str, ...] = tuple(c.name for c in CLASSES)
DIFFERENTIAL_NAMES: tuple[str, ...] = tuple(c.name for c in CLASSES if c.differential)
BY_NAME: dict[str, CellClass] = {c.name: c for c in (*CLASSES, UNIDENTIFIED)}
BLAST_INDEX = CLASS_NAMES.index(BLAST)
OTHER_INDEX = CLASS_NAMES.index(OTHER)
