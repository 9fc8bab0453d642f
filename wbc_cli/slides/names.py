"""Names of slides: relative paths made safe as folder names on every file system."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path, PurePath
from types import MappingProxyType

MAX_BYTES = 150  # file systems allow 255; products add suffixes, and Windows counts the whole path
_DIGEST_CHARACTERS = 8
_MAX_SUFFIX_BYTES = 16
_FIELD = "+"  # stands in no name of a file
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)  # devices on Windows, whatever follows


def unique_names(
    relative: Mapping[Path, PurePath],
    known: Mapping[str, str] = MappingProxyType({}),
    is_copy: Callable[[Path, str], bool] = lambda path, name: True,
) -> dict[Path, str]:
    """Give each file a name of its own, the same in every shard and whenever the run is repeated.

    A name is the relative path with `__` between its folders and `_` for whatever is no letter, digit, dot, underscore
    or hyphen. Where several files come to one name (upper and lower case count as the same), or a name is over
    `MAX_BYTES` long, each of those gets a hash of its absolute path before the extension. A file that has results
    already keeps its name, with or without a hash, whatever has come beside it, and so does its copy in another place;
    any other file of that name gets a hash, as cameras number the pictures of every patient from one.

    Args:
        relative: each file and the path that it is known by.
        known: absolute paths of files that have results, and under which name.
        is_copy: tells whether a file is a copy of the one that has results under a name.

    Returns:
        Each file's name; all differ, also where case does not count.
    """
    plain = {path: _safe(known_by) for path, known_by in relative.items()}
    uses = Counter(name.casefold() for name in plain.values())
    here = {str(path.absolute()) for path in relative} if known else set()
    elsewhere = {name.casefold(): name for path, name in known.items() if path not in here}
    names = {}
    for path, name in plain.items():
        former = known.get(str(path.absolute())) if known else None
        unfit = uses[name.casefold()] > 1 or len(name.encode()) > MAX_BYTES
        if not (former or unfit) and name.casefold() in elsewhere:
            unfit = not is_copy(path, elsewhere[name.casefold()])
        if former != name and (former or unfit):
            hashed = _hashed(name, path)
            name = hashed if unfit or former == hashed else name  # noqa: PLW2901
        names[path] = name
    return names


def field_name(name: str, field: int, count: int) -> str:
    """Name a field (from 0) of a file that has several."""
    return f"{name}{_FIELD}{field + 1:0{len(str(count))}}"


def file_name(name: str) -> str:
    """Return the name of a slide's file, of which it may be a field."""
    return name.partition(_FIELD)[0]


def _safe(relative: PurePath) -> str:
    text = unicodedata.normalize("NFC", "__".join(relative.parts))  # macOS hands out decomposed letters
    text = re.sub(r"[^\w.-]", "_", text)  # also replaces what stands for bytes that are no UTF-8
    text = re.sub(r"^[.-]|\.$", "_", text)  # hidden files, options; Windows drops a dot at the end
    return f"_{text}" if _RESERVED.match(text) else text


def _hashed(name: str, path: Path) -> str:
    digest = hashlib.sha256(os.fsencode(path.absolute())).hexdigest()[:_DIGEST_CHARACTERS]
    suffix = PurePath(name).suffix
    if len(suffix.encode()) > _MAX_SUFFIX_BYTES:
        suffix = ""
    tail = f"_{digest}{suffix}"
    head = name.removesuffix(suffix).encode()[: MAX_BYTES - len(tail.encode())]
    return head.decode(errors="ignore") + tail
