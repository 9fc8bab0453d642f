"""Charts of shares with their intervals, as SVG that stands in the page."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wbc_cli.classes import BY_NAME, DIFFERENTIAL_NAMES

INK, FAINT = "#1e1e1e", "#6e6e6e"
WIDTH = 4.6  # inches: the text is as large as the page's, and still legible on a phone
LEFT = 0.37  # share of the width that the names have
ABOVE, ROW, BELOW = 0.3, 0.27, 0.55
LONGEST = 18  # characters of a slide's name
AS_TEXT: Any = {"svg.fonttype": "none", "svg.hashsalt": "report", "font.family": "sans-serif", "font.size": 9}


@dataclass(frozen=True)
class Interval:
    """A row of a chart: a count out of a total, in percent, with its 95 % interval."""

    name: str
    count: int
    percent: float
    low: float
    high: float

    @classmethod
    def of(cls, name: str, share: Mapping[str, Any]) -> Interval | None:
        """Take it from a record; None where there was nothing to count."""
        if share["percent"] is None:
            return None
        return cls(name, share["count"], share["percent"], share["low"], share["high"])


def differential_chart(classes: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Draw the classes of one differential, a row each; None without cells."""
    rows = [Interval.of(name, classes[name]) for name in DIFFERENTIAL_NAMES]
    found = [row for row in rows if row is not None]
    if not found:
        return None
    figure, axes = _panel(len(found))
    for place, row in enumerate(found):
        _draw(axes, place, [row], colour_of(row.name))
    _name_rows(axes, [BY_NAME[row.name].label for row in found])
    return svg(figure)


def class_chart(name: str, slides: Sequence[tuple[str, Mapping[str, Any]]], together: Mapping[str, Any]) -> str | None:
    """Draw one class on each slide, below the share on all slides, whose interval is shaded behind them.

    Args:
        name: of the class.
        slides: name and share of each.
        together: the share on all of them.
    """
    rows = [row for row in (Interval.of(slide, share) for slide, share in slides) if row is not None]
    whole = Interval.of("All slides", together)
    if whole is None or not rows:
        return None
    figure, axes = _panel(len(rows) + 1)
    axes.axvspan(whole.low, whole.high, color=colour_of(name), alpha=0.12, linewidth=0)
    _draw(axes, 0, [whole], INK)
    _draw(axes, 1, rows, colour_of(name))
    _name_rows(axes, [_short(row.name) for row in (whole, *rows)])
    axes.set_title(BY_NAME[name].label, loc="left", fontsize=10, fontweight="bold", color=INK)
    return svg(figure)


def _panel(rows: int) -> tuple[Figure, Axes]:
    with matplotlib.rc_context(AS_TEXT):
        height = ABOVE + ROW * rows + BELOW
        figure = Figure(figsize=(WIDTH, height))
        axes = figure.add_axes((LEFT, BELOW / height, 0.98 - LEFT, ROW * rows / height))
    axes.set(xlim=(-1, 101), ylim=(rows - 0.4, -0.6), xlabel="% of the cells in the differential")
    axes.set_xticks(range(0, 101, 20))
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(colors=INK)
    axes.xaxis.label.set_color(FAINT)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    return figure, axes


def _draw(axes: Axes, first: int, rows: Sequence[Interval], colour: str) -> None:
    percent = np.array([row.percent for row in rows])
    reach = np.array([[row.percent - row.low for row in rows], [row.high - row.percent for row in rows]])
    places = np.arange(first, first + len(rows))
    axes.errorbar(
        percent,
        places,
        xerr=reach.clip(min=0),  # rounding brings an end a hair beyond the share
        fmt="o",
        color=colour,
        elinewidth=2.2,
        capsize=3.5,
        markersize=6.5,
        markeredgecolor="white",
        markeredgewidth=0.8,
        ecolor=colour,
    )


def _name_rows(axes: Axes, names: Sequence[str]) -> None:
    for label in axes.set_yticks(range(len(names)), names):
        label.label1.set_parse_math(False)  # a name may have dollar signs


def svg(figure: Figure) -> str:
    """Draw a figure, without date and random ids: the same chart has the same bytes."""
    drawn = io.StringIO()
    with matplotlib.rc_context(AS_TEXT), warnings.catch_warnings():
        # Text stays text: the letters that matplotlib's font lacks are drawn by the browser's.
        warnings.filterwarnings("ignore", r"Glyph .* missing from", UserWarning)
        figure.savefig(drawn, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = drawn.getvalue()
    return text[text.index("<svg") :]


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else f"{name[: LONGEST // 2]}…{name[-LONGEST // 2 + 1 :]}"


def colour_of(name: str) -> str:
    """Return the colour of a class, as #rrggbb."""
    return "#{:02x}{:02x}{:02x}".format(*BY_NAME[name].colour)
