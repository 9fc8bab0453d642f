"""LOINC codes of the differential: those of panel 24318-8 that leave the method open, as none fits image analysis.

They all mean a share of the leukocytes: see `fhir` for what that is taken of.
"""

from __future__ import annotations

from wbc_cli.classes import BLAST, ERYTHROBLAST

LOINC = "http://loinc.org"
PANEL = ("24318-8", "Manual Differential panel - Blood")
CODES: dict[str, tuple[str, str]] = {
    "neutrophil": ("26511-6", "Neutrophils/100 leukocytes in Blood"),
    "eosinophil": ("26450-7", "Eosinophils/100 leukocytes in Blood"),
    "basophil": ("30180-4", "Basophils/100 leukocytes in Blood"),
    "lymphocyte": ("26478-8", "Lymphocytes/100 leukocytes in Blood"),
    "monocyte": ("26485-3", "Monocytes/100 leukocytes in Blood"),
    "immature_granulocyte": ("38518-7", "Immature granulocytes/100 leukocytes in Blood"),
    BLAST: ("26446-5", "Blasts/100 leukocytes in Blood"),
    ERYTHROBLAST: ("19048-8", "Nucleated erythrocytes/100 leukocytes [Ratio] in Blood"),
}
