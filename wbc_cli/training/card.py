"""The model card: what a set of weights is, written beside it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import wbc_cli
from wbc_cli.manifest import WHITE_CELL, Sample
from wbc_cli.model.config import ModelConfig
from wbc_cli.model.files import WEIGHTS_NAME, checksum
from wbc_cli.training.centred import Validation
from wbc_cli.training.settings import TrainSettings
from wbc_cli.training.start import Start

CARD_NAME = "MODEL_CARD.md"


def write_card(
    folder: Path,
    samples: Sequence[Sample],
    config: ModelConfig,
    settings: TrainSettings,
    exclude: Sequence[str],
    figures: Validation,
    start: Start,
) -> None:
    """Write MODEL_CARD.md: the weights, the recipe, the data by set, split and label, and the validation figures.

    Args:
        folder: holds the weights already.
        samples: what the manifest listed, less the excluded sets.
        config: of the weights, with the fitted temperature.
        settings: of the run.
        exclude: the sets left out.
        figures: of the averaged weights on the validation split.
        start: earlier weights that the run took over.
    """
    switches = ", ".join(f"{name} {_word(value)}" for name, value in asdict(config).items() if isinstance(value, bool))
    lines = [
        "# Model card",
        "",
        f"Weights `{WEIGHTS_NAME}`, SHA-256 `{checksum(folder)}`, written by wbc-cli {wbc_cli.__version__}.",
        "For research and for review by a qualified person; not a diagnosis.",
        "",
        "## How it was made",
        "",
        f"    {_command(config, settings, exclude, start)}",
        "",
        *(f"- {option}: weights of SHA-256 `{sha}`." for option, sha in start.files().items()),
        f"- Model: {config.backbone}, window {config.window_px} px at {config.um_per_px} um a pixel; {switches}.",
        f"- Recipe: {', '.join(f'{name} {value}' for name, value in asdict(settings).items())}.",
        f"- Temperature {config.temperature}, fitted on the validation split; below a calibrated probability of "
        f"{config.min_confidence} a cell is called unidentified, since a type is then more likely wrong than right.",
        "",
        "## Data",
        "",
        "| set | split | images | of them |",
        "|---|---|---|---|",
        *_data_rows(samples),
        "",
        "## Validation (centred windows, averaged weights)",
        "",
        f"Type accuracy {figures.accuracy:.3f}, cell IoU {figures.cell_iou:.3f}, nucleus IoU {figures.nucleus_iou:.3f} "
        "(masks drawn by people), with test-time augmentation; the learning curve in `curve.png` is without.",
        "",
    ]
    (folder / CARD_NAME).write_text("\n".join(lines), encoding="utf-8")


def _command(config: ModelConfig, settings: TrainSettings, exclude: Sequence[str], start: Start) -> str:
    """Write the command that trains such weights again: what is not the default, on one line."""
    given = {n: v for n, v in asdict(settings).items() if v != getattr(TrainSettings(), n)}
    given |= {n: v for n, v in asdict(config).items() if v != getattr(ModelConfig(), n) and n != "temperature"}
    options = [f"--set {n}={_word(v) if isinstance(v, bool) else v}" for n, v in given.items()]
    options += [f"--exclude {name}" for name in exclude]
    options += [f"{option} WEIGHTS" for option in start.files()]
    options += [f"--new-{part}" for part in start.anew]
    return " ".join(["wbc-cli train manifest.csv -o DIR", *options])


def _data_rows(samples: Sequence[Sample]) -> list[str]:
    used = [sample for sample in samples if sample.split in ("train", "val", "test")]
    rows = []
    for dataset, split in sorted({(sample.dataset, sample.split) for sample in used}):
        chosen = [sample for sample in used if (sample.dataset, sample.split) == (dataset, split)]
        rows.append(f"| {dataset} | {split} | {len(chosen)} | {_contents(chosen)} |")
    return rows


def _contents(samples: Sequence[Sample]) -> str:
    """Name what the images show: typed cells by label, else boxes or masks of cells that nobody typed."""
    labels = Counter(label for sample in samples for label in sample.labels)
    boxes = sum(box.label == WHITE_CELL for sample in samples for box in sample.boxes)
    if labels:
        return ", ".join(f"{label} {count}" for label, count in labels.most_common())
    if boxes:
        return f"white cells of unknown type {boxes}"
    return "masks of white cells of unknown type" if any(sample.mask for sample in samples) else "no white cell"


def _word(value: bool) -> str:
    return "on" if value else "off"
