"""The pictures of an evaluation: confusion, reliability, risk against coverage."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from wbc_cli.classes import BY_NAME, NOT_BLAST
from wbc_cli.evaluation.metrics import CALIBRATION_BINS
from wbc_cli.evaluation.predictions import MISSED, OUTCOMES, Prediction
from wbc_cli.evaluation.report import Evaluation
from wbc_cli.evaluation.selective import ranking, risk_coverage
from wbc_cli.evaluation.summary import RISKS_PERCENT, SetSummary
from wbc_cli.intervals import clopper_pearson
from wbc_cli.slides.marks import MARK

COLUMNS = 2
MIN_CELLS = 50  # of a data set with a diagram of its own: fewer leave a cell or two a bin
INK, BAR, FAINT = "#222222", "#0072B2", "#BBBBBB"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe and Ito
DASHES = ("-", "--", "-.", ":")
DPI = 130


def draw_confusion(evaluation: Evaluation, path: Path) -> None:
    """Draw a panel a data set, and one of all: shares of each row as shade, counts as text."""
    summaries = [summary for summary in reversed(evaluation.summaries) if summary.confusion]
    rows = -(-len(summaries) // COLUMNS)
    figure = Figure(figsize=(7.5 * min(COLUMNS, len(summaries)), 5.5 * rows), layout="constrained")
    panels = figure.subplots(rows, min(COLUMNS, len(summaries)), squeeze=False).ravel()
    for axes, summary in zip(panels, summaries, strict=False):
        _draw_counts(axes, summary)
    for axes in panels[len(summaries) :]:
        axes.set_axis_off()
    figure.savefig(path, dpi=DPI, metadata={"Software": MARK})


def draw_reliability(evaluation: Evaluation, path: Path) -> None:
    """Draw how often the likeliest class is right at each confidence: all cells, and each data set of 50 or more."""
    chosen = [
        summary
        for summary in reversed(evaluation.summaries)
        if "calibration_error" in summary.figures
        and (summary is evaluation.summaries[-1] or summary.figures["calibration_error"].n >= MIN_CELLS)
    ]
    figure = Figure(figsize=(4.2 * len(chosen), 5.4), layout="constrained")
    panels = figure.subplots(2, len(chosen), squeeze=False, sharex=True, height_ratios=(3, 1))
    for (axes, counts), summary in zip(panels.T, chosen, strict=True):
        predictions = [a for a in _predictions_of(evaluation, summary) if a.confidence is not None]
        confidence = np.array([a.confidence for a in predictions], dtype=np.float64)
        _draw_bins(axes, counts, confidence, np.array([bool(a.likeliest_right) for a in predictions]))
        error = summary.figures["calibration_error"]
        axes.set_title(f"{summary.name}: {error.n} cells, calibration error {error.value:.3f}", fontsize=10)
    panels[0, 0].set_ylabel("share right (95 % interval)")
    panels[1, 0].set_ylabel("cells")
    figure.savefig(path, dpi=DPI, metadata={"Software": MARK})


def draw_coverage_risk(evaluation: Evaluation, path: Path) -> None:
    """Draw the share of wrong predictions among the most confident cells, and among those that are given a type."""
    figure = Figure(figsize=(8, 5.2), layout="constrained")
    axes = figure.subplots()
    for percent in RISKS_PERCENT:
        axes.axhline(percent, color=FAINT, linewidth=0.8, zorder=0)
        axes.text(100.5, percent, f"{percent} %", va="center", fontsize=8, color=INK)
    styles = [(INK, "-"), *zip(COLOURS, cycle(DASHES), strict=False)]
    summaries = evaluation.summaries[::-1]
    for summary, (colour, dash) in zip(summaries, cycle(styles), strict=False):
        predictions = _predictions_of(evaluation, summary)
        kept, confidence, right = ranking(predictions)
        if np.isnan(confidence).all():
            continue
        coverage, risk = risk_coverage(confidence, right, np.ones(len(right)))
        axes.step(
            100 * coverage,
            100 * risk,
            where="post",
            label=f"{summary.name} ({len(right)} cells)",
            color=colour,
            linestyle=dash,
            linewidth=2.4 if summary is summaries[0] else 1.4,
        )
        given = np.array([predictions[i].identified for i in kept])
        if given.any():
            at, wrong = 100 * given.mean(), 100 * (1 - right[given].mean())
            axes.plot(at, wrong, "o", color=colour, markersize=9, markeredgecolor="white")
    least = f"given a type: confidence of {evaluation.conditions.min_confidence:g} and above"
    axes.plot([], [], "o", color=FAINT, markersize=9, label=least)
    axes.set(xlabel="coverage: most confident share of the cells, %", ylabel="risk: wrong among them, %")
    axes.set_xlim(0, 104)
    axes.set_ylim(bottom=-0.3)
    axes.grid(alpha=0.2)
    axes.legend(loc="upper left", fontsize=9)
    figure.savefig(path, dpi=DPI, metadata={"Software": MARK})


def _draw_counts(axes: Axes, summary: SetSummary) -> None:
    truths = list(summary.confusion)
    outcomes = [a for a in OUTCOMES if a in truths or any(counts[a] for counts in summary.confusion.values())]
    counts = np.array([[summary.confusion[truth][outcome] for outcome in outcomes] for truth in truths])
    shares = counts / counts.sum(axis=1, keepdims=True)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), count in np.ndenumerate(counts):
        if count:
            dark = shares[row, column] > 0.5
            axes.text(
                column,
                row,
                f"{count}\n{shares[row, column]:.0%}",
                ha="center",
                va="center",
                fontsize=8,
                color="white" if dark else INK,
            )
    axes.set_xticks(range(len(outcomes)), [_label(name) for name in outcomes], rotation=40, ha="right", fontsize=9)
    axes.set_yticks(range(len(truths)), [_label(name) for name in truths], fontsize=9)
    axes.set(xlabel="answer", ylabel="truth")
    axes.set_title(f"{summary.name}: {counts.sum()} cells, count and share of the row", fontsize=10)


def _draw_bins(axes: Axes, counts: Axes, confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> None:
    """Draw the bins of the calibration error: each at its mean confidence, with the number of its cells below."""
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(np.intp), CALIBRATION_BINS - 1)
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1)
    for index in np.unique(bins):
        inside = bins == index
        hits, n = int(right[inside].sum()), int(inside.sum())
        interval = np.array(clopper_pearson(hits, n), dtype=np.float64)
        at = confidence[inside].mean()
        axes.plot([at, at], interval, color=BAR, linewidth=1.2)
        axes.plot(at, hits / n, "o", color=BAR, markersize=5)
        middle = (index + 0.5) / CALIBRATION_BINS
        counts.bar(middle, n, width=0.9 / CALIBRATION_BINS, color=BAR)
        counts.annotate(str(n), (middle, n), ha="center", va="bottom", fontsize=7, color=INK)
    axes.set(xlim=(0, 1.02), ylim=(-0.03, 1.03))
    axes.grid(alpha=0.2)
    counts.set_yscale("log")
    counts.set_ylim(0.7, 6 * len(confidence))
    counts.set_xlabel("confidence")


def _predictions_of(evaluation: Evaluation, summary: SetSummary) -> Sequence[Prediction]:
    """Choose the predictions that a summary is made from."""
    return [
        prediction
        for score in evaluation.scores
        if summary is evaluation.pooled or score.dataset == summary.name
        for prediction in score.predictions
    ]


def _label(name: str) -> str:
    return {NOT_BLAST: "Not a blast", MISSED: "Missed"}.get(name) or BY_NAME[name].label
