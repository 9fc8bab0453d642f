"""An evaluation as JSON and as tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from rich.table import Table

from wbc_cli.classes import BY_NAME
from wbc_cli.evaluation.figure import Figure
from wbc_cli.evaluation.scoring import ImageScore
from wbc_cli.evaluation.summary import SetSummary
from wbc_cli.morphology import ATTRIBUTES

FIGURES: Mapping[str, str] = {
    "accuracy": "Type accuracy (missed and unidentified are wrong)",
    "found": "Cells found",
    "coverage": "Cells given a type",
    "accuracy_identified": "Accuracy where a type was given",
    "risk_coverage_area": "Area under the risk-coverage curve",
    "coverage_at_risk_1": "Coverage at a risk of 1 %",
    "coverage_at_risk_2": "Coverage at a risk of 2 %",
    "macro_f1": "Macro-F1",
    "accuracy_differential": "Type accuracy, five differential types",
    "accuracy_identified_differential": "Accuracy where a type was given, five differential types",
    "macro_f1_differential": "Macro-F1 of the five differential types",
    "calibration_error_differential": "Calibration error, five differential types",
    "calibration_error": "Calibration error (15 bins)",
    "brier": "Brier score",
    "cell_iou": "Cell IoU",
    "cell_dice": "Cell Dice",
    "nucleus_iou": "Nucleus IoU",
    "nucleus_dice": "Nucleus Dice",
    "detection_precision": "Detection precision (IoU 0.5)",
    "detection_recall": "Detection recall (IoU 0.5)",
    "detection_f1": "Detection F1 (IoU 0.5)",
    "detection_precision_by_centre": "Detection precision (centre in box)",
    "detection_recall_by_centre": "Detection recall (centre in box)",
    "detection_f1_by_centre": "Detection F1 (centre in box)",
    "negatives_right": "Fields without white cells where none is reported",
    "false_cells_per_field": "False white cells a field whose white cells are all known",
    "prior_recall": "Prior: cells in the window around a candidate",
    "prior_area": "Prior: share of the area that it keeps",
    "explanation_energy": "Grad-CAM energy in the cell",
    "explanation_pointing": "Grad-CAM maximum in the cell",
    "expert_explanation_energy": "Grad-CAM energy in the expert's mask",
    "expert_explanation_pointing": "Grad-CAM maximum in the expert's mask",
    "deletion": "Deletion: probability as the map's first pixels go",
    "insertion": "Insertion: probability as the map's first pixels come",
    "new_head_correlation": "Correlation of the map with that of a new type head",
    "new_head_likeness": "Likewise, without the sign",
    "new_network_correlation": "Correlation of the map with that of a new network",
    "new_network_likeness": "Likewise, without the sign",
    "morphology_macro_f1": f"Morphology: mean macro-F1 of {len(ATTRIBUTES)} attributes",
    **{f"morphology_{name}": f"Macro-F1 of {name.replace('_', ' ')}" for name in ATTRIBUTES},
}


@dataclass(frozen=True)
class Failure:
    """An image that the pipeline could not analyse, and why; it counts as wrong wherever it has truth."""

    image: str
    reason: str


@dataclass(frozen=True)
class Conditions:
    """Conditions say how the pipeline is measured.

    Attributes:
        min_confidence: below it a cell was called unidentified.
        ignore_scale: the images' scale is kept from the pipeline, as for a user's unlabelled photograph.
        constant_background: everything outside the images' masks has one colour.
        faithfulness: number of images whose cell's explanation is put to the checks of `faithfulness`.
    """

    min_confidence: float
    ignore_scale: bool = False
    constant_background: bool = False
    faithfulness: int = 0


@dataclass(frozen=True)
class Evaluation:
    """An evaluation holds what one run of `wbc-cli evaluate` measured.

    Attributes:
        conditions: how.
        datasets: one summary a data set, in the order of their names.
        pooled: the summary of all images together.
        failures: in the order of the samples.
        scores: what the figures are made from, in the order of the samples.
    """

    conditions: Conditions
    datasets: tuple[SetSummary, ...]
    pooled: SetSummary
    failures: tuple[Failure, ...]
    scores: tuple[ImageScore, ...]

    @property
    def summaries(self) -> tuple[SetSummary, ...]:
        """The data sets, and all together where there are several."""
        return (*self.datasets, self.pooled) if len(self.datasets) > 1 else self.datasets

    def to_dict(self) -> dict[str, object]:
        """Give what `--json` writes.

        Keys: `conditions` (see there); `datasets`, by name, and `pooled`, each with `images`, `failed`, `figures` (by
        the names of `FIGURES`; present where the set has truth for them), `classes` (class of the truth, then
        `sensitivity`, `specificity`, `f1`) and `confusion` (class of the truth, answer, count); `failures`, a list of
        `image` and `reason`. Every figure has `value`, `low` and `high` (95 % interval; null where there are too few
        images), `n`, `unit` (what n counts) and `baselines` (by name).
        """
        return {
            "conditions": asdict(self.conditions),
            "datasets": {summary.name: _summary_dict(summary) for summary in self.datasets},
            "pooled": _summary_dict(self.pooled),
            "failures": [asdict(failure) for failure in self.failures],
        }


def tables(evaluation: Evaluation) -> list[Table]:
    """Show the figures of every data set, then of all together where there are several, each before its classes."""
    return [table for summary in evaluation.summaries for table in _set_tables(summary)]


def _summary_dict(summary: SetSummary) -> dict[str, object]:
    return {key: value for key, value in asdict(summary).items() if key != "name"}


def _set_tables(summary: SetSummary) -> list[Table]:
    failed = f", {summary.failed} failed" if summary.failed else ""
    figures = Table(title=f"{summary.name} ({summary.images} images{failed})", title_justify="left")
    for column in ("", "value", "95 % interval", "n", "trivial baselines"):
        figures.add_column(column, justify="right" if column in ("value", "95 % interval", "n") else "left")
    for name, label in FIGURES.items():
        if name in summary.figures:
            figure = summary.figures[name]
            figures.add_row(label, *_value_and_interval(figure), f"{figure.n} {figure.unit}", _baselines(figure))
    return [figures, _class_table(summary)] if summary.classes else [figures]


def _class_table(summary: SetSummary) -> Table:
    table = Table(title=f"{summary.name}, by class", title_justify="left")
    table.add_column("class")
    for column in ("n", "sensitivity", "95 % interval", "specificity", "95 % interval", "F1", "95 % interval"):
        table.add_column(column, justify="right")
    for name, figures in summary.classes.items():
        label = BY_NAME[name].label if name in BY_NAME else "Not a blast"
        cells = [part for key in ("sensitivity", "specificity", "f1") for part in _value_and_interval(figures.get(key))]
        table.add_row(label, str(figures["sensitivity"].n), *cells)
    return table


def _value_and_interval(figure: Figure | None) -> tuple[str, str]:
    if figure is None:
        return "", ""
    interval = "" if figure.low is None or figure.high is None else f"{figure.low:.3f}-{figure.high:.3f}"
    return f"{figure.value:.3f}", interval


def _baselines(figure: Figure) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in figure.baselines.items())
