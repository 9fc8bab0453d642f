"""What the page says of reviews: who saw which slide, what it came to, and whether it is signed."""

from __future__ import annotations

from collections import Counter
from typing import Any

from wbc_cli.differential import of_counts
from wbc_cli.review.reviewed import Review, Signature, SlideReview


def review_part(review: Review | None, problem: str) -> dict[str, Any]:
    """Gather what the template is told of the review.

    Args:
        review: of the run; None where nobody has reviewed it.
        problem: why that is not known, though there is a log of it.
    """
    slides = [_slide(slide) for slide in review.slides.values()] if review else []
    return {
        "problem": problem,
        "slides": slides,
        "outdated": dict(review.outdated) if review else {},
        "entries": len(review.log.entries) if review else 0,
        "sha256": review.log.sha256 if review else "",
        "broken": [slide["name"] for slide in slides if any(not s["stands"] for s in slide["signatures"])],
    }


def _slide(slide: SlideReview) -> dict[str, Any]:
    return {
        "name": slide.slide,
        "reviewers": [{"name": name, "time": _short(time)} for name, time in slide.reviewers.items()],
        "changed": sum(a != b for a, b in zip(slide.before, slide.after, strict=True)),
        "cells": len(slide.before),
        "disputed": slide.disputed,
        "signatures": [_signature(signature) for signature in slide.signatures],
        "before": of_counts(Counter(slide.before)),
        "after": of_counts(Counter(slide.after)),
    }


def _signature(signature: Signature) -> dict[str, Any]:
    return {"name": signature.reviewer, "time": _short(signature.time), "stands": signature.stands}


def _short(time: str) -> str:
    """Format a time of a log for people: 2026-01-31 08:15 UTC."""
    return f"{time[:10]} {time[11:16]} UTC"
