"""2,000 requests of 50 users over real sockets: limits hold to the request, shares to the weights, and each request has its row."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.gateway.crowd import Said, ask_all, ask_once
from tests.gateway.process import Gateway, back_end, running, told

USERS, REQUESTS, SLOTS, WINDOW_S = 50, 2000, 8, 3600
PARALLEL = 2
LEAST_HELD = 60
"""Tokens that are held for a request of the crowd."""
MEMORY_MIB = 64
BEHIND_MS = 1000
"""A loop may be so late on a loaded machine."""


def users() -> dict[str, dict[str, Any]]:
    """Different weights; the first 15 have a limit of 10 to 24 requests, the next ten one of tokens, five one of requests at once."""
    limits: list[dict[str, Any]] = [{"requests": 10 + number} for number in range(15)]
    limits += [{"tokens": 300 + 30 * number} for number in range(10)]
    limits += [{"parallel": PARALLEL}] * 5
    limits += [{}] * (USERS - len(limits))
    return {f"user{number:02}": {"weight": 1 + number % 4, "limits": said | {"window_s": WINDOW_S}} for number, said in enumerate(limits)}


def configuration(*urls: str, **more: Any) -> dict[str, Any]:
    backends = {f"b{number}": {"url": url} for number, url in enumerate(urls)}
    targets = [{"backend": name, "model": "tiny"} for name in backends]
    return {
        "backends": backends,
        "models": {"tiny": {"targets": targets}},
        "queue": {"length": 4000, "per_user": 400, "wait_s": 200},
        "health": {"every_s": 0.2, "cooldown_s": 0.5},
        **more,
    }


def all_rows(gateway: Gateway) -> Counter[tuple[str, int]]:
    return Counter(gateway.rows("SELECT username, status_code FROM llama_requests WHERE path = '/v1/chat/completions'"))


def by_status(said: Said) -> Counter[tuple[str, int]]:
    return Counter({(user, status): number for user, statuses in said.statuses.items() for status, number in statuses.items()})


def test_nobody_passes_a_limit_and_each_request_has_its_row(tmp_path: Path, database: dict[str, Any]) -> None:
    asked = [(f"user{number % USERS:02}", 8) for number in range(REQUESTS)]
    random.Random(14).shuffle(asked)
    each, limited = REQUESTS // USERS, {name: said["limits"] for name, said in users().items()}
    with back_end(SLOTS) as url, running(tmp_path, configuration(url, **database), users()) as gateway:
        said = asyncio.run(ask_all(gateway.url, asked, at_once=200))
        assert gateway.memory_mib() < MEMORY_MIB
        settled = settled_tokens(gateway, REQUESTS)
        for name in [name for name, limits in limited.items() if "tokens" in limits]:
            left = limited[name]["tokens"] - settled[name]
            assert left >= 0
            # All is settled: what is left can be had to the last token, and not one more.
            said.statuses[name][asyncio.run(ask_once(gateway.url, name, max(left + 1, LEAST_HELD)))] += 1
            assert said.statuses[name][200] + said.statuses[name][429] == each + 1
            if left >= LEAST_HELD:
                said.statuses[name][asyncio.run(ask_once(gateway.url, name, left))] += 1
                assert said.statuses[name][429] < each
        assert gateway.stop() == 0
        assert all_rows(gateway) == by_status(said)
        most_of = told(url)["most_of"]
    for name, limits in limited.items():
        statuses = said.statuses[name]
        if "requests" in limits:
            assert statuses == Counter({200: limits["requests"], 429: each - limits["requests"]})
        elif "parallel" in limits:
            assert most_of[name] <= PARALLEL and statuses[200] + statuses[429] == each and statuses[200]
        elif "tokens" not in limits:
            assert statuses == Counter({200: each})
    lent_s = WINDOW_S // 20 if database else 0  # what others have of a limit comes back so late
    assert all(1 <= seconds <= WINDOW_S + lent_s for seconds in said.retry_after)


def settled_tokens(gateway: Gateway, requests: int) -> dict[str, int]:
    """By user, once all rows are written."""
    while gateway.rows("SELECT count(*) FROM llama_requests") != [(requests,)]:
        time.sleep(0.05)
    return dict(
        gateway.rows("SELECT username, CAST(sum(prompt_tokens + completion_tokens) AS integer) FROM llama_requests GROUP BY username")
    )


def test_limits_of_a_model_and_of_all_together_hold_to_the_request(tmp_path: Path, database: dict[str, Any]) -> None:
    with back_end(SLOTS) as url:
        target = [{"backend": "b0", "model": "tiny"}]
        models = {
            name: {"targets": target, "limits": {"requests": most, "window_s": WINDOW_S}} for name, most in (("tiny", 60), ("small", 80))
        }
        whole = {"requests": 100, "window_s": WINDOW_S}
        with running(tmp_path, configuration(url, models=models, global_limits=whole, **database), users()) as gateway:

            async def both() -> tuple[Said, Said]:
                asked = [(f"user{number:02}", 8) for number in range(30, USERS)] * 5
                return await asyncio.gather(
                    ask_all(gateway.url, asked, at_once=40, model="tiny"), ask_all(gateway.url, asked, at_once=40, model="small")
                )

            tiny, small = asyncio.run(both())
            assert gateway.stop() == 0
            assert all_rows(gateway) == by_status(tiny) + by_status(small)
    assert tiny.all()[200] <= 60 and small.all()[200] <= 80 and tiny.all()[200] + small.all()[200] == 100
    assert tiny.all()[429] + small.all()[429] == 100


def test_nobody_waits_longer_than_the_queue_lets_them(tmp_path: Path, database: dict[str, Any]) -> None:
    patient = configuration("", queue={"length": 400, "per_user": 400, "wait_s": 0.5}, **database)
    with back_end(1, "--token-ms", "10") as url:
        patient["backends"]["b0"]["url"] = url
        with running(tmp_path, patient, users()) as gateway:
            asked = [(f"user{number:02}", 8) for number in range(35, 45)] * 10
            said = asyncio.run(ask_all(gateway.url, asked, at_once=100)).all()
            assert gateway.stop() == 0
            ((longest, rows),) = gateway.rows("SELECT max(queued_ms), count(*) FROM llama_requests WHERE status_code = 200")
    assert said[200] + said[429] == 100 and said[429] and said[200] == rows
    assert longest <= 500 + BEHIND_MS


def test_shares_follow_the_weights_while_all_wait(tmp_path: Path, database: dict[str, Any]) -> None:
    """Each user has 40 requests of 1 to 64 tokens. As long as everybody has some left, each gets what its weight says."""
    chosen = random.Random(14)
    many = {f"user{number:02}": {"weight": 1 + number % 4} for number in range(USERS)}
    asked = [(name, chosen.randint(1, 64)) for _ in range(REQUESTS // USERS) for name in many]
    pids: list[int] = []
    patient = configuration("", health={"every_s": 3600}, **database)

    async def crowd(gateway: Gateway) -> Said:
        os.kill(pids[0], signal.SIGSTOP)  # nobody is served until all wait
        waiting = asyncio.create_task(ask_all(gateway.url, asked, at_once=REQUESTS))
        while (await asyncio.to_thread(gateway.status))["waiting"] < REQUESTS - SLOTS:
            await asyncio.sleep(0.1)
        os.kill(pids[0], signal.SIGCONT)
        return await waiting

    with back_end(SLOTS, pids=pids) as url:
        patient["backends"]["b0"]["url"] = url
        with running(tmp_path, patient, many) as gateway:
            said = asyncio.run(crowd(gateway))
        served, most = told(url)["served"], told(url)["most"]
    assert said.all() == Counter({200: REQUESTS}) and most <= SLOTS
    took: Counter[str] = Counter()
    left = Counter(user for user, _ in served)
    for user, tokens in served:
        took[user] += tokens
        left[user] -= 1
        if not left[user]:
            break
    whole, weights = sum(took.values()), sum(int(said["weight"]) for said in many.values())
    largest = max(tokens for _, tokens in served)
    for name, entry in many.items():
        share = whole * int(entry["weight"]) / weights
        assert abs(took[name] - share) <= 0.05 * share + largest, (name, entry, took[name], share, largest)
