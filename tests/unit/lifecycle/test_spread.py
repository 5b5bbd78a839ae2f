"""The interval of a centre: textbook values, and that it holds the true one as often as it says."""

from __future__ import annotations

import random

import pytest

from control.lifecycle.spread import EXACT, LEVEL, spread

CRITICAL = {6: 0, 7: 2, 8: 3, 9: 5, 10: 8, 12: 13, 16: 29, 20: 52, 25: 89}
"""Of Wilcoxon's signed ranks, two-sided at 5 %: Wilcoxon and Wilcox, Some Rapid Approximate Statistical Procedures, 1964, table 2."""


@pytest.mark.parametrize("count", CRITICAL)
def test_the_interval_is_that_of_the_tables(count: int) -> None:
    values = [2.0 ** (number * number) for number in range(count)]
    averages = sorted(2.0 ** ((one * one + other * other) / 2) for one in range(count) for other in range(one, count))
    found = spread(values)
    assert found.low == pytest.approx(averages[CRITICAL[count]]) and found.high == pytest.approx(averages[-1 - CRITICAL[count]])


def test_beyond_what_is_counted_out_the_interval_goes_on_as_it_was() -> None:
    widths = [found.high / found.low for found in (spread([1.01**number for number in range(count)]) for count in (EXACT, EXACT + 1))]
    assert widths[0] == pytest.approx(widths[1], rel=0.02)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_few_values_have_an_interval_from_the_least_to_the_most(count: int) -> None:
    found = spread(range(1, count + 1))
    assert (found.low, found.high, found.count) == (pytest.approx(1), pytest.approx(count), count)


@pytest.mark.parametrize("count", [6, 8, 16, 32])
def test_it_holds_the_true_ratio_of_noisy_times_as_often_as_it_says(count: int) -> None:
    chance = random.Random(count)

    def took() -> float:
        return chance.lognormvariate(0, 0.1) * (2 if chance.random() < 0.05 else 1)

    found = [spread([took() / took() for _ in range(count)]) for _ in range(500)]
    assert sum(each.low <= 1.0 <= each.high for each in found) / 500 > LEVEL - 0.025


def test_one_value_far_off_moves_it_little() -> None:
    assert spread([1.0] * 9 + [1000.0]).middle == pytest.approx(1.0)
