"""What the command line has to know of the run folder before anything heavy is loaded."""

from __future__ import annotations

SCHEMA_VERSION = 1
"""Of the records (JSON) in a run folder."""

STOP_WIDTH = 15.0
"""Percentage points of the widest interval of a sample: with the usual 200 cells that of a half is 14 wide."""
