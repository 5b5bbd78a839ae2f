"""2,000 requests of 50 users over real sockets: limits hold to the request, shares to the weights, and each request has its row."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

from tests.gateway.crowd import Said, ask_all
from tests.gateway.process import Gateway, back_end, running, told

USERS, REQUESTS, SLOTS, WINDOW_S = 50, 2000, 8, 3600
LIMITED = 20
"""So many users have limits that they will meet."""


def users() -> dict[str, dict[str, Any]]:
    """Different weights, and for some a limit of 10 to 29 requests."""
    found: dict[str, dict[str, Any]] = {}
    for number in range(USERS):
        said: dict[str, Any] = {"weight": 1 + number % 4}
        if number < LIMITED:
            said["limits"] = {"requests": 10 + number, "window_s": WINDOW_S}
        found[f"user{number:02}"] = said
    return found


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


def rows(gateway: Gateway, question: str) -> list[tuple[Any, ...]]:
    with sqlite3.connect(gateway.directory / "gateway.db") as database:
        return database.execute(question).fetchall()


def all_rows(gateway: Gateway) -> Counter[tuple[str, int]]:
    return Counter(rows(gateway, "SELECT username, status_code FROM llama_requests WHERE path = '/v1/chat/completions'"))


def by_status(said: Said) -> Counter[tuple[str, int]]:
    return Counter({(user, status): number for user, statuses in said.statuses.items() for status, number in statuses.items()})


def test_nobody_passes_a_limit_and_each_request_has_its_row(tmp_path: Path) -> None:
    asked = [(f"user{number % USERS:02}", 8) for number in range(REQUESTS)]
    random.Random(14).shuffle(asked)
    with back_end(SLOTS) as url, running(tmp_path, configuration(url), users()) as gateway:
        said = asyncio.run(ask_all(gateway.url, asked, at_once=200))
        assert gateway.stop() == 0
        assert all_rows(gateway) == by_status(said)
    for number in range(USERS):
        allowed = 10 + number if number < LIMITED else REQUESTS // USERS
        assert said.statuses[f"user{number:02}"] == Counter({200: allowed, 429: REQUESTS // USERS - allowed}) - Counter()
    assert all(1 <= seconds <= WINDOW_S for seconds in said.retry_after)


def test_shares_follow_the_weights_while_all_wait(tmp_path: Path) -> None:
    """Each user has 40 requests of 1 to 64 tokens. As long as everybody has some left, each gets what its weight says."""
    chosen = random.Random(14)
    many = {f"user{number:02}": {"weight": 1 + number % 4} for number in range(USERS)}
    asked = [(name, chosen.randint(1, 64)) for _ in range(REQUESTS // USERS) for name in many]
    pids: list[int] = []
    patient = configuration("", health={"every_s": 3600})

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
