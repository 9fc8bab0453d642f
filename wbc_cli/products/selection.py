"""Which cells a person should look at first, and which ones stand for a slide."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import zip_longest
from typing import Protocol, TypeVar

from wbc_cli.classes import BLAST, BY_NAME, UNIDENTIFIED


class Typed(Protocol):
    """A cell as far as it matters here; of one slide, or a row of a table."""

    @property
    def id(self) -> int: ...  # noqa: D102
    @property
    def class_name(self) -> str: ...  # noqa: D102
    @property
    def confidence(self) -> float: ...  # noqa: D102
    @property
    def flags(self) -> tuple[str, ...]: ...  # noqa: D102


AnyCell = TypeVar("AnyCell", bound=Typed)


def needs_review(cell: Typed) -> bool:
    """Tell whether a cell is unidentified, suspected to be a blast, or flagged for any reason."""
    return cell.class_name in {UNIDENTIFIED.name, BLAST} or bool(cell.flags)


def review_order(cells: Sequence[AnyCell]) -> list[AnyCell]:
    """Sort all cells: those that need review first, and in both parts the least confident first."""
    return sorted(cells, key=lambda cell: (not needs_review(cell), cell.confidence, cell.id))


def sample(cells: Sequence[AnyCell], most: int) -> list[AnyCell]:
    """Select at most so many cells, by class: half of them those to review first, half some of every class.

    The second half takes one cell of each class in turn, the most confident first.
    """
    ordered = review_order(cells)
    chosen = ordered[: most - most // 2]
    by_class: dict[str, list[AnyCell]] = defaultdict(list)
    for cell in sorted(ordered[len(chosen) :], key=lambda cell: (-cell.confidence, cell.id)):
        by_class[cell.class_name].append(cell)
    in_turn = [cell for row in zip_longest(*by_class.values()) for cell in row if cell is not None]
    chosen += in_turn[: most - len(chosen)]
    place = {name: i for i, name in enumerate(BY_NAME)}
    return sorted(chosen, key=lambda cell: (place[cell.class_name], cell.confidence, cell.id))
