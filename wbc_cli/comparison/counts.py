"""What a reader, or the tool, counted: cells of each class in each sample, and the percentages that they come to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from wbc_cli.classes import BY_NAME, DIFFERENTIAL_NAMES, OTHER, UNIDENTIFIED

NON_DIFFERENTIAL_NAMES: tuple[str, ...] = tuple(
    name for name in BY_NAME if name not in (*DIFFERENTIAL_NAMES, OTHER, UNIDENTIFIED.name)
)
"""The classes beside the differential that are compared where the readers tell them apart."""

Counts = Mapping[str, int]
CellKey = tuple[str, str]
"""The slide and number of a cell."""


@dataclass(frozen=True)
class Reader:
    """Somebody who counts, the tool among them.

    Attributes:
        name: as the reference has it.
        samples: cells of each class, by sample.
        told_apart: the classes that they know; a class that is missing in a sample was not seen in it.
        cells: class of each cell; empty where only counts are known.
    """

    name: str
    samples: Mapping[str, Counts]
    told_apart: frozenset[str]
    cells: Mapping[CellKey, str] = field(default_factory=dict)


def pool_readers(readers: Sequence[Reader]) -> Reader:
    """Pool readers into one who counted all their cells, as H20-A2 makes its reference; one reader is left as is."""
    if len(readers) == 1:
        return readers[0]
    samples: dict[str, Counter[str]] = {}
    for reader in readers:
        for sample, counts in reader.samples.items():
            samples.setdefault(sample, Counter()).update(counts)
    told_apart = frozenset.intersection(*(reader.told_apart for reader in readers))
    return Reader("all readers", samples, told_apart)


def share_of(counts: Counts, name: str) -> tuple[int, int, float]:
    """Return the cells of a class, the cells that they are a share of (0 where nothing is known), and the percentage.

    The five classes of the differential are shares of these five alone, so that readers who count others beside them
    compare; immature granulocytes and blasts are of all white cells, and erythroblasts are for 100 white cells.
    """
    white = sum(count for other, count in counts.items() if BY_NAME[other].white_cell)
    count = counts.get(name, 0)
    if name in DIFFERENTIAL_NAMES:
        white = sum(counts.get(other, 0) for other in DIFFERENTIAL_NAMES)
    if white == 0:
        return count, 0, 0.0
    total = white if BY_NAME[name].white_cell else white + count
    return count, total, 100 * count / white


def compared(first: Reader, second: Reader) -> tuple[str, ...]:
    """Return the classes that two readers can be compared in."""
    return (
        *DIFFERENTIAL_NAMES,
        *(name for name in NON_DIFFERENTIAL_NAMES if name in first.told_apart & second.told_apart),
    )
