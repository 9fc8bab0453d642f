"""Whether abnormal samples are found: sensitivity, specificity and efficiency, as H20-A2 lays them out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from wbc_cli.classes import BLAST, DIFFERENTIAL_NAMES, ERYTHROBLAST
from wbc_cli.comparison.counts import NON_DIFFERENTIAL_NAMES, Counts, share_of
from wbc_cli.comparison.estimate import Estimate, proportion
from wbc_cli.errors import UsageError

DISTRIBUTION, MORPHOLOGY, EITHER = "distribution", "morphology", "either"


@dataclass(frozen=True)
class Limits:
    """A class is abnormal below `low`, and at `high` or above, in percent of what `share_of` says; None: no limit."""

    low: float | None
    high: float | None

    def beyond(self, percent: float) -> bool:
        """Tell whether a percentage is abnormal."""
        return (self.low is not None and percent < self.low) or (self.high is not None and percent >= self.high)


# H20-A2 leaves distribution to the laboratory's own reference intervals; these are those of adults in Dacie and Lewis,
# Practical Haematology. Morphology: what a smear is positive by (Barnes et al., Lab Hematol 2005; 11: 83-90).
USUAL_LIMITS: Mapping[str, Limits] = {
    "neutrophil": Limits(40, 80),
    "eosinophil": Limits(None, 6),
    "basophil": Limits(None, 2),
    "lymphocyte": Limits(20, 40),
    "monocyte": Limits(2, 10),
    "immature_granulocyte": Limits(None, 2),
    BLAST: Limits(None, 1),
    ERYTHROBLAST: Limits(None, 1),
}


@dataclass(frozen=True)
class DiagnosticAccuracy:
    """The counts that tell how well abnormal samples of one kind are told from others.

    Attributes:
        kind: DISTRIBUTION, MORPHOLOGY, EITHER, or a class.
        both, missed, false_alarms, neither: samples that are abnormal by both, by the reference alone, by the tested
            method alone, and by none.
        sensitivity, specificity, efficiency: 0 to 1; None without such samples. Efficiency is the share of samples in
            which both agree.
    """

    kind: str
    both: int
    missed: int
    false_alarms: int
    neither: int
    sensitivity: Estimate | None
    specificity: Estimate | None
    efficiency: Estimate | None


def parse_limits(texts: Sequence[str]) -> dict[str, Limits]:
    """Take the usual limits, with those that a user gives as CLASS=LOW:HIGH, either of which may be left out.

    Raises:
        UsageError: there is no such class, or these are no limits.
    """
    limits = dict(USUAL_LIMITS)
    for text in texts:
        name, _, ends = text.partition("=")
        low, colon, high = ends.partition(":")
        if name not in USUAL_LIMITS or not colon:
            raise UsageError(
                f"--limit {text}: give CLASS=LOW:HIGH in percent, with a class of {', '.join(USUAL_LIMITS)}"
            )
        try:
            limits[name] = Limits(*(float(end) if end else None for end in (low, high)))
        except ValueError as error:
            raise UsageError(f"--limit {text}: LOW and HIGH are percentages, as in neutrophil=40:80") from error
    return limits


def diagnostic_accuracy(
    samples: Sequence[tuple[Counts, Counts]], classes: Sequence[str], limits: Mapping[str, Limits]
) -> tuple[DiagnosticAccuracy, ...]:
    """Hold both counts of each sample against the limits.

    Args:
        samples: what the reference and the tested method counted of each.
        classes: that both tell apart.
        limits: by class.
    """
    kinds = {
        DISTRIBUTION: [name for name in classes if name in DIFFERENTIAL_NAMES],
        MORPHOLOGY: [name for name in classes if name in NON_DIFFERENTIAL_NAMES],
    }
    kinds = {kind: names for kind, names in kinds.items() if names}
    if len(kinds) > 1:
        kinds[EITHER] = list(classes)
    kinds |= {name: [name] for name in classes}
    found = []
    for kind, names in kinds.items():
        pairs = [tuple(_abnormal(counts, names, limits) for counts in pair) for pair in samples]
        both, missed, false_alarms, neither = (
            sum(pair == wanted for pair in pairs)
            for wanted in ((True, True), (True, False), (False, True), (False, False))
        )
        found.append(
            DiagnosticAccuracy(
                kind,
                both,
                missed,
                false_alarms,
                neither,
                proportion(both, both + missed),
                proportion(neither, neither + false_alarms),
                proportion(both + neither, len(pairs)),
            )
        )
    return tuple(found)


def _abnormal(counts: Counts, names: Sequence[str], limits: Mapping[str, Limits]) -> bool:
    return any(limits[name].beyond(share_of(counts, name)[2]) for name in names)
