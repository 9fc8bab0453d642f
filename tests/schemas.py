"""The JSON Schemas of the package, as the tests hold products against them."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator


@cache
def schema(kind):
    """The validator of slide.json ("slide"), run.json ("run") or what `analyze --json` prints ("summary")."""
    text = (files("wbc_cli") / "schemas" / f"{kind}.schema.json").read_text(encoding="utf-8")
    Draft202012Validator.check_schema(json.loads(text))
    return Draft202012Validator(json.loads(text))


def complaints(kind, value: Any):
    """What does not fit, in words."""
    return [f"{error.json_path}: {error.message[:300]}" for error in schema(kind).iter_errors(value)]


def misfits(folder: Path):
    """Of all records of runs below a folder those that do not fit their schemas, with what is wrong.

    What tests have damaged beyond JSON is passed over, and so are the runs that they made up without the program.
    """
    found = {}
    for kind, pattern in (("slide", "slides/*/slide.json"), ("run", "run.json"), ("run", "run-*-of-*.json")):
        for path in folder.rglob(pattern):
            try:
                value = json.loads(path.read_bytes())
            except (OSError, ValueError):
                continue
            if not _made_up(kind, value) and (wrong := complaints(kind, value)):
                found[str(path)] = wrong[:3]
    return found


def _made_up(kind, value):
    if kind == "slide":
        return "version" not in value.get("model", {})
    return "tool" not in value or any(_made_up(kind, run) for run in value.get("merged_from", ()))
