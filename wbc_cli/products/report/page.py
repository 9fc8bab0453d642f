"""The page itself: a template filled with a run's records, charts and cells.

Nothing in it is fetched: pictures, charts, style and script stand in the page, and its security policy allows no
other. The same committed slides and the same run give the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wbc_cli.classes import BY_NAME, CLASS_NAMES, DIFFERENTIAL_NAMES
from wbc_cli.differential import FEWER_THAN_100, FEWER_THAN_200
from wbc_cli.products.drawing import NOTICE
from wbc_cli.products.report.cells import Gallery, ReportCell, collect
from wbc_cli.products.report.charts import class_chart, differential_chart
from wbc_cli.products.report.frame import image, part, policy, style, templates
from wbc_cli.products.report.settings import settings_of
from wbc_cli.products.report.words import CELL_FLAGS, SLIDE_FLAGS, in_words
from wbc_cli.products.selection import needs_review
from wbc_cli.products.tables import DONE, FAILED, REFUSED, SlideRecord, together
from wbc_cli.products.thumbnails import FIELD_UM, THUMBNAILS

LARGEST = 50_000_000  # bytes of a page: what browsers and mail take
LEAST_CERTAIN = 24  # cells that are to be reviewed in any case
PICTURES_A_SCRIPT = 250  # decoded together when the first of them comes into view
SLIDES_A_CHART = 40
MOST_CHARTED = 200  # slides; the table has all
_ROOM_A_SLIDE = 2_000  # bytes of its rows, at most
_ROOM_FOR_REST = 6_000_000  # charts, script, and what is said of 20,000 cells
_SCRIPTS = ("data.js", "gallery.js", "review.js")


def write_report(run: Mapping[str, Any], records: Sequence[SlideRecord], slides: Path, path: Path) -> None:
    """Write the page.

    Args:
        run: what run.json says of the run.
        records: of its slides, by name.
        slides: the folder that has theirs.
        path: of the page.

    Raises:
        OSError: the disk is full or read-only, or a slide's table is missing.
    """
    counted = [record for record in records if record["status"] == DONE]
    tables = [(str(r["name"]), slides / r["name"] / "cells.csv") for r in records if r["status"] != FAILED]
    room = max(LARGEST // 10, LARGEST - _ROOM_FOR_REST - _ROOM_A_SLIDE * len(records))
    gallery = collect(tables, THUMBNAILS, room)
    cells = _cells(gallery, [name for name, _ in tables])
    whole = together(counted)
    look, script = style(), "".join(map(part, _SCRIPTS))
    template = templates("wbc_cli.products.report").get_template("page.html")
    text = template.render(
        notice=NOTICE,
        policy=policy(look, script),
        style=look,
        script=script,
        run=run,
        settings=settings_of(run),
        classes=list(BY_NAME.values()),
        whole=whole,
        small={
            "below_100": sum(FEWER_THAN_100 in record["flags"] for record in counted),
            "below_200": sum(FEWER_THAN_200 in record["flags"] for record in counted),
        },
        whole_chart=image(differential_chart(_dicts(whole.classes))),
        charts=_charts(counted, _dicts(whole.classes)),
        charted=MOST_CHARTED,
        records=[{**record, "said": [in_words(f, SLIDE_FLAGS) for f in record.get("flags", ())]} for record in records],
        counted=counted,
        refused=[record for record in records if record["status"] == REFUSED],
        failed=[record for record in records if record["status"] == FAILED],
        gallery=gallery,
        queue=len(cells["queue"]),
        least=LEAST_CERTAIN,
        field=round(FIELD_UM),
        data={**cells, "run": _digest(json.dumps(cells))},
        pictures=[gallery.pictures[i : i + PICTURES_A_SCRIPT] for i in range(0, len(gallery.cells), PICTURES_A_SCRIPT)],
    )
    # file names that are not UTF-8 reach us as surrogates, which no encoding takes as they are
    path.write_text(text, encoding="utf-8", errors="backslashreplace")


def _charts(records: Sequence[SlideRecord], whole: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A chart a class for every forty slides; none where one slide is all there is."""
    shown = [record for record in records if record["differential"]["differential_cells"]][:MOST_CHARTED]
    groups = [shown[i : i + SLIDES_A_CHART] for i in range(0, len(shown), SLIDES_A_CHART)] if len(shown) > 1 else []
    return [
        {
            "first": group[0]["name"],
            "last": group[-1]["name"],
            "images": {
                name: image(
                    class_chart(name, [(r["name"], r["differential"]["classes"][name]) for r in group], whole[name])
                )
                for name in DIFFERENTIAL_NAMES
            },
        }
        for group in groups
    ]


def _dicts(classes: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: vars(share) for name, share in classes.items()}


def _cells(gallery: Gallery, slides: Sequence[str]) -> dict[str, Any]:
    """What the script knows of the cells, by columns."""
    cells = gallery.cells
    place, kind = ({name: i for i, name in enumerate(names)} for names in (slides, BY_NAME))
    looks = {words: i for i, words in enumerate(dict.fromkeys(cell.morphology for cell in cells))}
    written = {cell.folder: (cell.slide, cell.refused) for cell in cells}
    return {
        "classes": [{"name": c.name, "label": c.label} for c in BY_NAME.values()],
        "probabilities": len(CLASS_NAMES),
        "flags": CELL_FLAGS,
        "slides": [[name, *written.get(name, (name, False))] for name in slides],
        "slide": [place[cell.folder] for cell in cells],
        "id": [cell.id for cell in cells],
        "x": [cell.x for cell in cells],
        "y": [cell.y for cell in cells],
        "class": [kind[cell.class_name] for cell in cells],
        "confidence": [_percent(cell.confidence) for cell in cells],
        "p": [[_percent(p) for p in cell.probabilities] for cell in cells],
        "figures": [cell.figures for cell in cells],
        "looks": list(looks),
        "look": [looks[cell.morphology] for cell in cells],
        "cell_flags": [cell.flags for cell in cells],
        "queue": _queue(cells),
        "pictures_a_script": PICTURES_A_SCRIPT,
    }


def _queue(cells: Sequence[ReportCell]) -> list[int]:
    """Places of the cells to review, the least certain first; a refused slide is to be made again, not reviewed."""
    trusted = [i for i, cell in enumerate(cells) if not cell.refused]
    by_confidence = sorted(trusted, key=lambda i: cells[i].confidence)
    least = set(by_confidence[:LEAST_CERTAIN])
    return [i for i in by_confidence if i in least or needs_review(cells[i])]


def _percent(share: float) -> float:
    return round(100 * share, 2)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
