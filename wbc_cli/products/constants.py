"""What the command line has to know of the run folder before anything heavy is loaded."""

from __future__ import annotations

SCHEMA_VERSION = 1
"""The version of the schemas of the records (JSON) in a run folder."""

STOP_WIDTH = 15.0
"""The percentage points of the widest interval of a sample: with the usual 200 cells that of a half is 14 wide."""
