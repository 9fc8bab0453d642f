"""How far two answers about the same cells agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence


def cohens_kappa(first: Sequence[Hashable], second: Sequence[Hashable]) -> float | None:
    """Compute agreement beyond chance (Cohen, 1960); None where chance gives all of it, or nothing is compared."""
    total = len(first)
    counts = Counter(first), Counter(second)
    chance = sum(counts[0][name] * counts[1][name] for name in counts[0]) / max(1, total) ** 2
    if total == 0 or chance == 1:
        return None
    agreed = sum(a == b for a, b in zip(first, second, strict=True)) / total
    return (agreed - chance) / (1 - chance)
