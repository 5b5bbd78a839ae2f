"""Events of a stream, however the network cuts them."""

from typing import Any

import pytest

from paddock_gateway.contract import Used
from paddock_gateway.proxy.events import Splitter, Tally, TooLarge, used_in, used_of
from paddock_gateway.proxy.routes import Kind
from tests.unit.gateway.proxy.scripted import HELLO, TIMINGS, USAGE, chunk

STREAM = b"".join(HELLO) + b":\n\n"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 10_000])
@pytest.mark.parametrize("line", [b"\n", b"\r\n"])
def test_events_are_whole_however_they_are_cut(size: int, line: bytes) -> None:
    splitter, sent = Splitter(), STREAM.replace(b"\n", line)
    found = [event for at in range(0, len(sent), size) for event in splitter.feed(sent[at : at + size])]
    assert found == [*HELLO, b":\n\n"]


def test_an_event_may_be_as_large_as_its_bound_and_no_larger() -> None:
    splitter = Splitter(largest=1000)
    assert splitter.feed(b"x" * 1000) == []
    assert splitter.feed(b"\n\n") == [b"x" * 1000 + b"\n\n"]
    splitter.feed(b"x" * 1000)
    with pytest.raises(TooLarge):
        splitter.feed(b"x")


@pytest.mark.parametrize(
    ("kind", "events", "used"),
    [
        ("chat", [chunk({}, finish_reason="stop", timings=TIMINGS)], Used(5, 2, 2)),
        ("chat", [chunk({"content": "a"}, timings={"cache_n": 9, "prompt_n": 9, "predicted_n": 9})], None),
        ("chat", [chunk({}, finish_reason="stop"), chunk(usage=USAGE, timings=TIMINGS)], Used(5, 2, 2)),
        ("chat", [chunk(usage=USAGE), chunk(usage=USAGE)], Used(5, 2, 4)),
        ("completion", [chunk(usage=USAGE), chunk(usage=USAGE)], Used(10, 4, 4)),
        ("completion", [chunk(usage=USAGE)] * 1000, Used(5000, 2000, 2000)),
        ("chat", [chunk({"content": '"usage":{"prompt_tokens":99}'})], None),
        (
            "responses",
            [b'data: {"response":{"usage":{"input_tokens":7,"output_tokens":2,"input_tokens_details":{"cached_tokens":1}}}}\n\n'],
            Used(7, 1, 2),
        ),
    ],
)
def test_what_a_stream_took_is_what_the_back_end_says(kind: Kind, events: list[bytes], used: Used | None) -> None:
    tally = Tally(kind)
    for event in events:
        tally.hear(event)
    assert tally.used() == used


@pytest.mark.parametrize(
    "counts", [{"prompt_tokens": "many"}, {"prompt_tokens": -1}, {"prompt_tokens": None}, {"prompt_tokens_details": 3}]
)
def test_counts_that_are_none_are_nothing(counts: dict[str, Any]) -> None:
    assert used_of({"usage": counts}) == Used()
    assert used_of({"usage": 3}) is used_of({}) is used_of({"timings": []}) is None
    assert used_in(b'{"usage":{"prompt_tokens":}}') is None
