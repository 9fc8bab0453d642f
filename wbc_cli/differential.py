"""From cells to a differential count: numbers, percentages and their exact intervals."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from wbc_cli.cells import Cell
from wbc_cli.classes import BY_NAME, CLASSES, DIFFERENTIAL_NAMES, UNIDENTIFIED
from wbc_cli.intervals import clopper_pearson, interval_width

NOT_WHITE_NAMES: tuple[str, ...] = tuple(c.name for c in CLASSES if not c.white_cell)

FEWER_THAN_100 = "fewer_than_100_cells"
FEWER_THAN_200 = "fewer_than_200_cells"

_MOST_CELLS = 1_000_000


@dataclass(frozen=True)
class Share:
    """A count out of a total, in percent, with its 95 % interval.

    Attributes:
        count: the cells of this kind.
        percent, low, high: 0 to 100; None where the total is 0, as nothing is known then.
    """

    count: int
    percent: float | None
    low: float | None
    high: float | None

    @classmethod
    def of(cls, count: int, total: int) -> Share:
        """Take a share with its Clopper-Pearson interval (what haematologists know as Rümke's table).

        Args:
            count: 0 to total.
            total: 0 or more.
        """
        if total == 0:
            return cls(count, None, None, None)
        low, high = clopper_pearson(count, total)
        return cls(count, 100 * count / total, 100 * low, 100 * high)


@dataclass(frozen=True)
class Differential:
    """The count of one slide.

    Attributes:
        cells: all white cells: the differential classes, immature granulocytes, blasts and unidentified ones.
        differential_cells: the cells of the differential classes: what the percentages are taken of.
        classes: share of each differential class, in the order of `classes.CLASSES`.
        others: count of every class outside the differential, unidentified last.
        unidentified: unidentified cells as a share of all white cells.
        per_100_wbc: cells that are not white cells (erythroblasts, platelets) for 100 white cells; None without any.
        flags: FEWER_THAN_100 or FEWER_THAN_200, by the differential cells, as the intervals rest on these.
    """

    cells: int
    differential_cells: int
    classes: dict[str, Share]
    others: dict[str, int]
    unidentified: Share
    per_100_wbc: dict[str, float | None]
    flags: tuple[str, ...]


def count_cells(cells: Iterable[Cell]) -> Differential:
    """Count the cells of one slide, or of several taken together.

    Cells cut by the image border (flag "edge") count like all others.
    """
    return count_classes(cell.class_name for cell in cells)


def count_classes(names: Iterable[str]) -> Differential:
    """Count a differential from the cells' classes alone."""
    return of_counts(Counter(names))


def of_counts(numbers: Mapping[str, int]) -> Differential:
    """Compute a differential from the number of cells of each class, such as the sum of several slides'."""
    counts = Counter(numbers)
    white = sum(n for name, n in counts.items() if BY_NAME[name].white_cell)
    total = sum(counts[name] for name in DIFFERENTIAL_NAMES)
    return Differential(
        cells=white,
        differential_cells=total,
        classes={name: Share.of(counts[name], total) for name in DIFFERENTIAL_NAMES},
        others={name: counts[name] for name in BY_NAME if name not in DIFFERENTIAL_NAMES},
        unidentified=Share.of(counts[UNIDENTIFIED.name], white),
        per_100_wbc={name: 100 * counts[name] / white if white else None for name in NOT_WHITE_NAMES},
        flags=_count_flags(total),
    )


def more_cells(differential: Differential, width: float) -> int | None:
    """Compute how many more cells it takes until the widest interval is narrow enough, if the shares stay as they are.

    Args:
        differential: what has been counted.
        width: of the widest interval of a class, in percentage points.

    Returns:
        0 where it is narrow enough; None without any cells, or where a million are too few.
    """
    total = differential.differential_cells
    shares = [share.count / total for share in differential.classes.values()] if total else []

    def narrow(cells: int) -> bool:
        return all(100 * interval_width(share * cells, cells) <= width for share in shares)

    if not total or not narrow(_MOST_CELLS):
        return None
    return bisect_left(range(total, _MOST_CELLS), True, key=narrow)


def _count_flags(total: int) -> tuple[str, ...]:
    if total < 100:
        return (FEWER_THAN_100,)
    return (FEWER_THAN_200,) if total < 200 else ()
