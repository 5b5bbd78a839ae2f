"""Real coding agents before a real llama-server, each with a key of the gateway's: they read a file with their own tool, and answer."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests import npm
from tests.edge import real_pi
from tests.gateway.conftest import Llama
from tests.gateway.process import Gateway, key_of, running
from tests.gateway.recorder import Recorder, Seen, recording

CLAUDE_CODE = "2.1.332"
NOTE = "the word in this note is heron"
QUESTION = "Which word is in note.txt?"
ANSWER = "I read it."

PI_APIS = {"openai-completions": "/v1/chat/completions", "openai-responses": "/v1/responses", "anthropic-messages": "/v1/messages"}
"""Of pi, and where each asks."""

OLDEST, NEWEST = real_pi.VERSIONS


@dataclass
class Desk:
    """Where an agent works. `asked` is what it sends to the gateway, `sent` what the gateway sends up."""

    home: Path
    gateway: Gateway
    asked: Recorder
    sent: Recorder

    @property
    def work(self) -> Path:
        return self.home / "work"

    def run(self, *command: str | Path, **variables: str) -> str:
        """What the program prints. HOME and PATH are all that it sees beside `variables`."""
        own = {"HOME": str(self.home), "PATH": "/usr/bin:/bin", **variables}
        done = subprocess.run(command, cwd=self.work, env=own, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
        assert done.stdout, (done.stderr, self.gateway.log.read_text())
        return done.stdout.strip()

    def posted(self) -> list[Seen]:
        return [each for each in self.asked.seen if each.method == "POST"]

    def counts(self) -> list[tuple[int, int]]:
        """Tokens of the prompt and how many of them came from the cache, by llama-server's own count, of each answer."""
        found = []
        for each in self.sent.seen:
            if each.method == "POST":
                lines = bytes(each.answer).decode().splitlines()
                said = [json.loads(line[6:]) for line in lines if line.startswith("data: {") and '"timings"' in line]
                timings = said[-1]["timings"]
                found.append((timings["cache_n"] + timings["prompt_n"], timings["cache_n"]))
        return found


@contextmanager
def desk(llama: Llama, agent: str, directory: Path) -> Iterator[Desk]:
    with recording(llama.urls[agent]) as sent:
        configuration = llama.configuration()
        configuration["backends"][agent] = {"url": sent.url}
        with running(directory / "gateway", configuration, {"ann": {}}) as gateway, recording(gateway.url) as asked:
            found = Desk(directory / "home", gateway, asked, sent)
            found.work.mkdir(parents=True)
            (found.work / "note.txt").write_text(NOTE)
            yield found


def run_pi(at: Desk, version: str, api: str) -> str:
    (at.home / ".pi/agent").mkdir(parents=True, exist_ok=True)
    base = at.asked.url + ("" if api == "anthropic-messages" else "/v1")
    models = [{"id": "pi", "contextWindow": 200_000, "maxTokens": 400}]
    provider = {"baseUrl": base, "api": api, "apiKey": key_of("ann"), "models": models}
    (at.home / ".pi/agent/models.json").write_text(json.dumps({"providers": {"gateway": provider}}))
    program = [npm.node(), real_pi.installed(version) / real_pi.PACKAGE / "dist/cli.js", "--offline", "--no-session"]
    return at.run(*program, "--provider", "gateway", "--model", "pi", "--tools", "read", "-p", QUESTION, PI_OFFLINE="1")


def run_claude(at: Desk, *options: str) -> dict[str, Any]:
    """The result that Claude Code prints as JSON."""
    of_this = f"claude-code-linux-{'arm64' if platform.machine() == 'aarch64' else 'x64'}"
    program = npm.installed(npm.CACHE / "claude-code" / CLAUDE_CODE, f"@anthropic-ai/claude-code@{CLAUDE_CODE}")
    own = {
        **{"ANTHROPIC_BASE_URL": at.asked.url, "ANTHROPIC_AUTH_TOKEN": key_of("ann")},
        **{"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_AUTOUPDATER": "1", "CLAUDE_CODE_MAX_RETRIES": "0"},
    }
    asked = ["--model", "claude", "--system-prompt", "Be kind.", "--tools", "Read", "--output-format", "json", "--strict-mcp-config"]
    printed = at.run(program / f"@anthropic-ai/{of_this}/claude", *asked, *options, "-p", QUESTION, **own)
    result: dict[str, Any] = json.loads(printed)
    return result


@pytest.mark.parametrize(("version", "api"), [(OLDEST, "openai-completions"), *((NEWEST, api) for api in PI_APIS)])
def test_pi_reads_a_file_and_its_second_turn_finds_the_first_in_the_cache(llama: Llama, tmp_path: Path, version: str, api: str) -> None:
    with desk(llama, "pi", tmp_path) as at:
        assert run_pi(at, version, api) == ANSWER
        first, second = at.posted()
        assert {first.path, second.path} == {PI_APIS[api]}
        assert NOTE.encode() in second.raw
        (all_of_first, _), (_, cached) = at.counts()
        assert cached >= all_of_first - 1


def test_claude_code_reads_a_file_and_each_turn_finds_the_one_before_in_the_cache(llama: Llama, tmp_path: Path) -> None:
    """With the header of its own that Claude Code puts before the system prompt."""
    with desk(llama, "claude", tmp_path) as at:
        said = run_claude(at)
        assert said["result"] == ANSWER and said["num_turns"] == 2
        assert run_claude(at, "--continue")["result"] == ANSWER
        posted = at.posted()
        assert {each.path for each in posted} == {"/v1/messages"}
        assert all("x-anthropic-billing-header" in each.body["system"][0]["text"] for each in posted)
        assert NOTE in json.dumps(posted[1].body["messages"])
        counts = at.counts()
        assert len(counts) >= 3
        for (whole, _), (_, cached) in pairwise(counts):
            assert cached >= whole - 64, counts


def test_an_agent_whose_key_is_not_known_is_told_so_in_its_own_api(llama: Llama, tmp_path: Path) -> None:
    with desk(llama, "claude", tmp_path) as at:
        at.gateway.users = {}
        assert at.gateway.stop() == 0
        at.gateway.start()
        said = run_claude(at)
        assert (said["is_error"], said["api_error_status"]) == (True, 401)
        assert {json.loads(bytes(each.answer))["error"]["type"] for each in at.posted()} == {"authentication_error"}
