"""What llama-server's answers say, whatever they are: texts and numbers of timed ones, and what is wrong with the others."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from control.lifecycle.measurements import Answer
from control.lifecycle.requests import CITIES, COLOURS, EMBEDDING, GENERATED, LIKELY, LONG, RANKING, SCHEMA, SHORT, STREAM, TOOL, TOOL_NAME
from inventory.bounds import from_json
from roles.wording import one_line, shortened


class WrongAnswer(ValueError):
    """An answer that is not what was asked for."""


TIMINGS = ("prompt_n", "predicted_n", "prompt_per_second", "predicted_per_second")


@dataclass(frozen=True)
class Streamed:
    """A streamed completion: its text, the tokens of its prompt, and the tokens a second that its own timings claim."""

    text: str
    prompt: int
    claimed_prompt: float
    claimed_generation: float


def streamed(answer: Answer) -> Streamed:
    """Raises WrongAnswer for anything but a whole stream of GENERATED tokens."""
    events = list(_events(answer))
    timings = events[-1].get("timings") if events else None
    named = {name: _number(timings.get(name)) for name in TIMINGS} if isinstance(timings, dict) else {}
    if named.get("prompt_n") is None or (generated := named.get("predicted_n")) is None:
        raise WrongAnswer("its stream ends without timings")
    if generated != GENERATED:
        raise WrongAnswer(f"it has generated {generated:.0f} of {GENERATED} tokens")
    text = "".join(each["content"] for each in events if isinstance(each.get("content"), str))
    prompt, _, claimed_prompt, claimed_generation = (each or 0.0 for each in named.values())
    return Streamed(text, int(prompt), claimed_prompt, claimed_generation)


def wrong(answer: Answer) -> str:
    """What is wrong with an answer; empty where nothing is."""
    try:
        reader(answer.ask)(answer)
    except WrongAnswer as error:
        return str(error)
    return ""


def reader(ask: str) -> Callable[[Answer], object]:
    return READERS.get(ask, body_of)


def body_of(answer: Answer) -> dict[str, Any]:
    """The JSON object that it is. Raises WrongAnswer."""
    _came(answer)
    return _object(answer.answer, "its answer is no JSON object")


def likely(answer: Answer) -> list[Mapping[int, float]]:
    """Of each place in a completion the likeliest tokens, with their probabilities. Raises WrongAnswer."""
    found: list[Mapping[int, float]] = []
    for place in _dicts(body_of(answer).get("completion_probabilities")):
        pairs = [(each.get("id"), _number(each.get("logprob"))) for each in _dicts(place.get("top_logprobs"))]
        found.append({token: math.exp(min(0.0, log)) for token, log in pairs if isinstance(token, int) and log is not None})
    if not found or not all(found):
        raise WrongAnswer("it does not tell which words it thinks likely")
    return found


def distance(one: Mapping[int, float], other: Mapping[int, float]) -> float:
    """The total variation between two distributions of which only the likeliest tokens are known: 0 is the same, 1 shares nothing."""
    return sum(abs(one.get(token, 0.0) - other.get(token, 0.0)) for token in {*one, *other}) / 2


def embedding(answer: Answer) -> list[float]:
    """The vector. Raises WrongAnswer."""
    first = next(_dicts(body_of(answer).get("data")), {})
    vector = first.get("embedding")
    numbers = [_number(each) for each in vector] if isinstance(vector, list) else []
    found = [each for each in numbers if each is not None]
    if not found or len(found) != len(numbers):
        raise WrongAnswer("it has no vector in its answer")
    return found


def cosine(one: list[float], other: list[float]) -> float:
    """Of two vectors the cosine of the angle between them; 0 where they cannot be compared."""
    if len(one) != len(other):
        return 0.0
    length = math.hypot(*one) * math.hypot(*other)
    return sum(a * b for a, b in zip(one, other, strict=True)) / length if length else 0.0


def ranking(answer: Answer) -> list[int]:
    """The documents' numbers, the best first. Raises WrongAnswer."""
    listed = [(each.get("index"), _number(each.get("relevance_score"))) for each in _dicts(body_of(answer).get("results"))]
    scores = {index: score for index, score in listed if isinstance(index, int) and score is not None}
    if scores.keys() != {0, 1}:
        raise WrongAnswer("it does not rank the two documents")
    return sorted((0, 1), key=lambda index: -scores[index])


def _stream(answer: Answer) -> None:
    events = list(_events(answer))
    pieces = [each for each in events if isinstance(each.get("choices"), list)]
    if len(pieces) < 2 or not answer.answer.rstrip().endswith(b"data: [DONE]"):
        raise WrongAnswer("its stream does not come in pieces up to its end")


def _tool_call(answer: Answer) -> None:
    function = next(_dicts(_message(answer).get("tool_calls")), {}).get("function")
    if not isinstance(function, dict) or function.get("name") != TOOL_NAME:
        raise WrongAnswer("it calls no tool")
    if _object(function.get("arguments"), "the tool's arguments are no JSON object").get("city") not in CITIES:
        raise WrongAnswer("the tool's arguments are not what its schema says")


def _as_the_schema_says(answer: Answer) -> None:
    found = _object(_message(answer).get("content"), "its answer is no JSON object")
    if found.keys() != {"ready", "colour"} or not isinstance(found["ready"], bool) or found["colour"] not in COLOURS:
        raise WrongAnswer("its answer is not what the schema says")


READERS: Mapping[str, Callable[[Answer], object]] = {
    STREAM: _stream,
    TOOL: _tool_call,
    SCHEMA: _as_the_schema_says,
    LIKELY: likely,
    SHORT: streamed,
    LONG: streamed,
    EMBEDDING: embedding,
    RANKING: ranking,
}


def _message(answer: Answer) -> dict[str, Any]:
    message = next(_dicts(body_of(answer).get("choices")), {}).get("message")
    if not isinstance(message, dict):
        raise WrongAnswer("it has no message in its answer")
    return message


def _events(answer: Answer) -> Iterator[dict[str, Any]]:
    _came(answer)
    for line in answer.answer.split(b"\n"):
        if line.startswith(b"data: ") and line.strip() != b"data: [DONE]":
            yield _object(line.removeprefix(b"data: "), "an event of its stream is no JSON object")


def _came(answer: Answer) -> None:
    if not answer.came:
        said = one_line(shortened(answer.answer[:200].decode(errors="replace").strip()))
        how = f"HTTP {answer.status}" if answer.status else "no answer"
        raise WrongAnswer(f"{how}{f' ({said})' if said else ''}")


def _object(text: object, words: str) -> dict[str, Any]:
    try:
        found = from_json(text) if isinstance(text, str | bytes) else None
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise WrongAnswer(words)
    return found


def _dicts(value: object) -> Iterator[dict[str, Any]]:
    """The objects in a list; none where it is no list."""
    return (each for each in (value if isinstance(value, list) else ()) if isinstance(each, dict))


def _number(value: object) -> float | None:
    """A finite number; None for anything else."""
    try:
        found = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    except OverflowError:
        return None
    return found if math.isfinite(found) else None
