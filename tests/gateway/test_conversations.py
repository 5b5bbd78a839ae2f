"""Conversations of many users on two replicas of four slots: each goes on from its own cache, and none from another's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from tests.gateway.conftest import Llama
from tests.gateway.conversations import (
    PATHS,
    ROUTES,
    SLACK,
    Talk,
    Tokens,
    bearer,
    check_as_of_a_fresh_server,
    check_only_their_own,
    paragraph,
    share_cached,
)
from tests.gateway.process import Gateway, running
from tests.share import WHOLE

TURNS = 30 if WHOLE else 10
USERS: dict[str, dict[str, object]] = {name: {} for name in ("ann", "bob", "cem", "dee", "eva", "fay", "gus", "hal")}


@pytest.fixture(scope="module")
def gateway(llama: Llama, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One for all: what an earlier test left in the slots is another's, as on any day."""
    with running(tmp_path_factory.mktemp("conversations"), llama.configuration(), USERS) as gateway:
        yield gateway


@asynccontextmanager
async def talking(llama: Llama) -> AsyncIterator[tuple[aiohttp.ClientSession, Tokens]]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=300)) as session:
        yield session, Tokens(session, llama.urls["embed"])


async def held(session: aiohttp.ClientSession, url: str, talk: Talk, turns: int = TURNS) -> None:
    for number in range(turns):
        await talk.say(session, url, paragraph(f"{talk.user} {number}", 80))


def test_conversations_of_ten_turns_go_on_from_their_own_cache(llama: Llama, gateway: Gateway) -> None:
    """Six of them, over every route, beside two users who ask something new each time, vectors, and counts of tokens."""

    async def main() -> None:
        routes = ("chat", "chat", "messages", "messages", "responses", "completions")
        talks = [Talk(user, route) for user, route in zip(("ann", "bob", "cem", "dee", "eva", "fay"), routes, strict=True)]
        others: list[Talk] = []
        async with talking(llama) as (session, tokens):
            ended = asyncio.Event()

            async def passing(user: str) -> None:
                while not ended.is_set():
                    others.append(Talk(user, "chat", paragraph(f"{user} {len(others)}", 120)))
                    await held(session, gateway.url, others[-1], 1)

            async def measuring(user: str) -> None:
                while not ended.is_set():
                    for path, body in (
                        ("/v1/embeddings", {"model": "embed", "input": paragraph(user)}),
                        ("/v1/messages/count_tokens", {"model": "tiny", "messages": [{"role": "user", "content": paragraph(user)}]}),
                        ("/tokenize", {"model": "tiny", "content": paragraph(user)}),
                    ):
                        async with session.post(gateway.url + path, json=body, headers=bearer(user)) as answer:
                            assert answer.status == 200, await answer.text()

            beside = [asyncio.create_task(task) for task in (passing("gus"), passing("hal"), measuring("gus"), measuring("ann"))]
            await asyncio.gather(*(held(session, gateway.url, talk) for talk in talks))
            ended.set()
            await asyncio.gather(*beside)

            share = await share_cached(tokens, talks)
            print(f"{share:.1%} of what could be cached was, beside {len(others)} other chats")
            for talk in talks:
                print(talk.user, talk.route, [(turn.counted, turn.cached) for turn in talk.turns])
            await check_only_their_own(tokens, [*talks, *others])
            await check_as_of_a_fresh_server(session, llama.urls["one"], talks)
            assert share >= 0.9

    asyncio.run(main())


@pytest.mark.parametrize("route", ROUTES)
def test_nobody_goes_on_from_the_same_words_of_another(llama: Llama, gateway: Gateway, route: str) -> None:
    async def main() -> None:
        async with talking(llama) as (session, tokens):
            words = paragraph(f"the same, over {route}")
            talks = [Talk(user, route, words) for user in USERS for _ in range(2)]
            for talk in talks:
                await talk.say(session, gateway.url, words)
            first, again = talks[0::2], talks[1::2]
            heading = await tokens.in_common("system:", [first[0].turns[0].prompt])  # which is in all that anybody says
            assert all(talk.turns[0].cached <= heading + SLACK for talk in first)
            assert all(talk.turns[0].cached > 0.9 * talk.turns[0].counted for talk in again), "a user's own is kept"

    asyncio.run(main())


def test_two_conversations_of_one_user_with_one_system_prompt_are_both_kept(llama: Llama, tmp_path: Path) -> None:
    """As a program has them that sends out another of its kind between two turns."""

    async def main(gateway: Gateway) -> None:
        async with talking(llama) as (session, tokens):
            talks = [Talk("ann", "chat", paragraph("agent", 400)), Talk("ann", "chat", paragraph("agent", 400))]
            for number in range(TURNS):
                for which, talk in enumerate(talks):
                    await talk.say(session, gateway.url, paragraph(f"{which} {number}", 80))
            share = await share_cached(tokens, talks)
            print(f"{share:.1%}", [[(turn.counted, turn.cached) for turn in talk.turns] for talk in talks])
            assert share >= 0.9

    with running(tmp_path, llama.configuration(), USERS) as gateway:
        asyncio.run(main(gateway))


def test_a_conversation_that_forks_goes_on_in_each_branch(llama: Llama, gateway: Gateway) -> None:
    async def main() -> None:
        async with talking(llama) as (session, tokens):
            trunk = Talk("bob", "chat", paragraph("trunk", 400))
            await held(session, gateway.url, trunk, 3)
            branches = [Talk("bob", "chat", trunk.system, messages=list(trunk.messages)) for _ in range(3)]
            for number in range(4):
                said = (talk.say(session, gateway.url, paragraph(f"{which} {number}", 80)) for which, talk in enumerate(branches))
                await asyncio.gather(*said)
            share = await share_cached(tokens, branches)
            print(f"{share:.1%}", [[(turn.counted, turn.cached) for turn in talk.turns] for talk in branches])
            assert share >= 0.9

    asyncio.run(main())


@pytest.mark.parametrize("route", ("chat", "messages"))
def test_a_conversation_goes_on_from_its_cache_after_its_user_has_stopped_an_answer(llama: Llama, gateway: Gateway, route: str) -> None:
    async def main() -> None:
        async with talking(llama) as (session, _):
            talk = Talk("cem", route, paragraph("stopped", 400))
            await held(session, gateway.url, talk, 2)
            endless = {**talk._body(), "model": "tiny", "stream": True, "max_tokens": 3000, "logit_bias": {"2": False}}
            async with session.post(gateway.url + PATHS[talk.route], json=endless, headers=bearer("cem")) as answer:
                await answer.content.readany()
            turn = await talk.say(session, gateway.url, paragraph("and on", 80))
            assert turn.cached >= 0.9 * talk.turns[-2].counted

    asyncio.run(main())


def test_several_answers_to_one_user_are_nobodys_cache(llama: Llama, gateway: Gateway) -> None:
    """They run in slots that llama-server chooses."""

    async def main() -> None:
        async with talking(llama) as (session, tokens):
            words = paragraph("several", 300)
            for user in USERS:
                await Talk(user, "chat", paragraph(f"before {user}")).say(session, gateway.url, "Hello")
            body = {"model": "tiny", "messages": [{"role": "user", "content": words}], "max_tokens": 4, "n": 3}
            async with session.post(gateway.url + PATHS["chat"], json=body, headers=bearer("dee")) as answer:
                assert len((await answer.json())["choices"]) == 3
            for user in USERS:
                body = {"model": "tiny", "messages": [{"role": "user", "content": words}], "max_tokens": 4}
                async with session.post(gateway.url + PATHS["chat"], json=body, headers=bearer(user)) as answer:
                    cached = (await answer.json())["usage"]["prompt_tokens_details"]["cached_tokens"]
                assert user == "dee" or cached <= await tokens.in_common("user:", [f"user: {words}"]) + SLACK, user

    asyncio.run(main())
