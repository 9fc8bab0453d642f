"""Text as Windows, Excel and Unix tools write it."""

from __future__ import annotations

import codecs

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SAMPLE = 400  # bytes
DELIMITERS = ",;\t"
"""What stands between the columns of a table: Excel takes semicolons where the comma is for decimals."""


def decode(data: bytes) -> str:
    """Decode UTF-8, UTF-16 or UTF-32, with or without a mark; bytes that are neither survive as surrogates."""
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return data.decode(encoding, "surrogateescape" if encoding == "utf-8-sig" else "replace")
    start = data[:_SAMPLE]
    for first, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        if len(start) > 1 and start[first::2].count(0) > len(start) // 4 and 0 not in start[1 - first :: 2]:
            return data.decode(encoding, "replace")
    return data.decode("utf-8", "surrogateescape")


def from_windows(text: str) -> str:
    """Correct what `decode` gave: the bytes that are no UTF-8 are taken for windows-1252."""
    if text.isascii() or not any("\udc80" <= letter <= "\udcff" for letter in text):
        return text
    return text.encode("utf-8", "surrogateescape").decode("cp1252", "replace")


def delimiter_of(header: str) -> str:
    """Guess the delimiter of a table by its first line."""
    return max(DELIMITERS, key=header.count)
