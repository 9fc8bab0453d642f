"""A control chart as a picture: each group, its limits, and the moving average with its own."""

from __future__ import annotations

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wbc_cli.monitoring.monitor import EWMA, SHEWHART, FigureChart, Monitoring
from wbc_cli.products.report.charts import AS_TEXT, FAINT, INK, svg

WIDTH, HEIGHT = 5.2, 2.6  # inches: the text is as large as the page's, and still legible on a phone
POINTS, AVERAGE, BROKEN = "#0072b2", "#d55e00", "#b3152f"
_MAX_TICKS = 6  # groups whose names the axis has


def control_chart(figure_chart: FigureChart, found: Monitoring) -> str:
    """Draw both charts of a figure; what breaks a limit is a cross."""
    with matplotlib.rc_context(AS_TEXT):
        figure = Figure(figsize=(WIDTH, HEIGHT))
        axes = figure.add_axes((0.12, 0.12, 0.82, 0.77))  # a layout engine takes as long as all the rest
    of, positions = figure_chart.chart, np.arange(len(found.groups))
    reference = np.flatnonzero(found.reference)
    axes.axvspan(reference[0] - 0.5, reference[-1] + 0.5, color=FAINT, alpha=0.12, linewidth=0)
    axes.axhline(figure_chart.learned.centre, color=FAINT, linewidth=1)
    for limit in (of.low, of.high):
        axes.plot(positions, limit, color=POINTS, linestyle="--", linewidth=1, drawstyle="steps-mid")
    for limit in (of.average_low, of.average_high):
        axes.plot(positions, limit, color=AVERAGE, linestyle=":", linewidth=1.3)
    axes.plot(positions, of.average, color=AVERAGE, linewidth=1.6)
    axes.plot(positions, of.values, "o", color=POINTS, markersize=3.5)
    for kind, values in ((SHEWHART, of.values), (EWMA, of.average)):
        broken = {alarm.group for alarm in found.alarms if alarm.kind == kind and alarm.figure == figure_chart.figure}
        where = [i for i, group in enumerate(found.groups) if group in broken]
        axes.plot(where, values[where], "x", color=BROKEN, markersize=8, markeredgewidth=2)
    if figure_chart.figure.label.endswith("%"):
        axes.set_ylim(bottom=max(0.0, axes.get_ylim()[0]))
    _frame(axes, figure_chart.figure.label, found.groups)
    return svg(figure)


def _frame(axes: Axes, title: str, groups: tuple[str, ...]) -> None:
    axes.set_title(title, loc="left", fontsize=10, fontweight="bold", color=INK, parse_math=False)
    shown = np.unique(np.linspace(0, len(groups) - 1, min(_MAX_TICKS, len(groups))).round().astype(int))
    for label in axes.set_xticks(shown, [_short(groups[i]) for i in shown]):
        label.label1.set_parse_math(False)
    axes.set_xlim(-0.7, len(groups) - 0.3)
    axes.grid(axis="y", alpha=0.3)
    axes.tick_params(colors=INK, labelsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _short(group: str) -> str:
    return group if len(group) <= 10 else f"{group[:4]}…{group[-5:]}"
