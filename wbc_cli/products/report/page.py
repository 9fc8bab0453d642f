"""The page itself: a template filled with a run's records, charts and cells.

Nothing in it is fetched: pictures, charts, style and script stand in the page, and its security policy allows no
other. The same committed slides and the same run give the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from wbc_cli.classes import BY_NAME, CLASS_NAMES, DIFFERENTIAL_NAMES
from wbc_cli.products.records import Records
from wbc_cli.products.registry import THUMBNAILS
from wbc_cli.products.report.cells import Gallery, ReportCell, collect
from wbc_cli.products.report.charts import class_chart, differential_chart
from wbc_cli.products.report.frame import image, part, write_page
from wbc_cli.products.report.settings import profiles_of, settings_of
from wbc_cli.products.report.slide_list import MAX_CHARTED, MAX_LISTED, list_samples, list_slides
from wbc_cli.products.report.words import CELL_FLAGS
from wbc_cli.products.samples import Sample, samples_of, stop_width_of
from wbc_cli.products.selection import needs_review
from wbc_cli.products.tables import DONE, REFUSED
from wbc_cli.products.thumbnails import FIELD_UM

LARGEST = 50_000_000  # bytes of a page: what browsers and mail take
LEAST_CERTAIN_CELLS = 24  # cells that are to be reviewed in any case
PICTURES_A_SCRIPT = 250  # decoded together when the first of them comes into view
SLIDES_A_CHART = 40
_ROOM_A_SLIDE = 2_000  # bytes of its rows, at most
_ROOM_FOR_REST = 6_000_000  # charts, script, and what is said of 20,000 cells
_SCRIPTS = ("data.js", "gallery.js", "review.js")


def write_report(
    run: Mapping[str, Any], records: Records, slides: Path, reviews: Mapping[str, Any], path: Path
) -> None:
    """Write the page.

    Args:
        run: what run.json says of the run.
        records: of its slides.
        slides: the folder that has theirs.
        reviews: see `reviews.review_part`.
        path: of the page.

    Raises:
        OSError: the disk is full or read-only, or a slide's table is missing.
    """
    samples = samples_of(records, stop_width_of(run))
    of_sample = {name: sample.name for sample in samples for name in sample.fields}
    write_page(
        path,
        "wbc_cli.products.report",
        "page.html",
        "".join(map(part, _SCRIPTS)),
        run=run,
        reviews=reviews,
        settings=settings_of(run),
        profiles=profiles_of(run),
        classes=list(BY_NAME.values()),
        of_sample=of_sample,
        stop_width=stop_width_of(run),
        **_counts_part(records, samples, of_sample),
        **_cells_part(records, slides, of_sample),
    )


def _counts_part(records: Records, samples: Sequence[Sample], of_sample: Mapping[str, str]) -> dict[str, Any]:
    """Return what the template shows of slides and samples: their tables and charts."""
    listed = list_slides(records, of_sample)
    grouped = any(len(sample.fields) > 1 for sample in samples)
    charted = [(s.name, asdict(s.differential)) for s in samples if s.used] if grouped else listed.differentials
    whole = records.differential
    return {
        "slides": listed,
        "whole": whole,
        "whole_chart": image(differential_chart(_dicts(whole.classes))),
        "charts": _charts(charted, _dicts(whole.classes)),
        "charted": MAX_CHARTED,
        "samples": list_samples(samples[:MAX_LISTED]) if grouped else [],
        "all_samples": len(samples),
    }


def _cells_part(records: Records, slides: Path, of_sample: Mapping[str, str]) -> dict[str, Any]:
    """Return what the template shows of cells, as many as the page has room for beside the rest."""
    tables = ((name, slides / name / "cells.csv") for name in records.names(DONE, REFUSED))
    room = LARGEST - _ROOM_FOR_REST - _ROOM_A_SLIDE * min(len(records), MAX_LISTED)
    gallery = collect(tables, THUMBNAILS, room)
    cells = _cells(gallery, of_sample)
    return {
        "gallery": gallery,
        "queue": len(cells["queue"]),
        "least": LEAST_CERTAIN_CELLS,
        "field": round(FIELD_UM),
        "data": {**cells, "run": _digest(json.dumps(cells))},
        "pictures": [
            gallery.pictures[i : i + PICTURES_A_SCRIPT] for i in range(0, len(gallery.cells), PICTURES_A_SCRIPT)
        ],
    }


def _charts(
    differentials: Sequence[tuple[str, Mapping[str, Any]]], whole: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Draw a chart a class for every forty slides or samples; none where one is all there is."""
    shown = [(name, counts["classes"]) for name, counts in differentials if counts["differential_cells"]][:MAX_CHARTED]
    groups = [shown[i : i + SLIDES_A_CHART] for i in range(0, len(shown), SLIDES_A_CHART)] if len(shown) > 1 else []
    return [
        {
            "first": group[0][0],
            "last": group[-1][0],
            "images": {
                kind: image(class_chart(kind, [(name, classes[kind]) for name, classes in group], whole[kind]))
                for kind in DIFFERENTIAL_NAMES
            },
        }
        for group in groups
    ]


def _dicts(classes: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: vars(share) for name, share in classes.items()}


def _cells(gallery: Gallery, of_sample: Mapping[str, str]) -> dict[str, Any]:
    """Return what the script knows of the cells, by columns; and of the slides that have some on the page."""
    cells = gallery.cells
    slides = list(dict.fromkeys(cell.folder for cell in cells))
    own = {of_sample[name] for name in slides if name in of_sample}
    samples = {name: i for i, name in enumerate(sorted(own))}
    place, kind = ({name: i for i, name in enumerate(names)} for names in (slides, BY_NAME))
    looks = {words: i for i, words in enumerate(dict.fromkeys(cell.morphology for cell in cells))}
    written = {cell.folder: (cell.slide, cell.refused) for cell in cells}
    return {
        "classes": [{"name": c.name, "label": c.label} for c in BY_NAME.values()],
        "probabilities": len(CLASS_NAMES),
        "flags": CELL_FLAGS,
        "samples": list(samples),
        "slides": [[name, *written[name], samples.get(of_sample.get(name, ""), -1)] for name in slides],
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
        "teaching": gallery.teaching,
        "pictures_a_script": PICTURES_A_SCRIPT,
    }


def _queue(cells: Sequence[ReportCell]) -> list[int]:
    """List the places of the cells to review, least certain first; a refused slide is to be made anew, not reviewed."""
    trusted = [i for i, cell in enumerate(cells) if not cell.refused]
    by_confidence = sorted(trusted, key=lambda i: cells[i].confidence)
    least = set(by_confidence[:LEAST_CERTAIN_CELLS])
    return [i for i in by_confidence if i in least or needs_review(cells[i])]


def _percent(share: float) -> float:
    return round(100 * share, 2)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
