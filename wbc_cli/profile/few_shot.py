"""What a laboratory's profile brings after some reviewed cells, in each data set as if it were a laboratory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.table import Table
from scipy.special import softmax

from wbc_cli.classes import CLASS_NAMES
from wbc_cli.evaluation.metrics import calibration_error, calibration_terms
from wbc_cli.evaluation.scoring import ImageScore
from wbc_cli.products.teaching import teaching_order
from wbc_cli.profile.adapt import ProfileLearner
from wbc_cli.profile.head import FeatureStatistics, Floats, TrainingCells

SEEDS = 20
_MIN_TEST_CELLS = 25  # cells to measure on


@dataclass(frozen=True)
class FewShot:
    """The figures of one data set and number of reviewed cells: means over the draws, on the cells not drawn.

    Cells that were not found count in none of them.

    Attributes:
        dataset: as in the manifest.
        draw: how the reviewed cells were drawn: `random`, by whole groups of images, or `chosen`, as the report offers
            them.
        reviewed: cells.
        written: share of the draws whose profile was better by its own evidence; the others go on with the shipped
            head, and count with that.
        before, after: share whose likeliest type is right, by the shipped head and by what is used then.
        worst: least of `after` less `before` among the draws.
        typed, right_where_typed: share of the cells that are given a type then, and how many of those are right.
        ece_before, ece_after: calibration error (15 bins).
    """

    dataset: str
    draw: str
    reviewed: int
    written: float
    before: float
    after: float
    worst: float
    typed: float
    right_where_typed: float
    ece_before: float
    ece_after: float


def few_shot(
    scores: Sequence[ImageScore],
    learner: ProfileLearner,
    counts: Sequence[int],
    seeds: int = SEEDS,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[FewShot]:
    """Measure it.

    Args:
        scores: of all images; every data set of them counts as a laboratory.
        learner: the model that they were scored with.
        counts: numbers of reviewed cells.
        seeds: divisions of each set into groups of images to review and groups to measure on.
        progress: is called with the rows that are done, and of all.

    Returns:
        A row a data set, count and draw, where there are enough cells.
    """
    laboratories = [(name, cells) for name, cells in _laboratories(scores, learner) if cells is not None]
    plans = [(name, cells, count, draw) for name, cells in laboratories for count in counts for draw in DRAWS]
    rows = []
    for done, (name, cells, count, draw) in enumerate(plans):
        progress(done, len(plans))
        statistics = FeatureStatistics.of(cells.features)
        found = []
        for seed in range(seeds):
            measured = _first_groups(cells, max(_MIN_TEST_CELLS, len(cells) // 4), seed)
            pool = cells[~measured]
            if len(pool) >= count:
                reviewed = pool[DRAWS[draw](pool, count, seed, learner)]
                found.append(_one(reviewed, cells[measured], learner, statistics))
        if len(found) < seeds:
            continue
        table = np.array(found)
        written, before, after, typed, right, *errors = table.mean(axis=0).tolist()
        worst = float((table[:, 2] - table[:, 1]).min())
        rows.append(FewShot(name, draw, count, written, before, after, worst, typed, right, *errors))
    progress(len(plans), len(plans))
    return rows


def few_shot_table(rows: Sequence[FewShot]) -> Table:
    """Show the rows."""
    table = Table(title=f"After so many reviewed cells (mean of {SEEDS} divisions)", title_justify="left")
    for column in _TITLES:
        table.add_column(column, justify="right" if table.columns else "left")
    for row in rows:
        name, draw, count, *figures = asdict(row).values()
        table.add_row(name, draw, str(count), *(f"{figure:.3f}" for figure in figures))
    return table


def write_few_shot(rows: Sequence[FewShot], path: Path) -> None:
    """Write few_shot.csv.

    Raises:
        OSError: the disk is full or read-only.
    """
    pd.DataFrame(map(asdict, rows)).to_csv(path, index=False, float_format="%.4f", lineterminator="\n")


_TITLES = (
    *("", "draw", "cells", "written", "right before", "right after", "worst", "typed", "right where typed"),
    *("ECE before", "ECE after"),
)


def _laboratories(scores: Sequence[ImageScore], learner: ProfileLearner) -> Iterator[tuple[str, TrainingCells | None]]:
    for name in sorted({score.dataset for score in scores}):
        predictions = [
            (prediction, score.group or str(score.image))
            for score in scores
            if score.dataset == name
            for prediction in score.predictions
            if prediction.features is not None and prediction.truth in CLASS_NAMES
        ]
        if not predictions:
            yield name, None
            continue
        features = np.stack([prediction.features for prediction, _ in predictions if prediction.features is not None])
        labels = np.array([CLASS_NAMES.index(prediction.truth) for prediction, _ in predictions])
        yield name, learner.cells(features, labels, np.array([group for _, group in predictions]))


def _first_groups(cells: TrainingCells, count: int, seed: int) -> NDArray[np.bool_]:
    """Mark the cells of whole groups in a random order until there are `count` of them, bool [N]."""
    names = np.random.default_rng(seed).permutation(np.unique(cells.slides))
    index_of = {name: i for i, name in enumerate(names.tolist())}
    of_cell = np.array([index_of[name] for name in cells.slides.tolist()])
    last = np.sort(of_cell)[min(count, len(cells)) - 1]
    marked: NDArray[np.bool_] = of_cell <= last
    return marked


def _at_random(pool: TrainingCells, count: int, seed: int, learner: ProfileLearner) -> NDArray[np.int64]:
    return np.flatnonzero(_first_groups(pool, count, seed))


def _as_offered(pool: TrainingCells, count: int, seed: int, learner: ProfileLearner) -> NDArray[np.int64]:
    return teaching_order(pool.features, softmax(learner.head.logits(pool), axis=1), count)


DRAWS: dict[str, Callable[[TrainingCells, int, int, ProfileLearner], NDArray[np.int64]]] = {
    "random": _at_random,
    "chosen": _as_offered,
}
"""How cells to review are drawn from a pool: a function of the pool, their number, a seed and the learner."""


def _one(
    reviewed: TrainingCells, rest: TrainingCells, learner: ProfileLearner, statistics: FeatureStatistics
) -> list[float]:
    """Tell whether a profile is written, and measure the figures on the rest."""
    learned = learner.learn(reviewed, statistics)
    written = not learned.evidence.objection
    before = softmax(learner.head.logits(rest), axis=1)
    after = softmax(learned.head.logits(rest) / learned.temperature, axis=1) if written else before
    least = learned.min_confidence if written else learner.config.min_confidence
    right = after.argmax(axis=1) == rest.labels
    typed = after.max(axis=1) >= least
    return [
        float(written),
        float((before.argmax(axis=1) == rest.labels).mean()),
        float(right.mean()),
        float(typed.mean()),
        float(right[typed].mean()) if typed.any() else 1.0,
        _ece(before, rest),
        _ece(after, rest),
    ]


def _ece(probabilities: Floats, cells: TrainingCells) -> float:
    right = probabilities.argmax(axis=1) == cells.labels
    terms = calibration_terms(probabilities.max(axis=1).tolist(), right.tolist())
    return float(calibration_error(terms.sum(axis=0)))
