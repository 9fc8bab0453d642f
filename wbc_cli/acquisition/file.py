"""`acquisitions.json` of a run folder: what is known of every acquisition, written once and kept to from then on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from wbc_cli.acquisition.grouping import AcquisitionKey
from wbc_cli.cells import Population, Scale
from wbc_cli.products.shared_json import read_shared, write_shared

ACQUISITIONS = "acquisitions.json"

Light = tuple[tuple[float, ...], ...]
"""A light field, see `light.LightField`: the coefficients of red, green and blue."""


@dataclass(frozen=True)
class PooledScale:
    """A scale that pictures share.

    Attributes:
        um_per_px: micrometres a level-0 pixel.
        relative_error: one standard deviation as a fraction.
        pictures: how many it was estimated from.
    """

    um_per_px: float
    relative_error: float
    pictures: int

    @property
    def scale(self) -> Scale:
        """The pooled scale as the analysis takes it."""
        return Scale(self.um_per_px, "pooled", self.relative_error)


@dataclass(frozen=True)
class Acquisition:
    """An acquisition holds what its pictures share.

    Attributes:
        key: what tells which pictures these are.
        pictures: how many were measured.
        scales: one, or several where the zoom was changed, the one of most pictures first; empty where files state it.
        light: the light field to divide out; None where the light is even, or the pictures do not agree on it.
        background: red, green and blue of the background, 0 to 255.
        nuclei: optical density of nuclei in red, green and blue (natural logarithm). Told, and not used.
        neutrophils, class_prior: of the population of its cells, see `inference.population`; None where these are too
            few.
        measured_with: digest of the program, weights and options by which it was measured, see `digest_of`.
    """

    key: AcquisitionKey
    pictures: int
    scales: tuple[PooledScale, ...]
    light: Light | None
    background: tuple[float, ...]
    nuclei: tuple[float, ...]
    neutrophils: tuple[float, ...] | None
    class_prior: tuple[float, ...] | None
    measured_with: str

    @property
    def population(self) -> Population:
        """The population of its cells."""
        return Population(self.neutrophils, self.class_prior)

    def as_part_of(self, sample: Mapping[str, str] | None) -> Acquisition:
        """Return what a picture of a sample has of it: all, if the sample is the folder.

        How common the classes are in the folder tells nothing of a sample that is a part of it, one patient of many.

        Args:
            sample: what the picture's record says of its sample, see `run.samples.SampleKey`.
        """
        return self if sample and sample["folder"] else replace(self, class_prior=None)

    @cached_property
    def digest(self) -> str:
        """A digest of what its pictures' results depend on; empty where they are those of pictures by themselves."""
        values = [asdict(scale) for scale in self.scales], self.light, self.neutrophils, self.class_prior
        if not any(values):
            return ""
        return hashlib.sha256(json.dumps(values).encode()).hexdigest()

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Acquisition:
        """Make an acquisition of what `asdict` gave, after JSON."""
        light, neutrophils, class_prior = value["light"], value["neutrophils"], value["class_prior"]
        return cls(
            key=AcquisitionKey(**value["key"]),
            pictures=int(value["pictures"]),
            scales=tuple(PooledScale(**scale) for scale in value["scales"]),
            light=None if light is None else tuple(tuple(map(float, channel)) for channel in light),
            background=tuple(map(float, value["background"])),
            nuclei=tuple(map(float, value["nuclei"])),
            neutrophils=None if neutrophils is None else tuple(map(float, neutrophils)),
            class_prior=None if class_prior is None else tuple(map(float, class_prior)),
            measured_with=str(value["measured_with"]),
        )


Acquisitions = dict[str, Acquisition]
"""The acquisitions of a run folder by their ids."""


def digest_of(model: Mapping[str, str]) -> str:
    """Return the digest of a fingerprint of program, weights and options, see `run.fingerprint.model_fingerprint`."""
    return hashlib.sha256(json.dumps(model, sort_keys=True).encode()).hexdigest()


def provenance_of(key: AcquisitionKey | None, acquisition: Acquisition | None) -> dict[str, str] | None:
    """Return what a slide's record says of its acquisition, as it has it; None for a whole slide."""
    return None if key is None else {"id": key.id, "values": acquisition.digest if acquisition else ""}


def still_holds(
    provenance: Mapping[str, str] | None, acquisitions: Acquisitions, sample: Mapping[str, str] | None
) -> bool:
    """Tell whether results were made with what is known now.

    Args:
        provenance: from `provenance_of`, out of the slide's record.
        acquisitions: of the run folder.
        sample: that the slide belongs to now.
    """
    if provenance is None:
        return True
    known = acquisitions.get(provenance["id"])
    return provenance["values"] == (known.as_part_of(sample).digest if known else "")


def known_acquisitions(out: Path, model: Mapping[str, str]) -> Acquisitions:
    """Read what a run folder knows of acquisitions that were measured with a program, weights and options.

    By others their cells would have been another population.

    Args:
        out: the run folder.
        model: the fingerprint of these.

    Raises:
        SetupError: as `read_acquisitions`.
    """
    own = digest_of(model)
    return {name: found for name, found in read_acquisitions(out).items() if found.measured_with == own}


def read_acquisitions(out: Path) -> Acquisitions:
    """Read what a run folder knows of acquisitions; nothing where it has no such file.

    Raises:
        SetupError: it is damaged, or cannot be read.
    """
    found = read_shared(
        out / ACQUISITIONS,
        lambda value: [Acquisition.from_dict(entry) for entry in value["acquisitions"]],
        "Put it back from a copy, or remove it: the next run measures the acquisitions anew, and analyses again the "
        "pictures for which something else comes out.",
    )
    return {acquisition.key.id: acquisition for acquisition in found or ()}


def add_acquisitions(out: Path, new: Iterable[Acquisition]) -> Acquisitions:
    """Write down acquisitions that are not known yet, or were measured with another program, weights or options.

    Of one that is known, what was written first stays. Whoever calls sees to it that nobody else writes meanwhile.

    Returns:
        All that the run folder knows now.

    Raises:
        SetupError: the file is damaged, or cannot be written.
    """
    known = read_acquisitions(out)
    joined = known | {
        acquisition.key.id: acquisition
        for acquisition in new
        if (old := known.get(acquisition.key.id)) is None or old.measured_with != acquisition.measured_with
    }
    if joined != known:
        write_shared({"acquisitions": [asdict(joined[name]) for name in sorted(joined)]}, out / ACQUISITIONS)
    return joined
