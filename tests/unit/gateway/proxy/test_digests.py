"""By its digests a conversation is found again, whatever its client changes at each call besides."""

import json
from typing import Any

from paddock_gateway.proxy.body import Body
from paddock_gateway.proxy.digests import BLOCK, MOST, prefixes
from paddock_gateway.proxy.routes import Kind

TURNS = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]


def of(said: dict[str, Any], kind: Kind = "chat", model: str = "small") -> tuple[bytes, ...]:
    return prefixes(kind, model, Body(json.dumps(said).encode()))


def test_a_longer_conversation_begins_with_the_digests_of_the_shorter() -> None:
    long = of({"messages": TURNS})
    assert len(set(long)) == 3
    assert long[:1] == of({"messages": TURNS[:1]}) and long[:2] == of({"messages": TURNS[:2]})
    assert long != of({"messages": [{"role": "user", "content": "A"}, *TURNS[1:]]})


def test_what_stands_before_the_messages_counts_and_what_does_not_does_not() -> None:
    plain = of({"messages": TURNS})
    assert plain == of({"messages": TURNS, "temperature": 0.5, "stream": True, "max_tokens": 5})
    assert not set(plain) & set(of({"messages": TURNS, "tools": [{"type": "function"}]}))
    assert not set(plain) & set(of({"messages": TURNS}, model="large"))


def test_claude_codes_billing_header_changes_nothing() -> None:
    def system(mark: str) -> list[dict[str, str]]:
        header = f"x-anthropic-billing-header: cc_version=2.1.101.e51; cc_entrypoint=cli; cch={mark};"
        return [{"type": "text", "text": header + "You are Claude Code."}, {"type": "text", "text": "Be brief."}]

    as_chat = [of({"messages": [{"role": "system", "content": system(mark)}, *TURNS]}) for mark in ("a5145", "0fe21")]
    assert as_chat[0] == as_chat[1]
    elsewhere = [of({"messages": [*TURNS, {"role": "user", "content": system(mark)[0]["text"]}]}) for mark in ("a5145", "0fe21")]
    assert elsewhere[0] != elsewhere[1], "what a user quotes later is a part of the conversation"


def test_the_mark_that_anthropics_clients_move_along_changes_nothing() -> None:
    def marked(text: str) -> list[dict[str, object]]:
        return [{"type": "text", "text": text, "cache_control": {"type": "ephemeral", "ttl": "1h"}}]

    first = of({"system": marked("Be kind."), "messages": [{"role": "user", "content": marked('say "a" \\ b')}]})
    turns = [{"role": "user", "content": 'say "a" \\ b'}, {"role": "assistant", "content": "c"}, {"role": "user", "content": marked("d")}]
    assert of({"system": "Be kind.", "messages": turns})[:1] == first
    quoted = [of({"messages": [{"role": "user", "content": json.dumps(marked(word))}]}) for word in ("a", "b")]
    assert quoted[0] != quoted[1], "what a user quotes is a part of the conversation"


def test_a_bare_prompt_has_a_digest_for_each_block() -> None:
    text = "x" * BLOCK * 3
    assert of({"prompt": text}, "completion")[:3] == of({"prompt": text + "more"}, "completion")[:3]
    assert of({"input": TURNS}, "responses")[:2] == of({"input": TURNS[:2]}, "responses")
    assert of({"input": "hello"}, "responses")


def test_what_is_no_conversation_has_no_digest_and_costs_nothing() -> None:
    for messages in ([1, 2], ["a"], [], [{"role": "user"}, 3]):
        assert of({"messages": messages}) == ()
    assert of({"messages": [{}] * (100 * MOST + 1)}) == ()
    assert len(of({"messages": TURNS * MOST})) == MOST
