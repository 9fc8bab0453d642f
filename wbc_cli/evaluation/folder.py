"""An evaluation as a folder: figures.json, tables for a spreadsheet, and pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from wbc_cli.evaluation.figure import Figure
from wbc_cli.evaluation.pictures import draw_confusion, draw_coverage_risk, draw_reliability
from wbc_cli.evaluation.predictions import CONSISTENCY, OUTCOMES
from wbc_cli.evaluation.report import Evaluation
from wbc_cli.evaluation.scoring import ImageScore
from wbc_cli.evaluation.summary import SetSummary

_FIGURE = ("value", "low", "high", "n", "unit", "baselines")


def write_folder(evaluation: Evaluation, folder: Path) -> None:
    """Write everything into a folder, which is made; files of an earlier evaluation are replaced.

    - figures.json: see `Evaluation.to_dict`.
    - figures.csv: a row a data set and figure; classes.csv: a row a data set, class and figure.
    - confusion.csv: a row a data set and class of the truth, a column an answer.
    - cells.csv: a row a scored cell: what it is, what was predicted (column answer), the probability of the likeliest
      and of the true class (empty where no cell was found), whether the prediction is right, and how consistent its
      explanation is.
    - confusion.png, reliability.png, coverage_risk.png, where cells were typed.

    Raises:
        OSError: the disk is full or read-only.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(evaluation.to_dict(), indent=2) + "\n"
    (folder / "figures.json").write_text(text, encoding="utf-8")
    _write_summaries([*evaluation.datasets, evaluation.pooled], folder)
    _write_cells(evaluation.scores, folder / "cells.csv")
    _draw_pictures(evaluation, folder)


def _write_summaries(summaries: Sequence[SetSummary], folder: Path) -> None:
    """Write figures.csv, classes.csv and confusion.csv."""
    _write(
        [
            {"dataset": summary.name, "figure": name, **_columns(figure)}
            for summary in summaries
            for name, figure in summary.figures.items()
        ],
        ("dataset", "figure", *_FIGURE),
        folder / "figures.csv",
    )
    _write(
        [
            {"dataset": summary.name, "class": label, "figure": name, **_columns(figure)}
            for summary in summaries
            for label, figures in summary.classes.items()
            for name, figure in figures.items()
        ],
        ("dataset", "class", "figure", *_FIGURE),
        folder / "classes.csv",
    )
    _write(
        [
            {"dataset": summary.name, "truth": label, **counts}
            for summary in summaries
            for label, counts in summary.confusion.items()
        ],
        ("dataset", "truth", *OUTCOMES),
        folder / "confusion.csv",
    )


def _write_cells(scores: Sequence[ImageScore], path: Path) -> None:
    _write(
        [
            {
                "image": str(score.image),
                "dataset": score.dataset,
                "truth": prediction.truth,
                "answer": prediction.predicted,
                "confidence": prediction.confidence,
                "probability": prediction.probability,
                "right": prediction.right,
                **prediction.consistency,
            }
            for score in scores
            for prediction in score.predictions
        ],
        ("image", "dataset", "truth", "answer", "confidence", "probability", "right", *CONSISTENCY),
        path,
    )


def _draw_pictures(evaluation: Evaluation, folder: Path) -> None:
    """Draw what there are figures for; pictures of an earlier evaluation go in any case."""
    for picture in ("confusion.png", "reliability.png", "coverage_risk.png"):
        (folder / picture).unlink(missing_ok=True)
    if evaluation.pooled.classes:
        draw_confusion(evaluation, folder / "confusion.png")
    if "calibration_error" in evaluation.pooled.figures:
        draw_reliability(evaluation, folder / "reliability.png")
        draw_coverage_risk(evaluation, folder / "coverage_risk.png")


def _columns(figure: Figure) -> dict[str, float | int | str | None]:
    return {
        "value": figure.value,
        "low": figure.low,
        "high": figure.high,
        "n": figure.n,
        "unit": figure.unit,
        "baselines": "; ".join(f"{name} {value:.6g}" for name, value in figure.baselines.items()),
    }


def _write(rows: list[dict[str, object]], columns: Sequence[str], path: Path) -> None:
    pd.DataFrame(rows, columns=list(columns)).to_csv(path, index=False, float_format="%.6g", lineterminator="\n")
