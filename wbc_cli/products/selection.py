"""Which cells a person should look at first, and which ones stand for a slide."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import zip_longest

from wbc_cli.cells import Cell
from wbc_cli.classes import BY_NAME, UNIDENTIFIED


def needs_review(cell: Cell) -> bool:
    """Unidentified, or flagged for any reason."""
    return cell.class_name == UNIDENTIFIED.name or bool(cell.flags)


def review_order(cells: Sequence[Cell]) -> list[Cell]:
    """All cells: those that need review first, and in both parts the least confident first."""
    return sorted(cells, key=lambda cell: (not needs_review(cell), cell.confidence, cell.id))


def sample(cells: Sequence[Cell], most: int) -> list[Cell]:
    """At most so many cells, by class: half of them those to review first, half some of every class.

    The second half takes one cell of each class in turn, the most confident first.
    """
    ordered = review_order(cells)
    chosen = ordered[: most - most // 2]
    by_class: dict[str, list[Cell]] = defaultdict(list)
    for cell in sorted(ordered[len(chosen) :], key=lambda cell: (-cell.confidence, cell.id)):
        by_class[cell.class_name].append(cell)
    in_turn = [cell for row in zip_longest(*by_class.values()) for cell in row if cell is not None]
    chosen += in_turn[: most - len(chosen)]
    place = {name: i for i, name in enumerate(BY_NAME)}
    return sorted(chosen, key=lambda cell: (place[cell.class_name], cell.confidence, cell.id))
