"""A profile on disk: JSON with a checksum of its own, and nothing in it that is run."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import wbc_cli
from wbc_cli.classes import CLASS_NAMES
from wbc_cli.errors import SetupError, UsageError

KIND = "wbc-cli profile"
SCHEMA_VERSION = 1
_CHECKSUM = "sha256"


@dataclass(frozen=True)
class Profile:
    """A profile holds what a laboratory's reviewed cells have taught.

    Attributes:
        weights_sha256: of the weights whose features it reads.
        classes: the outputs of the head, in order.
        reviewed: cells of each class that it was learned from.
        learned: classes whose part of the head is its own; the others have the shipped one's.
        weight: [classes][width + classes], see `network.SGCLDFF.read_out`.
        bias: [classes].
        temperature: divides the logits.
        min_confidence: below it a cell is called unidentified.
        evidence: see `evidence.Evidence`.
        version: of the program that made it.
    """

    weights_sha256: str
    classes: tuple[str, ...]
    reviewed: dict[str, int]
    learned: tuple[str, ...]
    weight: list[list[float]]
    bias: list[float]
    temperature: float
    min_confidence: float
    evidence: dict[str, float]
    version: str = wbc_cli.__version__

    @property
    def checksum(self) -> str:
        """The SHA-256 of the content, in hex."""
        return _digest(_content(self))

    def refuse_other_weights(self, checksum: str, path: Path) -> None:
        """See that it fits the weights.

        Args:
            checksum: of the weights.
            path: of the profile, for the message.

        Raises:
            UsageError: it was learned with others.
        """
        if self.weights_sha256 != checksum:
            raise UsageError(f"{path}: learned with other weights than these; run `wbc-cli adapt` again with them")

    def summary(self) -> dict[str, Any]:
        """Return what run.json holds of the profile."""
        return {
            "profile_sha256": self.checksum,
            "profile_learned": list(self.learned),
            **{f"profile_{name}": value for name, value in self.evidence.items()},
        }

    def write(self, path: Path) -> None:
        """Write it in one go.

        Raises:
            SetupError: the file cannot be written.
        """
        fresh = path.with_name(f".{path.name}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            fresh.write_text(json.dumps({**_content(self), _CHECKSUM: self.checksum}) + "\n", encoding="utf-8")
            fresh.replace(path)
        except OSError as error:
            raise SetupError(f"{path}: cannot be written ({error.strerror}); give another file with -o") from error


def read_profile(path: Path) -> Profile:
    """Read a profile.

    Raises:
        UsageError: there is none, it is damaged, or it is something else.
    """
    try:
        values: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: not a profile ({error}); give one that `wbc-cli adapt` wrote") from error
    if not isinstance(values, dict) or values.get("kind") != KIND:
        raise UsageError(f"{path}: not a profile; give one that `wbc-cli adapt` wrote")
    if values.get("schema_version") != SCHEMA_VERSION or values.get("classes") != list(CLASS_NAMES):
        raise UsageError(f"{path}: made by another version of wbc-cli; run `wbc-cli adapt` again")
    found = values.pop(_CHECKSUM, None)
    names = {field.name for field in fields(Profile)}
    if found != _digest(values) or values.keys() != names | {"kind", "schema_version"}:
        raise UsageError(f"{path}: damaged: its checksum is not that of its content; copy it again")
    known = {name: values[name] for name in names}
    return Profile(**{**known, "classes": tuple(known["classes"]), "learned": tuple(known["learned"])})


def _content(profile: Profile) -> dict[str, Any]:
    return {"kind": KIND, "schema_version": SCHEMA_VERSION, **asdict(profile)}


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
