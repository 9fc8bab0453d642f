"""The learning curve as a picture."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from wbc_cli.slides.marks import MARK


def draw_curve(folder: Path) -> None:
    """Draw log.csv and validation.csv of a training folder as curve.png."""
    losses = pd.read_csv(folder / "log.csv").set_index("step")
    validation = pd.read_csv(folder / "validation.csv").set_index("step")
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    losses.rolling(5, min_periods=1).mean().plot(ax=left, xlabel="step", ylabel="loss (training)")
    validation.plot(ax=right, xlabel="step", ylabel="share (validation)", ylim=(0.5, 1.0), marker="o")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.savefig(folder / "curve.png", dpi=120, metadata={"Software": MARK})
