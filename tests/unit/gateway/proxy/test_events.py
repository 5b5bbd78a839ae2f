"""Events of a stream, however the network cuts them."""

from typing import Any

import pytest

from paddock_gateway.contract import Used
from paddock_gateway.proxy.events import Splitter, Tally, TooLarge, Unprogressed, marked, objects, split, used_in, used_of
from paddock_gateway.proxy.routes import Kind
from tests.unit.gateway.proxy.scripted import HELLO, TIMINGS, USAGE, chunk

STREAM = b"".join(HELLO) + b":\n\n"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 10_000])
@pytest.mark.parametrize("line", [b"\n", b"\r\n"])
def test_events_are_whole_however_they_are_cut(size: int, line: bytes) -> None:
    splitter, sent = Splitter(), STREAM.replace(b"\n", line)
    found = [batch for at in range(0, len(sent), size) if (batch := splitter.feed(sent[at : at + size]))]
    assert [event for batch in found for event in split(batch)] == [*HELLO, b":\n\n"] == split(b"".join(found))


def test_a_response_is_opened_without_its_progress() -> None:
    created = b'event: response.created\ndata: {"type":"response.created"}\n\n'
    opened = b'event: response.in_progress\ndata: {"type":"response.in_progress"%s}\n\n'
    counted = opened % b',"prompt_progress":{"total":9}'
    seen = Unprogressed("responses")
    assert seen(created + counted) + seen(counted) + seen(counted + STREAM) == created + opened % b"" + STREAM


def test_an_event_may_be_as_large_as_its_bound_and_no_larger() -> None:
    splitter = Splitter(largest=1000)
    assert splitter.feed(b"x" * 1000) == b""
    assert splitter.feed(b"\n\n") == b"x" * 1000 + b"\n\n"
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
    for event in marked(kind, b"".join(events)):
        tally.hear(event)
    assert tally.used() == used


@pytest.mark.parametrize(
    "counts", [{"prompt_tokens": "many"}, {"prompt_tokens": -1}, {"prompt_tokens": None}, {"prompt_tokens_details": 3}]
)
def test_counts_that_are_none_are_nothing(counts: dict[str, Any]) -> None:
    assert used_of({"usage": counts}) == Used()
    assert used_of({"usage": 3}) is used_of({}) is used_of({"timings": []}) is None
    assert used_in(b'{"usage":{"prompt_tokens":}}') is None


ODD = (b"data: 5\n\n", b": comment\n\n", b"event: x\ndata: {}\n\n", b"data: {no\n\n", b"data: [1]\n\n")


def test_events_are_taken_apart_at_once_as_each_by_itself() -> None:
    assert objects(STREAM) == objects(b"".join(HELLO)) == [said for event in HELLO for said in objects(event)]
    assert len(objects(STREAM)) == len(HELLO) - 1
    assert objects(b"".join(ODD)) == [{}] == objects(b"".join(ODD) + b"data: [DONE]\n\n")
    assert objects(HELLO[1] + ODD[0] + HELLO[2]) == objects(HELLO[1] + HELLO[2])
    assert objects(b"") == objects(b"data: [DONE]\n\n") == []


@pytest.mark.parametrize(
    ("kind", "mark"),
    [
        ("chat", b"data: [DONE]\n\n"),
        ("native", b'data: {"content":"","stop":true}\n\n'),
        ("responses", b"event: response.completed\ndata: {}\n\n"),
        ("plain", b'data: {"error":{}}\n\n'),
    ],
)
def test_only_what_may_count_end_or_fail_is_looked_at(kind: Kind, mark: bytes) -> None:
    text = chunk({"content": "a"})
    assert marked(kind, text * 9) == []
    assert marked(kind, text * 9 + mark + text) == [mark, text] == marked(kind, mark + text)
