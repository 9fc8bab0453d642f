"""From reviewed cells to a profile, if it is better than the shipped model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from wbc_cli.classes import CLASS_NAMES
from wbc_cli.errors import UsageError
from wbc_cli.model.storage import LoadedModel
from wbc_cli.profile import MIN_REVIEWED_CELLS
from wbc_cli.profile.evidence import LearnedHead, learn_head
from wbc_cli.profile.file import Profile
from wbc_cli.profile.head import FeatureStatistics, Floats, LinearHead, TrainingCells, learned_classes
from wbc_cli.profile.reviewed import Reviewed, read_reviewed


class ProfileLearner:
    """The shipped model, as far as a profile is learned from it."""

    def __init__(self, model: LoadedModel) -> None:
        self.config, self.checksum, self._network = model.network.config, model.checksum, model.network
        weight, bias = (parameter.detach().double().cpu().numpy() for parameter in model.network.read_out())
        self.head = LinearHead(weight, bias).cooled(self.config.temperature)

    @torch.inference_mode()
    def cells(self, features: np.ndarray, labels: np.ndarray, slides: np.ndarray) -> TrainingCells:
        """Make cells to learn from of features [N, width + classes], labels [N] and slides [N]."""
        typicality = self._network.typicality
        pooled = features[:, : typicality.centres.shape[1]].astype(np.float32)
        inputs = torch.from_numpy(pooled).to(typicality.centres.device)
        distances = typicality(inputs).cpu().numpy()
        flatter: Floats = self.config.damping(distances.astype(np.float64))
        return TrainingCells(features.astype(np.float64), labels, slides, flatter)

    def learn(self, cells: TrainingCells, statistics: FeatureStatistics) -> LearnedHead:
        """See `evidence.learn_head`."""
        return learn_head(cells, self.head, statistics, self.config.min_confidence)


def adapt(model: LoadedModel, runs: Sequence[Path], reviews: Sequence[Path]) -> tuple[Profile, Reviewed, str]:
    """Learn a profile.

    Args:
        model: that the runs were made with.
        runs, reviews: see `reviewed.read_reviewed`.

    Returns:
        The profile, the cells it was learned from, and why it is not to be used: empty where it is better than the
        shipped model.

    Raises:
        UsageError: the runs or reviews do not fit, or there are too few cells to learn from.
    """
    reviewed = read_reviewed(runs, reviews)
    if reviewed.weights != model.checksum:
        raise UsageError(f"{runs[0]}: was made with other weights; give these with --weights, or analyse it again")
    slides = len(np.unique(reviewed.slides))
    if len(reviewed.labels) < MIN_REVIEWED_CELLS or slides < 2:
        raise UsageError(
            f"{reviews[0]}: {len(reviewed.labels)} reviewed cells with a type on {slides} slides; review "
            f"{MIN_REVIEWED_CELLS} or more, on two slides or more, so that what they teach can be checked"
        )
    learner = ProfileLearner(model)
    cells = learner.cells(reviewed.features, reviewed.labels, reviewed.slides)
    learned = learner.learn(cells, FeatureStatistics.of(reviewed.everything))
    counts = np.bincount(reviewed.labels, minlength=len(CLASS_NAMES))
    profile = Profile(
        weights_sha256=model.checksum,
        classes=CLASS_NAMES,
        reviewed={name: int(count) for name, count in zip(CLASS_NAMES, counts, strict=True) if count},
        learned=tuple(CLASS_NAMES[i] for i in learned_classes(reviewed.labels, len(CLASS_NAMES))),
        weight=_rounded(learned.head.weight).tolist(),
        bias=_rounded(learned.head.bias).tolist(),
        temperature=learned.temperature,
        min_confidence=learned.min_confidence,
        evidence={name: round(value, 4) for name, value in vars(learned.evidence).items()},
    )
    return profile, reviewed, learned.evidence.objection


def _rounded(values: Floats) -> Floats:
    """Round to the precision of the weights, so that a profile is small."""
    return np.asarray(values.round(6))
