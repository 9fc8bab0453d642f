"""Times as files have them: in UTC, to the second."""

from __future__ import annotations

from datetime import UTC, datetime


def utc_text(time: datetime) -> str:
    """Format a time such as 2026-01-31T08:15:00Z."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def utc_time(text: str) -> datetime:
    """Parse the time that a text gives, to the second.

    Raises:
        ValueError: it is not ISO 8601, or has no zone.
    """
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError("it has no time zone")
    return time.astimezone(UTC).replace(microsecond=0)
