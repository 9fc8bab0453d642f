"""monitor.html: the control charts as one page, in the report's style."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wbc_cli.monitoring.charts import control_chart
from wbc_cli.monitoring.monitor import Monitoring, summaries, warnings
from wbc_cli.products.drawing import NOTICE
from wbc_cli.products.report.frame import image, policy, style, templates


def write_page(found: Monitoring, about: Mapping[str, Any], path: Path) -> None:
    """Write the page; figures whose limits are broken come first.

    Args:
        found: what to show.
        about: how it was made, as rows of a table.
        path: of the page.

    Raises:
        OSError: the disk is full or read-only.
    """
    css = style()
    broken = {alarm.figure.name for alarm in found.alarms}
    ordered = sorted(found.figures, key=lambda each: each.figure.name not in broken)
    page = templates("wbc_cli.monitoring").get_template("monitor.html")
    text = page.render(
        notice=NOTICE,
        policy=policy(css),
        style=css,
        about=about,
        found=found,
        broken=broken,
        alarms=summaries(found),
        figures=[(each, image(control_chart(each, found))) for each in ordered],
        last=len(found.groups) - 1,
        warnings=warnings(found),
    )
    path.write_text(text, encoding="utf-8", errors="backslashreplace")
