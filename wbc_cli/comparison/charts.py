"""Charts of a comparison: one method against the other with the regression, and their differences."""

from __future__ import annotations

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wbc_cli.classes import BY_NAME
from wbc_cli.comparison.compare import ClassAgreement
from wbc_cli.products.report.charts import AS_TEXT, FAINT, INK, colour_of, svg

SIDE = 3.6  # inches: the text is as large as the page's, and still legible on a phone
_MAX_VECTOR_POINTS = 1000  # points as vectors; more are drawn as a picture


def scatter_chart(found: ClassAgreement, reference: str, tested: str) -> str:
    """Draw each sample by both methods, where they would agree (dashed), and Passing and Bablok's line."""
    figure, axes = _panel(found, "")
    most = max(1.0, *found.reference, *found.tested) * 1.05
    axes.plot([0, most], [0, most], color=FAINT, linestyle="--", linewidth=1)
    if found.line:
        ends = np.array([0, most])
        fitted = found.line.intercept.value + found.line.slope.value * ends
        axes.plot(ends, fitted, color=INK, linewidth=1.5)
    _points(axes, found, found.reference, found.tested)
    axes.set(xlim=(-0.02 * most, most), ylim=(-0.02 * most, most))
    _name_axes(axes, f"{_short(reference)}, %", f"{_short(tested)}, %")
    return svg(figure)


def difference_chart(found: ClassAgreement, reference: str, tested: str) -> str:
    """Draw the differences over the mean of both, with the bias and the limits of agreement (Bland and Altman)."""
    figure, axes = _panel(found, ", differences")
    axes.axhline(0, color=FAINT, linestyle="--", linewidth=1)
    if found.differences:
        for estimate, style in (
            (found.differences.lower, ":"),
            (found.differences.bias, "-"),
            (found.differences.upper, ":"),
        ):
            axes.axhline(estimate.value, color=INK, linestyle=style, linewidth=1.5)
            if estimate.low is not None and estimate.high is not None:
                axes.axhspan(estimate.low, estimate.high, color=INK, alpha=0.08, linewidth=0)
    _points(axes, found, (found.reference + found.tested) / 2, found.tested - found.reference)
    _name_axes(axes, "mean of both, %", f"{_short(tested)} - {_short(reference)}, %")
    return svg(figure)


def _panel(found: ClassAgreement, what: str) -> tuple[Figure, Axes]:
    with matplotlib.rc_context(AS_TEXT):
        figure = Figure(figsize=(SIDE, SIDE))
        axes = figure.add_axes((0.17, 0.14, 0.79, 0.76))  # a layout engine takes as long as all the rest
    title = f"{BY_NAME[found.name].label}{what}"
    axes.set_title(title, loc="left", fontsize=10, fontweight="bold", color=INK)
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure, axes


def _points(axes: Axes, found: ClassAgreement, x: np.ndarray, y: np.ndarray) -> None:
    axes.plot(
        x,
        y,
        "o",
        color=colour_of(found.name),
        alpha=0.7,
        markersize=4.5,
        markeredgecolor="white",
        markeredgewidth=0.5,
        rasterized=len(x) > _MAX_VECTOR_POINTS,
    )


def _name_axes(axes: Axes, across: str, up: str) -> None:
    for label, text in ((axes.xaxis.label, across), (axes.yaxis.label, up)):
        label.set(text=text, color=FAINT, parse_math=False)  # a reader's name may have dollar signs


def _short(name: str) -> str:
    return name if len(name) <= 18 else f"{name[:17]}…"
