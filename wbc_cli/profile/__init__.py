"""A laboratory's profile: a type head of its own, learned from reviewed cells, beside the shipped one."""

FEWEST_REVIEWED = 25
"""Cells to learn a profile from."""
