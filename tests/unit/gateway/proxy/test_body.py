"""A body is changed in what the gateway sets, and in nothing else."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddock_gateway.errors import Failure
from paddock_gateway.proxy.body import MOST_VALUES, REMOVED, Body

TEXT = st.text('aé"\\\\\\n/😀', max_size=4)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.sampled_from(["model", "stream", "id_slot", "a", "é", '"', ""]), VALUES)


@given(OBJECTS, st.booleans(), st.sampled_from([None, 1, "\t"]))
def test_only_what_is_set_differs(said: dict[str, Any], ascii: bool, indent: Any) -> None:
    raw = json.dumps(said, ensure_ascii=ascii, indent=indent).encode()
    body = Body(raw)
    assert body.changed({}) is raw
    assert body.changed(dict.fromkeys(("never", "there"), REMOVED)) is raw
    changed = json.loads(body.changed({"model": "é\n", "id_slot": 3, "stream": REMOVED}))
    assert changed == {**{name: value for name, value in said.items() if name != "stream"}, "model": "é\n", "id_slot": 3}


def test_members_that_stay_are_the_same_bytes() -> None:
    raw = b'{"a": [1.0, 1e2, "\\u00e9\\/"] , "b":12345678901234567890123.50,"stream":false}'
    assert Body(raw).changed({"stream": True}) == b'{"a":[1.0, 1e2, "\\u00e9\\/"],"b":12345678901234567890123.50,"stream":true}'


def test_of_a_member_that_is_there_twice_the_last_counts_as_for_llama_server() -> None:
    body = Body(b'{"model": "one", "model": "two", "m\\u006fdel": "three"}')
    assert body.text("model") == "three"
    assert json.loads(body.changed({"stream": True})) == {"model": "three", "stream": True}


def test_everything_may_be_taken_out() -> None:
    assert Body(b'{"id_slot": 1}').changed({"id_slot": REMOVED}) == b"{}"


def test_a_number_is_one_or_nothing() -> None:
    body = Body(b'{"a": 5, "b": -1, "c": 1.5, "d": "7", "e": null, "f": 99999999999999999999999999}')
    assert [body.number(name) for name in "abcdefg"] == [5, -1, None, None, None, None, None]


@pytest.mark.parametrize("many", [b"{},", b"[],", b"0,", b'{"a":1},'])
def test_a_body_of_very_many_values_is_not_taken_apart(many: bytes) -> None:
    body = Body(b'{"messages":[' + many * MOST_VALUES + b"0]}")
    with pytest.raises(Failure, match="200000 commas and brackets") as failure:
        body.parsed()
    assert failure.value.status == 413
    assert Body(b'{"messages":["' + b"a" * 10 * MOST_VALUES + b'"]}').parsed()
