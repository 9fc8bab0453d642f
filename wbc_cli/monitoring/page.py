"""monitor.html: the control charts as one page, in the report's style."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wbc_cli.monitoring.charts import control_chart
from wbc_cli.monitoring.monitor import Monitoring, summaries, warnings
from wbc_cli.products.report import frame


def write_page(found: Monitoring, about: Mapping[str, Any], path: Path) -> None:
    """Write the page; figures whose limits are broken come first.

    Args:
        found: what to show.
        about: how it was made, as rows of a table.
        path: of the page.

    Raises:
        OSError: the disk is full or read-only.
    """
    broken = {alarm.figure.name for alarm in found.alarms}
    ordered = sorted(found.figures, key=lambda each: each.figure.name not in broken)
    frame.write_page(
        path,
        "wbc_cli.monitoring",
        "monitor.html",
        about=about,
        found=found,
        broken=broken,
        alarms=summaries(found),
        figures=[(each, frame.image(control_chart(each, found))) for each in ordered],
        last=len(found.groups) - 1,
        warnings=warnings(found),
    )
