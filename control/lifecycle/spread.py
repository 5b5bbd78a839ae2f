"""How sure a figure is that was measured several times, whatever its distribution: the interval of its median."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from statistics import median

LEVEL = 0.95


@dataclass(frozen=True)
class Spread:
    """A median, the interval that holds the true one with LEVEL or more, and of how many values it is made. Of fewer than six values the
    interval is from the least to the most, which holds the true median with 1 − 2^(1−n)."""

    median: float
    low: float
    high: float
    count: int


def spread(values: Sequence[float]) -> Spread:
    """The median of at least one value, and its interval between two order statistics.

    P(X(k) ≤ median ≤ X(n+1−k)) = 1 − 2 · Σ_{i<k} C(n, i) / 2^n: David and Nagaraja, Order Statistics, 3rd edition, section 7.1; Le Boudec,
    Performance Evaluation of Computer and Communication Systems, theorem 2.1. The values are to be independent, nothing else.
    """
    ordered, count = sorted(values), len(values)
    inner, outside = 1, 0.0
    for k in range(1, count // 2 + 1):
        outside += 2 * comb(count, k - 1) / 2**count
        if 1 - outside < LEVEL:
            break
        inner = k
    return Spread(median(ordered), ordered[inner - 1], ordered[count - inner], count)
