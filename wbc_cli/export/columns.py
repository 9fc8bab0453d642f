"""The type of each column of the tables, which is the same in every export."""

from __future__ import annotations

import re
from typing import Literal

ColumnType = Literal["int64", "float64", "string"]

_INTEGERS = re.compile(
    r"cell|other_cell|[xy][01]|cells|differential_cells|before_cells|reviewed_cells|changed|disputed|agreed"
    r"|fields|fields_used|fields_left_out|more_cells|possibly_twice|.+_count"
)
_NUMBERS = re.compile(
    r"x|y|confidence|saliency|cam_(in_cell|saliency|stability)|p_.+|.+_um2|kappa|low|high"
    r"|.+_(percent|low|high|per_100_wbc)|um_per_px|um_per_px_relative_error"
)


def type_of(column: str) -> ColumnType:
    """Return the type of a column by its name: what is not known to be a number is text."""
    if _INTEGERS.fullmatch(column):
        return "int64"
    return "float64" if _NUMBERS.fullmatch(column) else "string"
