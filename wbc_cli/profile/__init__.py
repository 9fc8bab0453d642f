"""A laboratory's profile: a type head of its own, learned from reviewed cells, beside the shipped one."""

MIN_REVIEWED_CELLS = 25
"""TrainingCells to learn a profile from."""
