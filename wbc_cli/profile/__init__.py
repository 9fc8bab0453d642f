"""A laboratory's profile: a type head of its own, learned from reviewed cells, beside the shipped one."""

MIN_REVIEWED_CELLS = 25
"""The fewest reviewed cells that a profile is learned from."""
