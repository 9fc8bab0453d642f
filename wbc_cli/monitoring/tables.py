"""monitor.csv: a row a figure and group, with the limits of both charts."""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from pathlib import Path

from wbc_cli.monitoring.monitor import Monitoring

COLUMNS = (
    *("group", "slides", "period", "figure", "value", "centre", "low", "high"),
    *("ewma", "ewma_low", "ewma_high", "broken"),
)


def write_csv(found: Monitoring, path: Path) -> None:
    """Write the charts' numbers; period is reference, judged, or neither (empty).

    Raises:
        OSError: the disk is full or read-only.
    """
    broken: dict[tuple[str, str], list[str]] = defaultdict(list)
    for alarm in found.alarms:
        broken[alarm.group, alarm.figure.name].append(alarm.kind)
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(COLUMNS)
        for i, group in enumerate(found.groups):
            period = "reference" if found.reference[i] else "judged" if found.judged[i] else ""
            for each in found.figures:
                of = each.chart
                if math.isnan(of.values[i]):
                    continue
                numbers = (of.values, of.low, of.high, of.average, of.average_low, of.average_high)
                value, *others = (_fixed(column[i]) for column in numbers)
                rows.writerow(
                    (
                        *(group, found.slides[i], period, each.figure.name, value, _fixed(each.learned.centre)),
                        *others,
                        ";".join(broken[group, each.figure.name]),
                    )
                )


def _fixed(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.5f}"
