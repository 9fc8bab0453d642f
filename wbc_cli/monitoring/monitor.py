"""Groups of slides held against what a reference period says of each figure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from wbc_cli.errors import UsageError
from wbc_cli.monitoring.control import Chart, Group, ReferenceStatistics, chart, reach_of, reference_statistics
from wbc_cli.monitoring.figures import FIGURES, LEAST_RELATIVE, MonitoredFigure
from wbc_cli.monitoring.reading import Slide

MIN_GROUPS = 5
"""The groups of the reference period, below which limits mean nothing."""
RECOMMENDED_GROUPS = 20
"""The groups of the reference period, below which limits are so wide that a drift is seen late."""
SHEWHART, EWMA = "Shewhart", "EWMA"


@dataclass(frozen=True)
class Period:
    """The reference period, and what is judged.

    Attributes:
        first, last: groups of the reference period, which they include.
        since: the first group that is judged; empty for all that come after the reference period.
    """

    first: str
    last: str
    since: str = ""


@dataclass(frozen=True)
class Alarm:
    """A limit that is broken.

    Attributes:
        group: day or batch.
        figure: whose.
        kind: SHEWHART or EWMA.
        value: of the chart.
        limit: that it lies beyond.
    """

    group: str
    figure: MonitoredFigure
    kind: str
    value: float
    limit: float

    @property
    def words(self) -> str:
        """The words say what is wrong."""
        side, decimals = "above" if self.value > self.limit else "below", self.figure.decimals
        return (
            f"{self.figure.label} {side} its limit on {self.group} "
            f"({self.value:.{decimals}f}, limit {self.limit:.{decimals}f}, {self.kind})"
        )


@dataclass(frozen=True)
class FigureChart:
    """A figure over all groups."""

    figure: MonitoredFigure
    learned: ReferenceStatistics
    chart: Chart


@dataclass(frozen=True)
class Monitoring:
    """The findings of a monitoring.

    Attributes:
        groups: days or batches, in order.
        slides: of each.
        reference, judged: whether each belongs to the reference period, and whether it is held against the limits.
        figures: those that the reference period has, with their charts.
        unknown: labels of those that it does not have often enough.
        alarms: in order of time.
    """

    groups: tuple[str, ...]
    slides: tuple[int, ...]
    reference: tuple[bool, ...]
    judged: tuple[bool, ...]
    figures: tuple[FigureChart, ...]
    unknown: tuple[str, ...]
    alarms: tuple[Alarm, ...]


def summaries(found: Monitoring) -> list[str]:
    """Say what is wrong, a sentence a figure; what was broken last comes first."""
    days: dict[MonitoredFigure, dict[str, Alarm]] = {}
    for alarm in found.alarms:
        days.setdefault(alarm.figure, {})[alarm.group] = alarm
    latest = sorted(days.values(), key=lambda of: -found.groups.index(next(reversed(of))))
    judged = sum(found.judged)
    return [
        f"{of[next(reversed(of))].words}; beyond its limits on {len(of)} of {judged}, first on {next(iter(of))}"
        for of in latest
    ]


def warnings(found: Monitoring) -> list[str]:
    """Say what the limits cannot tell."""
    count, sentences = sum(found.reference), []
    if count < RECOMMENDED_GROUPS:
        sentences.append(
            f"The reference period has {count} days or batches; of fewer than {RECOMMENDED_GROUPS} the limits are wide."
        )
    if not any(found.judged):
        sentences.append("Nothing that is to be judged comes after the reference period: no limit can be broken.")
    if found.unknown:
        sentences.append(f"Too seldom measured in the reference period to be watched: {'; '.join(found.unknown)}.")
    return sentences


def parse_period(text: str, groups: Sequence[str], since: str, by_run: bool) -> Period:
    """Parse the reference period as a user gives it: a number of groups, or FIRST:LAST.

    Args:
        text: of the option.
        groups: in order.
        since: as in `Period`.
        by_run: groups are runs, and not days.

    Raises:
        UsageError: there are not so many groups, or none between these, or no group to judge from.
    """
    if since and not (since in groups if by_run else re.fullmatch(r"\d{4}-\d\d-\d\d", since)):
        raise UsageError(f"--since {since}: give " + ("one of the runs" if by_run else "a day, as 2026-01-31"))
    first, colon, last = text.partition(":")
    if text.isdecimal():
        inside = list(groups[: int(text)])
    elif colon and first in groups and last in groups:
        inside = list(groups[groups.index(first) : groups.index(last) + 1])
    else:  # days without slides
        inside = [group for group in groups if colon and not by_run and first <= group <= last]
    if len(inside) < MIN_GROUPS:
        raise UsageError(
            f"--reference {text}: holds {len(inside)} of {len(groups)} days or batches; limits need {MIN_GROUPS} "
            "or more, better 20. Where all was analysed on one day, say --by run, or give the slides' days with --dates"
        )
    return Period(inside[0], inside[-1], since)


def groups_of(slides: Sequence[Slide], by_run: bool) -> tuple[str, ...]:
    """List days in order, or runs as they were given."""
    found = dict.fromkeys(slide.group for slide in slides)
    return tuple(found if by_run else sorted(found))


def monitor(slides: Sequence[Slide], groups: Sequence[str], period: Period, false_alarm_every: int) -> Monitoring:
    """Hold each group against the reference period.

    Args:
        slides: of all groups.
        groups: in order.
        period: what to learn from, and what to judge.
        false_alarm_every: so many groups pass, on average, between two alarms that are chance: of all figures and
            both charts together.
    """
    index_of = {group: i for i, group in enumerate(groups)}
    first, last = index_of[period.first], index_of[period.last]
    after = [i > last for i in range(len(groups))]
    since = index_of.get(period.since, sum(group < period.since for group in groups))  # a day may have no slides
    judged = [later and i >= since for i, later in enumerate(after)]
    count = Counter(slide.group for slide in slides)
    chance = 1 / (false_alarm_every * 2 * len(FIGURES))
    charts, unknown = [], []
    for figure in FIGURES:
        columns = _columns(figure, slides, index_of)
        known = [group for group in columns[first : last + 1] if group is not None]
        if len(known) < MIN_GROUPS:
            unknown.append(figure.label)
            continue
        centre = float(np.mean([group.mean for group in known]))
        learned = reference_statistics(known, max(figure.least, LEAST_RELATIVE * abs(centre)))
        charts.append(FigureChart(figure, learned, chart(columns, after, learned, reach_of(chance, learned.freedom))))
    return Monitoring(
        tuple(groups),
        tuple(count[group] for group in groups),
        tuple(first <= i <= last for i in range(len(groups))),
        tuple(judged),
        tuple(charts),
        tuple(unknown),
        tuple(_alarms(groups, judged, charts)),
    )


def _columns(figure: MonitoredFigure, slides: Sequence[Slide], index_of: Mapping[str, int]) -> list[Group | None]:
    found: list[list[tuple[float, float]]] = [[] for _ in index_of]
    for slide in slides:
        measured = figure.of(slide.record, slide.confidence)
        if measured is not None:
            found[index_of[slide.group]].append(measured)
    return [Group(*np.array(values).T) if values else None for values in found]


def _alarms(groups: Sequence[str], judged: Sequence[bool], charts: Sequence[FigureChart]) -> Iterator[Alarm]:
    for i in (i for i, held in enumerate(judged) if held):
        for each in charts:
            of = each.chart
            for kind, value, low, high in (
                (SHEWHART, of.values[i], of.low[i], of.high[i]),
                (EWMA, of.average[i], of.average_low[i], of.average_high[i]),
            ):
                if value < low or value > high:
                    yield Alarm(groups[i], each.figure, kind, float(value), float(low if value < low else high))
