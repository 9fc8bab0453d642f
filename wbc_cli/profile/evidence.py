"""Whether a profile is better than the shipped head: by cells of slides that it has not learned from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, softmax

from wbc_cli.evaluation.metrics import bootstrap, calibration_error, calibration_terms, ratio
from wbc_cli.profile.head import FeatureStatistics, Floats, LinearHead, TrainingCells, fit_head, learned_classes
from wbc_cli.review.agreement import cohens_kappa

MIN_KAPPA = 0.4
"""The agreement with the reviewer beyond chance, "moderate" after Landis and Koch (1977): below it the reviewed classes
do not follow from what the cells look like."""
MIN_ACCURACY = 0.95
_FOLDS = 5
_TEMPERATURES = np.exp(np.linspace(-1, 1, 81))
_TEMPERATURE_SPREAD = 0.2  # of its logarithm, beforehand: from 25 cells alone it would be wrong by a half
_MAX_THRESHOLD = 0.9
_MIN_PROBABILITY = 1e-4  # one cell that is surely something else must not outweigh all others
_SEED = 0


@dataclass(frozen=True)
class Evidence:
    """The evidence is what a profile brings, by cross-validation over reviewed cells, whole slides left out in turn.

    Attributes:
        cells, slides: that were reviewed.
        before, after: share whose likeliest type is the reviewer's, by the shipped head and by the profile.
        gain_low, gain_high: 95 % interval of the difference, by resampling slides.
        likelihood_low: lower end of the 95 % interval of the gain in mean log-likelihood of the reviewer's types. It
            tells sooner than the types alone whether a profile is better: of 50 cells few change their type.
        ece_before, ece_after: calibration error.
        kappa: agreement of the profile with the reviewer beyond chance (Cohen).
        typed, right_where_typed: share of the cells above the least confidence, and how many of them are right.
    """

    cells: int
    slides: int
    before: float
    after: float
    gain_low: float
    gain_high: float
    likelihood_low: float
    ece_before: float
    ece_after: float
    kappa: float
    typed: float
    right_where_typed: float

    @property
    def objection(self) -> str:
        """Why the profile is not to be used; empty where it is better than the shipped head."""
        if self.kappa < MIN_KAPPA:
            return (
                f"what was reviewed does not follow from how the cells look: agreement beyond chance (kappa) is "
                f"{self.kappa:.2f}, and {MIN_KAPPA} is the least; look through the corrections"
            )
        if self.after <= self.before or self.likelihood_low <= 0:
            return (
                f"it is not surely better than the shipped model: {self.before:.3f} right before and {self.after:.3f} "
                f"with it (95 % interval of the gain {self.gain_low:+.3f} to {self.gain_high:+.3f}); review more cells"
            )
        return ""


@dataclass(frozen=True, eq=False)
class LearnedHead:
    """A type head with how its outputs are read, and the evidence for it.

    Attributes:
        head: the new one.
        temperature: divides its logits.
        min_confidence: below it a cell is called unidentified.
        evidence: by cross-validation.
    """

    head: LinearHead
    temperature: float
    min_confidence: float
    evidence: Evidence


def learn_head(
    cells: TrainingCells, shipped: LinearHead, statistics: FeatureStatistics, min_confidence: float
) -> LearnedHead:
    """Learn a head from reviewed cells, and find out what it is worth.

    Args:
        cells: reviewed ones of two slides or more.
        shipped: the shipped head, divided by its temperature.
        statistics: of the laboratory's features.
        min_confidence: the shipped one.
    """
    before, unseen = softmax(shipped.logits(cells), axis=1), _unseen_logits(cells, shipped, statistics)
    temperature = _temperature(unseen, cells.labels)
    after = softmax(unseen / temperature, axis=1)
    least = _least_confidence(before, after, cells.labels, min_confidence)
    evidence = _evidence(cells, before, after, least)
    return LearnedHead(fit_head(cells, shipped, statistics), temperature, least, evidence)


def _unseen_logits(cells: TrainingCells, shipped: LinearHead, statistics: FeatureStatistics) -> Floats:
    """Compute the logits of each cell by a head that was fitted without its slide."""
    names = np.unique(cells.slides)
    order = np.random.default_rng(_SEED).permutation(len(names))
    fold = order[np.searchsorted(names, cells.slides)] % min(_FOLDS, len(names))
    logits = shipped.logits(cells)
    for left_out in range(_FOLDS):
        test = fold == left_out
        known = cells[~test]
        if test.any() and len(learned_classes(known.labels, len(shipped.bias))):
            logits[test] = fit_head(known, shipped, statistics).logits(cells[test])
    return logits


def _temperature(logits: Floats, labels: NDArray[np.int64]) -> float:
    rows = np.arange(len(labels))
    losses = [
        -log_softmax(logits / t, axis=1)[rows, labels].sum() + 0.5 * (np.log(t) / _TEMPERATURE_SPREAD) ** 2
        for t in _TEMPERATURES
    ]
    return round(float(_TEMPERATURES[int(np.argmin(losses))]), 3)


def _least_confidence(before: Floats, after: Floats, labels: NDArray[np.int64], shipped: float) -> float:
    """Find the lowest threshold, from the shipped one on, above which enough are right, as if one more were wrong.

    But not so high that fewer cells would be given their right type than by the shipped head.
    """

    def hits(found: Floats, least: float) -> tuple[int, int]:
        typed = found.max(axis=1) >= least
        return int((typed & (found.argmax(axis=1) == labels)).sum()), int(typed.sum())

    fewest, chosen = hits(before, shipped)[0], shipped
    for least in (shipped, *np.arange(0.5, _MAX_THRESHOLD + 0.01, 0.02).round(2).tolist()):
        right, typed = hits(after, least)
        if least < shipped or right < fewest:
            continue
        chosen = float(least)
        if right >= MIN_ACCURACY * (typed + 1):
            break
    return chosen


def _evidence(cells: TrainingCells, before: Floats, after: Floats, least: float) -> Evidence:
    right = [found.argmax(axis=1) == cells.labels for found in (before, after)]
    errors = [
        float(calibration_error(calibration_terms(found.max(axis=1).tolist(), hits.tolist()).sum(axis=0)))
        for found, hits in zip((before, after), right, strict=True)
    ]
    gain = right[1].astype(np.float64) - right[0]
    likelihood = np.diff([np.log(_given(found, cells.labels)) for found in (before, after)], axis=0)[0]
    (low, high), (surely, _) = (
        bootstrap(cells.slides.tolist(), np.column_stack([terms, np.ones(len(cells))]), ratio)
        for terms in (gain, likelihood)
    )
    typed = after.max(axis=1) >= least
    return Evidence(
        cells=len(cells),
        slides=len(np.unique(cells.slides)),
        before=float(right[0].mean()),
        after=float(right[1].mean()),
        gain_low=-1.0 if low is None else low,
        gain_high=1.0 if high is None else high,
        likelihood_low=-1.0 if surely is None else surely,
        ece_before=errors[0],
        ece_after=errors[1],
        kappa=cohens_kappa(after.argmax(axis=1).tolist(), cells.labels.tolist()) or 0.0,
        typed=float(typed.mean()),
        right_where_typed=float(right[1][typed].mean()) if typed.any() else 1.0,
    )


def _given(probabilities: Floats, labels: NDArray[np.int64]) -> Floats:
    """Take the probability of each cell's own type, no less than can be told from none."""
    return np.asarray(probabilities[np.arange(len(labels)), labels].clip(_MIN_PROBABILITY))
