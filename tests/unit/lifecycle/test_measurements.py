"""What a host says of two releases is read as what anybody may have written: whole, bounded, or refused in one line."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from control.lifecycle.answers import wrong
from control.lifecycle.judgement import judge
from control.lifecycle.measurements import LINE, Answer, Measurements
from control.lifecycle.requests import EMBEDDING, LIKELY, LONG, RANKING, SCHEMA, SHORT, STREAM, TOOL
from inventory.bounds import MEASURED
from inventory.errors import PaddockError
from inventory.upgrade import UpgradeLimits
from tests.unit.lifecycle.simulated import Release, Simulated

END = '{"event": "end"}'


def answer(ask: str, body: bytes, **other: Any) -> Answer:
    values = {"event": "answer", "side": "canary", "pass": 1, "round": 1, "ask": ask, "status": 200, "ended": 0, "first_s": 0.1}
    values |= {"last_s": 0.2, "total_s": 0.3, "answer": base64.b64encode(body).decode(), **other}
    found = LINE.validate_json(json.dumps(values))
    assert isinstance(found, Answer)
    return found


@pytest.mark.parametrize(
    "line",
    [
        "Segmentation fault",
        "{}",
        '{"event": "started", "side": "canary", "pass": 3, "seconds": 1}',
        '{"event": "started", "side": "other", "pass": 1, "seconds": 1}',
        '{"event": "started", "side": "canary", "pass": 1, "seconds": NaN}',
        '{"event": "started", "side": "canary", "pass": 1, "seconds": -1}',
        '{"event": "started", "side": "canary", "pass": 1, "seconds": 1e400}',
        '{"event": "memory", "side": "canary", "pass": 1, "host_kib": 1, "card_kib": 99999999999999999999}',
        '{"event": "end", "more": 1}',
        "[" * 100_000,
    ],
)
def test_a_line_that_was_not_measured_is_refused(line: str) -> None:
    with pytest.raises(PaddockError, match=r"^ai: does not say what was measured, but "):
        Measurements().add("ai", [line, END])


def test_what_steers_a_terminal_is_not_repeated() -> None:
    with pytest.raises(PaddockError, match=r"\\x1b\[2J"):
        Measurements().add("ai", ["\x1b[2J"])


def test_a_run_that_stops_in_the_middle_is_refused() -> None:
    lines = [*Simulated(Release()).lines(4)][:-1]
    with pytest.raises(PaddockError, match="ends in the middle"):
        Measurements().add("ai", lines)


def test_more_than_is_bearable_is_not_read() -> None:
    with pytest.raises(PaddockError, match="says more of what was measured than 64 MiB, 10,000 lines or 1 MiB a line"):
        Measurements().add("ai", (END for _ in range(MEASURED.items + 1)))
    with pytest.raises(PaddockError, match="says more"):
        Measurements().add("ai", ["x" * (MEASURED.piece + 1)])


def test_runs_add_up() -> None:
    found = Measurements()
    for seed in range(2):
        found.add("ai", Simulated(Release(), seed=seed).lines(8))
    assert found.runs == 2 and len(found.started) == 8
    assert judge(found, UpgradeLimits(), "0.3.34").reached["prompts"].count == 16


def chat(**message: Any) -> bytes:
    return json.dumps({"choices": [{"message": message}]}).encode()


def called(arguments: str, name: str = "weather") -> bytes:
    return chat(tool_calls=[{"function": {"name": name, "arguments": arguments}}])


RIGHT = {
    TOOL: called('{"city": "Oslo"}'),
    SCHEMA: chat(content=' {"ready": false, "colour": "blue"}'),
    STREAM: b'data: {"choices": []}\n\ndata: {"choices": [{}]}\n\ndata: [DONE]\n\n',
    EMBEDDING: b'{"data": [{"embedding": [0.5, -1]}]}',
    RANKING: b'{"results": [{"index": 1, "relevance_score": 0.5}, {"index": 0, "relevance_score": 2}]}',
    LIKELY: b'{"completion_probabilities": [{"top_logprobs": [{"id": 5, "logprob": -0.5}]}]}',
}


@pytest.mark.parametrize("ask", RIGHT)
def test_an_answer_as_it_should_be_has_nothing_wrong(ask: str) -> None:
    assert wrong(answer(ask, RIGHT[ask])) == ""


@pytest.mark.parametrize(
    ("ask", "body", "words"),
    [
        (TOOL, chat(content="I cannot."), "it calls no tool"),
        (TOOL, called("{}", "other"), "it calls no tool"),
        (TOOL, called("{"), "the tool's arguments are no JSON object"),
        (TOOL, called('{"city": "Rome"}'), "the tool's arguments are not what its schema says"),
        (TOOL, called('{"city": ["Oslo"]}'), "the tool's arguments are not what its schema says"),
        (SCHEMA, chat(content=None), "its answer is no JSON object"),
        (SCHEMA, chat(content='{"ready": 1, "colour": "blue"}'), "its answer is not what the schema says"),
        (SCHEMA, b"<html>", "its answer is no JSON object"),
        (SCHEMA, b"[" * 100_000, "its answer is no JSON object"),
        (STREAM, RIGHT[STREAM][:-14], "its stream does not come in pieces up to its end"),
        (EMBEDDING, b'{"data": [{"embedding": [1e999]}]}', "it has no vector in its answer"),
        (EMBEDDING, b'{"data": [{"embedding": [1' + b"0" * 400 + b"]}]}", "it has no vector in its answer"),
        (RANKING, b'{"results": [{"index": [], "relevance_score": 1}]}', "it does not rank the two documents"),
        (LIKELY, b'{"completion_probabilities": [{"top_logprobs": 5}]}', "it does not tell which words it thinks likely"),
        (SHORT, b"", "its stream ends without timings"),
        (LONG, b'data: {"timings": {"prompt_n": 1, "predicted_n": 3}}\n\n', "it has generated 3 of 64 tokens"),
        (LONG, b'data: {"timings": {"prompt_n": "1", "predicted_n": 64}}\n\n', "its stream ends without timings"),
    ],
)
def test_what_is_wrong_with_an_answer_is_said(ask: str, body: bytes, words: str) -> None:
    assert wrong(answer(ask, body)) == words


NONSENSE = [b"", b"null", b"[]", b"{}", b"\xff\xfe", b'"x"', b'{"choices": {}}', b'{"choices": [[]]}', b'{"data": [1]}', b'{"results": 1}']


@pytest.mark.parametrize("ask", [*RIGHT, SHORT, "load"])
@pytest.mark.parametrize("body", NONSENSE)
def test_nonsense_never_ends_in_a_traceback(ask: str, body: bytes) -> None:
    assert wrong(answer(ask, body)) or (ask, body) in [("load", each) for each in NONSENSE]


def test_an_error_is_told_with_what_the_server_said() -> None:
    assert wrong(answer(SHORT, b'{"error": "Loading model"}', status=503)) == 'HTTP 503 ({"error": "Loading model"})'
    assert wrong(answer(SHORT, b"", status=0, ended=52)) == "no answer"
