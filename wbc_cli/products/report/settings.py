"""What a run was made with, as rows of a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_LEFT_OUT = frozenset(
    {
        *("shard", "status", "left", "missing", "seconds", "schema_version", "slides", "tool"),
        *("unread", "skipped", "not_in_input", "review", "records_sha256", "products", "processes"),
    }
)


def settings_of(run: Mapping[str, Any]) -> list[dict[str, str]]:
    """List the settings of a run, or of each merged run that differs; the shards of one run do not differ.

    How long it took, and how many processes, is left out: a page made again is to be the same.
    """
    found: list[dict[str, str]] = []
    for single in _singles(run):
        rows = dict(_rows(single))
        if rows not in found:
            found.append(rows)
    return found


def profiles_of(run: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """List what is known of the laboratory's profiles that a run, or those that were merged, used; each once."""
    found: list[Mapping[str, Any]] = []
    for single in _singles(run):
        profile = single.get("profile")
        if profile and profile not in found:
            found.append(profile)
    return found


def _singles(run: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    if "merged_from" not in run:
        yield run
    for part in run.get("merged_from", ()):
        yield from _singles(part)


def _rows(run: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in run.items():
        if key in _LEFT_OUT:
            continue
        if isinstance(value, Mapping):
            yield from _rows(value)
        elif isinstance(value, list | tuple):
            yield key, ", ".join(map(str, value))
        else:
            yield key, "default" if value is None else str(value)
