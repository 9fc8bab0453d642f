"""JSON in a run folder that its shards and later runs share: what the first one wrote, all others keep to."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from wbc_cli.errors import SetupError
from wbc_cli.products.constants import SCHEMA_VERSION

T = TypeVar("T")


def read_shared(file: Path, parse: Callable[[Any], T], remedy: str) -> T | None:
    """Read what a file says; None where there is none.

    Args:
        file: in a run folder.
        parse: makes something of its JSON; what else it raises for other JSON, such as KeyError, means damage.
        remedy: what to do about a damaged one, a sentence.

    Raises:
        SetupError: it is damaged, or cannot be read.
    """
    try:
        return parse(json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SetupError(f"{file}: cannot be read ({error.strerror}); check the disk and its permissions") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SetupError(f"{file}: damaged ({type(error).__name__}: {error}). {remedy}") from error


def write_shared(value: Mapping[str, Any], file: Path) -> None:
    """Write a file in one go, with the version of its schema; whoever calls sees to it that nobody else does meanwhile.

    Raises:
        SetupError: the disk is full or read-only.
    """
    fresh = file.with_name(f".{file.name}")
    try:
        fresh.write_text(json.dumps({"schema_version": SCHEMA_VERSION, **value}, indent=1) + "\n", encoding="utf-8")
        fresh.replace(file)
    except OSError as error:
        raise SetupError(f"{file}: {error.strerror}; check permissions and free space") from error
