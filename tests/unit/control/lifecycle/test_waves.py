"""In which order hosts get a new release."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control.lifecycle.waves import Upgraded, sizes_of, waves
from inventory.errors import UsageError


def fleet(*hosts: tuple[str, str, str]) -> list[Upgraded]:
    return [Upgraded(name, build, frozenset(models.split())) for name, build, models in hosts]


def test_one_canary_of_each_build_class_goes_first_alone() -> None:
    first, *_ = waves(fleet(("a", "pascal", "m"), ("b", "pascal", "n"), ("c", "arm", "o")), sizes_of("1,100%"))
    assert (first.name, first.batches) == ("canary", (("a",), ("c",)))


def test_a_host_whose_models_another_serves_too_is_the_canary() -> None:
    first, *_ = waves(fleet(("a", "x", "m"), ("b", "x", "n"), ("c", "x", "n")), sizes_of("100%"))
    assert first.batches == (("b",),)


def test_waves_count_the_hosts_of_those_before_them() -> None:
    hosts = fleet(*((f"h{number}", "x", f"m{number}") for number in range(8)))
    assert [len(each.hosts) for each in waves(hosts, sizes_of("1,25%,100%"), at_once=8)] == [1, 1, 6]


def test_two_hosts_that_serve_one_model_are_never_away_at_the_same_time() -> None:
    hosts = fleet(("a", "x", "m"), ("b", "x", "n"), ("c", "x", "n"), ("d", "x", "p"))
    _, rest = waves(hosts, sizes_of("100%"), at_once=3)
    assert rest.batches == (("a", "c", "d"),)
    _, rest = waves(fleet(("a", "x", "m"), ("b", "x", "m"), ("c", "x", "m")), sizes_of("100%"), at_once=3)
    assert rest.batches == (("b",), ("c",))


@given(
    st.lists(st.tuples(st.sampled_from("xyz"), st.sampled_from(["m", "n", "m n", "o"])), min_size=1, max_size=30),
    st.sampled_from(["1", "1,25%,100%", "3,50%", "100%", "7,8,9"]),
    st.integers(1, 5),
)
def test_every_host_has_its_turn_once_within_what_may_be_away(kinds: list[tuple[str, str]], sizes: str, at_once: int) -> None:
    hosts = fleet(*((f"h{number}", build, models) for number, (build, models) in enumerate(kinds)))
    models = {each.host: each.models for each in hosts}
    found = waves(hosts, sizes_of(sizes), at_once)
    assert sorted(name for wave in found for name in wave.hosts) == sorted(models)
    for batch in (batch for wave in found for batch in wave.batches):
        assert 1 <= len(batch) <= at_once
        served = [model for name in batch for model in models[name]]
        assert len(served) == len(set(served))


@pytest.mark.parametrize("sizes", ["", "0", "0%", "101%", "25%,10%", "3,1", "2,2", "one", "1,,2", "-1", "1.5"])
def test_sizes_that_are_none_are_refused(sizes: str) -> None:
    with pytest.raises(UsageError, match="--waves"):
        sizes_of(sizes)
