"""Text in tables that a spreadsheet would take for a formula."""

from __future__ import annotations

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
"""How a cell of a table begins that a spreadsheet would take for a formula."""


def escape_formula(text: str) -> str:
    """Return a text as a table has it: with an apostrophe before what a spreadsheet would take for a formula."""
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text


def unescape_formula(written: str) -> str:
    """Return the text that `escape_formula` has written so; an apostrophe before anything else is its own."""
    return written[1:] if written[:1] == "'" and written[1:].startswith(FORMULA_STARTS) else written
