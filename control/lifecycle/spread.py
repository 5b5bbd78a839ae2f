"""How sure a figure is that was measured several times, without a word about its distribution but that it is as likely above as below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from math import exp, floor, log, sqrt
from statistics import NormalDist, median

LEVEL = 0.95
EXACT = 50
"""Up to so many values the distribution is counted out; for more, the normal one is as good."""


@dataclass(frozen=True)
class Spread:
    """Where the true value lies: most likely in the `middle`, with LEVEL or more from `low` to `high`. Of fewer than six values that is
    from the least to the most, which holds it with 1 − 2^(1−n)."""

    middle: float
    low: float
    high: float
    count: int


def spread(values: Sequence[float]) -> Spread:
    """Of at least one value, all above 0: the estimate of Hodges and Lehmann of their logarithms' centre, and its interval by Wilcoxon's
    signed ranks: Hollander, Wolfe, Chicken, Nonparametric Statistical Methods, 3rd edition, sections 3.2 and 3.3.

    It assumes that logarithms fall symmetrically around the true one. Those of ratios of two times do, where the same noise is on both.
    One value far off moves it little.
    """
    logs = sorted(map(log, values))
    averages = sorted((one + other) / 2 for at, one in enumerate(logs) for other in logs[at:])
    outside = _outside(len(logs))
    return Spread(exp(median(averages)), exp(averages[outside]), exp(averages[-1 - outside]), len(logs))


@cache
def _outside(count: int) -> int:
    """How many of the averages of two of so many values lie on either side of the interval."""
    if count > EXACT:
        centre, deviation = count * (count + 1) / 4, sqrt(count * (count + 1) * (2 * count + 1) / 24)
        return floor(centre - NormalDist().inv_cdf((1 + LEVEL) / 2) * deviation)
    # How many subsets of 1 … count have each sum: so the sum of signed ranks is distributed.
    ways = [1]
    for rank in range(1, count + 1):
        ways = [
            (ways[total] if total < len(ways) else 0) + (ways[total - rank] if total >= rank else 0) for total in range(len(ways) + rank)
        ]
    return max(0, len([each for each in accumulate(ways) if 1 - 2 * each / 2**count >= LEVEL]) - 1)
