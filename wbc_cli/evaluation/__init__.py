"""Measuring the pipeline of `analyze` on labelled images."""

from wbc_cli.evaluation.report import FIGURES, Conditions, Evaluation, Failure, tables
from wbc_cli.evaluation.runner import evaluate

__all__ = ["FIGURES", "Conditions", "Evaluation", "Failure", "evaluate", "tables"]
