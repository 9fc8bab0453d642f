"""The figures that are watched: what they are called, and where a slide's record has them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from wbc_cli.classes import BY_NAME, DIFFERENTIAL_NAMES
from wbc_cli.products.tables import DONE

LEAST_RELATIVE = 0.002
"""The least standard deviation of a figure to believe in, as a share of its centre: rounding, and scales that are the
same for all slides."""

Measured = tuple[float, float] | None
"""A value and its weight; None where a slide does not have it."""


@dataclass(frozen=True)
class MonitoredFigure:
    """A figure of a slide.

    Attributes:
        name: in monitor.csv.
        label: what people read, with the unit.
        of: takes it from a slide's record, and the mean confidence of its cells (None without cells).
        decimals: that are shown.
        least: the least standard deviation to believe in, beside LEAST_RELATIVE.
    """

    name: str
    label: str
    of: Callable[[Mapping[str, Any], float | None], Measured]
    decimals: int
    least: float = 0.0


def _quality(name: str) -> Callable[[Mapping[str, Any], float | None], Measured]:
    def of(record: Mapping[str, Any], _: float | None) -> Measured:
        value = record["quality"].get(name)
        return None if value is None else (float(value), 1.0)

    return of


def _scale(record: Mapping[str, Any], _: float | None) -> Measured:
    return float(record["scale"]["um_per_px"]), 1.0


def _atypical(record: Mapping[str, Any], _: float | None) -> Measured:
    share, cells = record["quality"]["atypical"], record["differential"]["cells"]
    return (100 * float(share), float(cells)) if share is not None and cells else None


def _unidentified(record: Mapping[str, Any], _: float | None) -> Measured:
    return _percent(record, record["differential"]["unidentified"], record["differential"]["cells"])


def _confidence(record: Mapping[str, Any], confidence: float | None) -> Measured:
    cells = record["differential"]["cells"]
    return (100 * confidence, float(cells)) if confidence is not None and cells else None


def _class(name: str) -> Callable[[Mapping[str, Any], float | None], Measured]:
    def of(record: Mapping[str, Any], _: float | None) -> Measured:
        differential = record["differential"]
        return _percent(record, differential["classes"][name], differential["differential_cells"])

    return of


def _percent(record: Mapping[str, Any], share: Mapping[str, Any], cells: int) -> Measured:
    """Take a share but of refused slides, whose types are not to be trusted."""
    return (float(share["percent"]), float(cells)) if record["status"] == DONE and cells else None


FIGURES: tuple[MonitoredFigure, ...] = (
    MonitoredFigure("focus", "Focus (contrast ratio)", _quality("focus"), 3),
    MonitoredFigure("background", "Background (0 to 255)", _quality("background"), 1),
    MonitoredFigure("nucleus", "Stain of the nuclei (optical density)", _quality("nucleus"), 3),
    MonitoredFigure("colour", "Colour of the nuclei (0 to 1)", _quality("colour"), 3),
    MonitoredFigure("hue", "Hue of the nuclei (blue above 0)", _quality("hue"), 3, least=0.002),
    MonitoredFigure("um_per_px", "Scale (um per pixel)", _scale, 4),
    MonitoredFigure("unidentified", "Unidentified, %", _unidentified, 1, least=0.2),
    MonitoredFigure("atypical", "Atypical, %", _atypical, 1, least=0.2),
    MonitoredFigure("confidence", "Mean confidence, %", _confidence, 1),
    *(MonitoredFigure(name, f"{BY_NAME[name].label}, %", _class(name), 1, least=0.2) for name in DIFFERENTIAL_NAMES),
)
