"""A whole comparison: the tool against the readers, the readers among each other, and what is too little to tell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from wbc_cli.classes import DIFFERENTIAL_NAMES
from wbc_cli.comparison.abnormal import DISTRIBUTION, MORPHOLOGY, DiagnosticAccuracy, Limits, diagnostic_accuracy
from wbc_cli.comparison.cell_agreement import CellAgreement, cell_agreement
from wbc_cli.comparison.counts import Reader, compared, pool_readers, share_of
from wbc_cli.comparison.differences import BlandAltman, bland_altman, correlation, within_limits
from wbc_cli.comparison.estimate import Estimate, proportion
from wbc_cli.comparison.reading import TOOL, Reference
from wbc_cli.comparison.regression import PassingBablok, passing_bablok

MIN_SAMPLES = 40  # CLSI EP09
MIN_ABNORMAL = 10
MIN_CELLS = 200  # that a reader of H20-A2 counts in a sample
MIN_CLASS_CELLS = 30
MAX_COUNT_RATIO = 2  # times as many cells by one method as by the other, from where on their errors are not alike


@dataclass(frozen=True, eq=False)
class ClassAgreement:
    """One class by two methods, in percent.

    Attributes:
        name: of the class.
        samples: that both have counted.
        reference, tested: float64 [samples], what each makes of them.
        line, differences, r: None where there is too little to tell.
        within: share of the samples whose difference is no more than the cells counted give by chance; None where
            both counted the same cells, which differ by no chance.
    """

    name: str
    samples: tuple[str, ...]
    reference: NDArray[np.float64]
    tested: NDArray[np.float64]
    line: PassingBablok | None
    differences: BlandAltman | None
    r: Estimate | None
    within: Estimate | None


@dataclass(frozen=True)
class Pair:
    """Two who counted the same samples.

    Attributes:
        reference, tested: their names.
        samples: that both counted.
        classes: each class that both tell apart.
        abnormal: how abnormal samples are found.
        cells: cell by cell, where both have typed the same ones.
    """

    reference: str
    tested: str
    samples: int
    classes: tuple[ClassAgreement, ...]
    abnormal: tuple[DiagnosticAccuracy, ...]
    cells: CellAgreement | None


@dataclass(frozen=True)
class Comparison:
    """Everything that a comparison says.

    Attributes:
        pairs: the tool against all readers, then against each whose cells are known, then the readers among each
            other, whose agreement is the most that can be asked of the tool.
        limits: of abnormal samples, by class.
        missing: samples of the reference that are not compared, and why.
        warnings: figures that rest on too little, in words.
    """

    pairs: tuple[Pair, ...]
    limits: Mapping[str, Limits]
    missing: Mapping[str, str]
    warnings: tuple[str, ...]


def compare(reference: Reference, limits: Mapping[str, Limits]) -> Comparison:
    """Compare the tool with the readers, and these with each other."""
    readers, tool = reference.readers, reference.tool
    compared_pairs = [(pool_readers(readers), tool)]
    if len(readers) > 1:
        compared_pairs += [(reader, tool) for reader in readers if reader.cells]
        compared_pairs += combinations(readers, 2)
    pairs = tuple(_pair(first, second, limits, reference.by_cell) for first, second in compared_pairs)
    warnings = tuple(dict.fromkeys(_warnings(reference, pairs)))
    return Comparison(pairs, limits, reference.missing, warnings)


def _pair(first: Reader, second: Reader, limits: Mapping[str, Limits], same_cells: bool) -> Pair:
    samples = [sample for sample in first.samples if sample in second.samples]
    counts = [(first.samples[sample], second.samples[sample]) for sample in samples]
    counted_names = {name for pair in counts for each in pair for name, count in each.items() if count}
    names = [name for name in compared(first, second) if name in DIFFERENTIAL_NAMES or name in counted_names]
    counted = [pair for pair in counts if all(share_of(each, DIFFERENTIAL_NAMES[0])[1] for each in pair)]
    return Pair(
        first.name,
        second.name,
        len(samples),
        tuple(_class(name, samples, first, second, same_cells) for name in names),
        diagnostic_accuracy(counted, names, limits),
        cell_agreement(first.cells, second.cells),
    )


def _class(name: str, samples: list[str], first: Reader, second: Reader, same_cells: bool) -> ClassAgreement:
    shares = [
        (sample, *share_of(first.samples[sample], name), *share_of(second.samples[sample], name)) for sample in samples
    ]
    shares = [row for row in shares if row[2] and row[5]]
    counts, totals, x, others, other_totals, y = (np.array([row[i] for row in shares]) for i in range(1, 7))
    x, y = x.astype(np.float64), y.astype(np.float64)
    within = None
    if shares and not same_cells:
        within = proportion(int(within_limits(others, other_totals, counts, totals).sum()), len(shares))
    return ClassAgreement(
        name,
        tuple(row[0] for row in shares),
        x,
        y,
        passing_bablok(x, y),
        bland_altman(x, y),
        correlation(x, y),
        within,
    )


def _warnings(reference: Reference, pairs: tuple[Pair, ...]) -> Iterator[str]:
    if reference.by_cell:
        yield (
            "The readers typed the cells that the tool had found: what it missed is in no figure, and the percentages "
            "differ by no chance of which cells were counted."
        )
        if reference.named < 1:
            yield (
                f"The reference names {reference.named:.0%} of the cells of its slides; the others count as called "
                "right, as in a review. Where they were not looked at, agreement and kappa are too good."
            )
    yield from _few_cells(reference)
    for pair in pairs:
        yield from _of_pair(pair)


def _few_cells(reference: Reference) -> Iterator[str]:
    for reader in (*reference.readers, reference.tool):
        read = [sample for sample in reader.samples if any(sample in other.samples for other in reference.readers)]
        small = sum(share_of(reader.samples[sample], DIFFERENTIAL_NAMES[0])[1] < MIN_CELLS for sample in read)
        if small:
            yield f"{reader.name} counted fewer than {MIN_CELLS} cells in {small} of {len(read)} samples."
    first = {sample: sum(counts.values()) for sample, counts in pool_readers(reference.readers).samples.items()}
    second = {sample: sum(counts.values()) for sample, counts in reference.tool.samples.items()}
    ratios = [second[sample] / count for sample, count in first.items() if count and second.get(sample)]
    ratio = float(np.median(ratios)) if ratios else 1.0
    if not 1 / MAX_COUNT_RATIO <= ratio <= MAX_COUNT_RATIO:
        yield (
            f"The tool counted {ratio:.2g} times as many cells as the readers: Passing and Bablok's line presumes "
            "that both count about as exactly."
        )


def _of_pair(pair: Pair) -> Iterator[str]:
    title = f"{pair.tested} against {pair.reference}"
    if pair.samples < MIN_SAMPLES:
        yield f"{title}: {pair.samples} samples; regression and limits of agreement need {MIN_SAMPLES} or more."
    if pair.tested != TOOL:
        return
    empty = pair.samples - len(pair.classes[0].samples)
    if empty:
        yield f"{title}: in {empty} samples one side has no cell of the differential; they are in no figure."
    rare = [found.name for found in pair.classes if found.line is None or np.median(found.reference) == 0]
    if rare:
        yield f"{title}: too few cells, or samples, with {', '.join(rare)} for a regression to mean much."
    for kind in pair.abnormal:
        positive, negative = kind.both + kind.missed, kind.false_alarms + kind.neither
        if kind.kind in (DISTRIBUTION, MORPHOLOGY) and min(positive, negative) < MIN_ABNORMAL:
            yield (
                f"{title}: {positive} samples are abnormal by {kind.kind} and {negative} are not; sensitivity and "
                f"specificity need {MIN_ABNORMAL} or more of each."
            )
    if pair.cells:
        rows = zip(pair.cells.classes, pair.cells.confusion, strict=True)
        few = [f"{name} ({sum(row)})" for name, row in rows if sum(row) < MIN_CLASS_CELLS]
        if few:
            yield f"{title}: fewer than {MIN_CLASS_CELLS} cells of {', '.join(few)}: their sensitivity is vague."
