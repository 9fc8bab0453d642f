"""What flags mean, in words for the bench."""

from __future__ import annotations

from wbc_cli.cells import ATYPICAL, NEUTROPHILS_UNKNOWN
from wbc_cli.differential import FEWER_THAN_100, FEWER_THAN_200
from wbc_cli.inference.quality import LIMITS
from wbc_cli.products.overlap import OVERLAP, OVERLAP_UNCHECKED
from wbc_cli.products.tables import NOT_IN_INPUT
from wbc_cli.slides.reader import INVERTED, RESAMPLED, SHARPEST, UNEVEN

SLIDE_FLAGS: dict[str, str] = {
    FEWER_THAN_100: "fewer than 100 cells: wide intervals",
    FEWER_THAN_200: "fewer than 200 cells: rare classes may be missed",
    "scale_estimated": "scale estimated from the cells",
    "scale_pooled": "scale estimated from the cells of all pictures of its acquisition",
    "scale_uncertain": "scale estimated, and uncertain: give --mpp",
    "scale_doubtful": "the stated scale does not fit the cells: check it, or give --mpp",
    "unreadable_tiles": "part of the picture could not be read and was not counted",
    SHARPEST: "one of several planes: the sharpest was looked at",
    RESAMPLED: "pixels that are not square: resampled, and the masks are as the file",
    UNEVEN: "the light of the microscope is uneven: it was evened out before the picture was looked at",
    INVERTED: "the negative of a picture: types and counts are not to be trusted",
    NEUTROPHILS_UNKNOWN: "typed without knowing what the neutrophils of its laboratory look like",
    "no_cells": "no white cell was found",
    OVERLAP: "overlaps another picture of its sample: cells may be counted twice, see overlaps.csv",
    OVERLAP_UNCHECKED: "not known whether it overlaps another picture of its sample",
    NOT_IN_INPUT: "its file is not in the input any more",
    **{limit.flag: limit.reason for limit in LIMITS},
}
SAMPLE_FLAGS: dict[str, str] = {
    **SLIDE_FLAGS,
    OVERLAP: "pictures overlap",
    OVERLAP_UNCHECKED: "not known whether its pictures overlap",
}
CELL_FLAGS: dict[str, str] = {
    "edge": "cut by the border of the picture",
    "explanation": "the network looked elsewhere than at the cell (Grad-CAM)",
    "unstable": "what the network looked at moves when the picture is shifted a little",
    ATYPICAL: "unlike the cells that the model has learned from",
}


def in_words(flag: str, words: dict[str, str]) -> str:
    """Return what a flag means; the flag itself where nobody has said."""
    return words.get(flag, flag.replace("_", " "))
