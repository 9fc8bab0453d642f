"""comparison.html: the comparison as one page, in the report's style."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wbc_cli.classes import BY_NAME
from wbc_cli.comparison.abnormal import DISTRIBUTION, EITHER, MORPHOLOGY
from wbc_cli.comparison.charts import difference_chart, scatter_chart
from wbc_cli.comparison.compare import Comparison
from wbc_cli.products.report import frame

MIN_CHARTED_SAMPLES = 5  # samples: of fewer the table shows as much
_KINDS = (DISTRIBUTION, MORPHOLOGY, EITHER)


def write_page(comparison: Comparison, about: Mapping[str, Any], path: Path) -> None:
    """Write the page.

    Args:
        comparison: what was found.
        about: where it comes from, as comparison.json says it.
        path: of the page.

    Raises:
        OSError: the disk is full or read-only.
    """
    first = comparison.pairs[0]
    charts = {
        found.name: [
            frame.image(draw(found, first.reference, first.tested)) for draw in (scatter_chart, difference_chart)
        ]
        for found in first.classes
        if len(found.samples) >= MIN_CHARTED_SAMPLES
    }
    frame.write_page(
        path,
        "wbc_cli.comparison",
        "comparison.html",
        about=about,
        comparison=comparison,
        first=first,
        charts=charts,
        labels={name: kind.label for name, kind in BY_NAME.items()},
        kinds=_KINDS,
    )
