"""OpenAI's and Anthropic's own packages before a real llama-server, and each parameter that a caller may send, seen to act."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import anthropic
import openai
import pytest

from control.models.tiny_model import ANSWER
from tests.gateway.conftest import Llama
from tests.gateway.process import Gateway, key_of, running

TEXT = "".join(ANSWER).replace("▁", " ")
HI: Any = [{"role": "user", "content": "hi"}]
PATH = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}
READ: Any = {"name": "read", "description": "Reads a file", "parameters": PATH}
CLAUDES_READ: Any = {
    "name": "Read",
    "input_schema": {"type": "object", "properties": {"file_path": {"type": "string"}}, "required": ["file_path"]},
}
FIRST_WORD = 260
"""Its token; the others follow."""


@pytest.fixture(scope="module")
def gateway(llama: Llama, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    users = {"ann": {}, "bob": {"models": ["embed"]}}
    with running(tmp_path_factory.mktemp("clients"), llama.configuration(), users) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def client(gateway: Gateway) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=key_of("ann"), max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def claude(gateway: Gateway) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=gateway.url, api_key=key_of("ann"), max_retries=0) as client:
        yield client


def says(client: openai.OpenAI, **parameters: Any) -> str:
    """What `tiny` answers; what the package does not know goes along with the rest."""
    answer = client.chat.completions.create(model="tiny", messages=HI, extra_body=parameters)
    return answer.choices[0].message.content or ""


def test_openais_package_chats_whole_and_as_a_stream(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model="default", messages=HI, temperature=0)
    assert (whole.choices[0].message.content, whole.model) == (TEXT, "default")
    pieces = list(
        client.chat.completions.create(model="tiny", messages=HI, temperature=0, stream=True, stream_options={"include_usage": True})
    )
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices) == TEXT
    assert len(pieces) > len(ANSWER) and pieces[-1].usage and whole.usage
    assert pieces[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert client.completions.create(model="tiny", prompt="hi", temperature=0).choices[0].text.strip() == TEXT.strip()


def test_openais_package_calls_tools_whole_and_as_a_stream(client: openai.OpenAI) -> None:
    tools: Any = [{"type": "function", "function": READ}]
    choice = client.chat.completions.create(model="pi", messages=HI, tools=tools, tool_choice="auto").choices[0]
    assert choice.finish_reason == "tool_calls" and choice.message.tool_calls
    (call,) = choice.message.tool_calls
    assert call.type == "function" and json.loads(call.function.arguments) == {"path": "note.txt"}
    with client.chat.completions.stream(model="pi", messages=HI, tools=tools) as stream:
        streamed = stream.get_final_completion().choices[0].message.tool_calls
    assert streamed and streamed[0].function.arguments == call.function.arguments
    told = [*HI, choice.message.to_dict(), {"role": "tool", "tool_call_id": call.id, "content": "heron"}]
    assert client.chat.completions.create(model="pi", messages=told, tools=tools).choices[0].message.content == "I read it."
    unasked = client.chat.completions.create(model="pi", messages=HI, tools=tools, tool_choice="none").choices[0]
    assert not unasked.message.tool_calls
    required = client.chat.completions.create(model="pi", messages=HI, tools=tools, tool_choice="required").choices[0]
    assert required.message.tool_calls and required.message.tool_calls[0].type == "function"


def test_openais_package_calls_functions_as_it_once_did(client: openai.OpenAI) -> None:
    for choice in ("auto", {"name": "read"}):
        made: Any = client.chat.completions.create(model="pi", messages=HI, functions=[READ], function_call=choice)  # type: ignore[call-overload]
        assert made.choices[0].finish_reason == "function_call"
        assert json.loads(made.choices[0].message.function_call.arguments) == {"path": "note.txt"}
    refused: Any = client.chat.completions.create(model="pi", messages=HI, functions=[READ], function_call="none", max_tokens=30)
    assert refused.choices[0].message.function_call is None


def test_openais_package_gets_json_of_its_schema(client: openai.OpenAI) -> None:
    schema = {"type": "object", "properties": {"city": {"enum": ["Rome"]}}, "required": ["city"]}
    form: Any = {"type": "json_schema", "json_schema": {"name": "place", "schema": schema, "strict": True}}
    said = client.chat.completions.create(model="calling", messages=HI, temperature=0, max_tokens=100, response_format=form)
    assert json.loads(said.choices[0].message.content or "") == {"city": "Rome"}


def test_openais_package_gets_vectors_and_responses(client: openai.OpenAI) -> None:
    vectors = client.embeddings.create(model="embed", input=["hi", "there"])
    assert [len(each.embedding) for each in vectors.data] == [32, 32] and vectors.usage.prompt_tokens
    assert client.responses.create(model="tiny", input="hi", temperature=0).output_text == TEXT
    events = client.responses.create(model="tiny", input="hi", temperature=0, stream=True)
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == TEXT


def test_openais_package_knows_each_refusal(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match='Did you mean "tiny"'):
        client.chat.completions.create(model="tinny", messages=HI)
    with pytest.raises(openai.BadRequestError, match="context size") as refused:
        client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "x" * 40_000}], stream=True)
    assert refused.value.type == "exceed_context_size_error"
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model="tiny", messages="x")  # type: ignore[call-overload]
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="sk-wrong").models.list()
    bob = client.with_options(api_key=key_of("bob"))
    assert [model.id for model in bob.models.list()] == ["embed"]
    with pytest.raises(openai.NotFoundError):
        bob.chat.completions.create(model="tiny", messages=HI)
    assert {"tiny", "default", "calling", "tiny-calls.Q4_0.gguf", "embed"} <= {model.id for model in client.models.list()}


def test_anthropics_package_chats_counts_and_calls_tools(claude: anthropic.Anthropic) -> None:
    message = claude.messages.create(model="default", max_tokens=50, messages=HI, extra_body={"temperature": 0})
    assert (message.content[0].type, message.model, message.stop_reason) == ("text", "default", "end_turn")
    with claude.messages.stream(model="tiny", max_tokens=50, messages=HI, extra_body={"temperature": 0}) as stream:
        assert stream.get_final_text() == TEXT == message.content[0].text
    counted = claude.messages.count_tokens(model="tiny", messages=HI)
    assert counted.input_tokens == message.usage.input_tokens + (message.usage.cache_read_input_tokens or 0)
    called = claude.messages.create(model="claude", max_tokens=100, messages=HI, tools=[CLAUDES_READ])
    (use,) = called.content
    assert called.stop_reason == "tool_use" and use.type == "tool_use" and use.input == {"file_path": "note.txt"}
    result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": use.id, "content": "heron"}]}
    told: Any = [*HI, {"role": "assistant", "content": called.content}, result]
    with claude.messages.stream(model="claude", max_tokens=100, messages=told, tools=[CLAUDES_READ]) as stream:
        assert stream.get_final_text() == "I read it."


def test_anthropics_package_knows_each_refusal(claude: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError) as refused:
        claude.messages.create(model="none", max_tokens=1, messages=HI)
    assert refused.value.body["error"]["type"] == "not_found_error"  # type: ignore[index]
    with pytest.raises(anthropic.BadRequestError, match="context size"):
        claude.messages.create(model="tiny", max_tokens=1, messages=[{"role": "user", "content": "x" * 40_000}])
    with pytest.raises(anthropic.AuthenticationError):
        claude.with_options(api_key="sk-wrong").messages.create(model="tiny", max_tokens=1, messages=HI)


WILD = {"temperature": 50.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "typical_p": 1.0, "max_tokens": 9, "seed": 1}
"""Any token is as likely as any other."""


@pytest.mark.parametrize("tame", [{"temperature": 0}, {"top_k": 1}, {"top_p": 0.5}, {"min_p": 0.5}, {"typical_p": 0.5}], ids=str)
def test_a_sampler_brings_the_likeliest_words_back(client: openai.OpenAI, tame: dict[str, Any]) -> None:
    assert says(client, **WILD) != TEXT
    assert says(client, **WILD | tame) == TEXT


def test_a_seed_gives_the_same_words_again_and_another_one_gives_others(client: openai.OpenAI) -> None:
    first, again, another = (says(client, **WILD | {"seed": seed}) for seed in (7, 7, 8))
    assert first == again != another


@pytest.mark.parametrize("penalty", ["presence_penalty", "frequency_penalty", "repeat_penalty"])
def test_a_penalty_keeps_words_from_coming_again(client: openai.OpenAI, penalty: str) -> None:
    on = {"temperature": 0, "ignore_eos": True, "max_tokens": 30}
    assert says(client, **on).count("from") > 1
    assert says(client, **on, **{penalty: 100}).count("from") == 1


def test_stop_max_tokens_and_a_bias_act(client: openai.OpenAI) -> None:
    for stop in ("tiny", ["never", "tiny"]):
        assert says(client, temperature=0, stop=stop) == TEXT.partition("tiny")[0]
    cut = client.chat.completions.create(model="tiny", messages=HI, temperature=0, max_tokens=3)
    assert (cut.choices[0].finish_reason, cut.usage and cut.usage.completion_tokens) == ("length", 3)
    assert says(client, temperature=0, max_tokens=3, logit_bias={str(FIRST_WORD + 3): 100}).split() == ["tiny"] * 3


def test_logprobs_are_told(client: openai.OpenAI) -> None:
    said = client.chat.completions.create(model="tiny", messages=HI, temperature=0, logprobs=True, top_logprobs=3)
    found = said.choices[0].logprobs
    assert found and found.content
    assert [each.token for each in found.content][: len(ANSWER)] == [word.replace("▁", " ") for word in ANSWER]
    assert {len(each.top_logprobs) for each in found.content} == {3}


def test_the_log_has_the_counts_that_llama_server_says(llama: Llama, gateway: Gateway, client: openai.OpenAI) -> None:
    said = client.chat.completions.create(model="calling", messages=HI, temperature=0, max_tokens=11).usage
    for _ in client.chat.completions.create(model="calling", messages=HI, temperature=0, max_tokens=11, stream=True):
        pass
    gateway.stop()
    with closing(sqlite3.connect(gateway.directory / "gateway.db")) as database:
        rows = database.execute(
            "SELECT prompt_tokens, completion_tokens FROM llama_requests WHERE model = 'calling' AND path = '/v1/chat/completions'"
        ).fetchall()
    gateway.start()
    assert said and rows[-2:] == [(said.prompt_tokens, said.completion_tokens)] * 2
