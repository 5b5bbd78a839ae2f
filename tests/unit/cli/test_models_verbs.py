"""Which servers and models are meant, and what is refused before a host is asked."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from cli import main
from cli.arguments import opened
from cli.servers import servers_meant
from cli.views.models import lines
from control.editing.places import also_changed, places
from control.llama_cpp.options import options_by_host
from control.servers.contexts import refuse_shorter, told_of
from control.servers.served import ServedModel
from inventory.errors import PaddockError, UsageError
from inventory.load import load
from inventory.model_shape import ModelShape
from inventory.options import Options, Sizing
from roles.preset import PresetValue

ROOT = Path(__file__).parents[3]

INVENTORY = """\
fleet: mine
domain: home.example
groups:
  small:
    hosts: ["pi[1:2]"]
    roles:
      llama_server:
        instances: {chat: {model: story, listen: "127.0.0.1:8081", preset: {ctx-size: 512}}}
hosts:
  ai:
    address: 127.0.0.1
    port: 1
    roles:
      llama_cpp: {source: {sdist: "llama-cpp-python==0.3.36"}}
      models:
      llama_server:
        models: [chat, story]
        preset: {ctx-size: 4096}
        instances:
          chat: {model: chat, listen: "127.0.0.1:8081", count: 2}
  pi[1:2]:
    address: 192.0.2.[11:12]
    roles:
      llama_cpp: {source: {sdist: "llama-cpp-python==0.3.36"}}
      models:
models:
  chat:
    preset: {c: 2048}
  story: {aliases: ["story:8b"]}
"""


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    path = tmp_path / "home.yml"
    path.write_text(INVENTORY)
    return path


def meant(inventory: Path, *words: str) -> list[str]:
    this = opened(argparse.Namespace(inventory=inventory, limit=[], lab=False))
    return [f"{each.host}/{each.name}" for each in servers_meant(this, list(words))]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ((), ["ai/llama-server", "ai/chat-1", "ai/chat-2", "pi1/chat", "pi2/chat"]),
        (("ai",), ["ai/llama-server", "ai/chat-1", "ai/chat-2"]),
        (("ai/chat",), ["ai/chat-1", "ai/chat-2"]),
        (("chat",), ["ai/chat-1", "ai/chat-2", "pi1/chat", "pi2/chat"]),
        (("ai/chat-2", "pi1"), ["ai/chat-2", "pi1/chat"]),
        (("llama-server.service",), ["ai/llama-server"]),
    ],
)
def test_a_server_is_named_alone_with_its_host_by_its_group_or_by_its_host(
    inventory: Path, words: tuple[str, ...], found: list[str]
) -> None:
    assert meant(inventory, *words) == found


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("models load chatt", 'chatt: no such model is served (did you mean "chat"?)'),
        ("models load xyz", "xyz: no such model is served; there are chat, story"),
        ("models load story --server ai/chat-1", "story: no such model is served on ai/chat-1; there are chat"),
        ("models load story:8b --server ai/chat-1", "story: no such model is served on ai/chat-1; there are chat"),
        ("models list --server ai/cha", 'ai/cha: no llama-server has this name (did you mean "ai/chat"?)'),
        ("stop ai/chat-3", "ai/chat-3: no llama-server has this name (did you mean"),
        ("models ctx chat 8k", '8k: is not a context size: give a number of tokens, such as "chat 16384"'),
        ("models ctx chat -- -5", "-5: is not a context size"),
        ("models preset chat temp", "temp: is not KEY=VALUE, such as temp=0.7"),
        ("stop", "there is no terminal to ask: name them, or `paddock stop --yes` does it to all 5"),
    ],
)
def test_what_is_wrong_with_the_command_line_is_2_in_one_line(
    inventory: Path, capsys: pytest.CaptureFixture[str], command: str, said: str
) -> None:
    assert main(["-i", str(inventory), *command.split()]) == 2
    error = capsys.readouterr().err
    assert error.startswith(said) and error.count("\n") == 1


def test_what_cannot_be_brought_about_is_not_written(inventory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-i", str(inventory), "models", "ctx", "chat", "8192", "--limit", "ai", "--yes"]) == 1
    assert capsys.readouterr().err.startswith("ai: root@127.0.0.1:1 cannot be reached: ")
    assert inventory.read_text() == INVENTORY


def test_the_list_of_hosts_that_cannot_be_reached_is_1(inventory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-i", str(inventory), "models", "list", "--limit", "ai"]) == 1
    assert "ai: root@127.0.0.1:1 cannot be reached: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("paddock models l", {"list", "load"}),
        ("paddock models load st", {"story", "story:8b"}),
        ("paddock models load chat --server ai/", {"ai/chat", "ai/chat-1", "ai/chat-2", "ai/llama-server"}),
        ("paddock restart pi", {"pi1", "pi2", "pi1/chat", "pi2/chat"}),
        ("paddock chat --model c", {"chat"}),
        ("paddock chat --host a", {"ai"}),
    ],
)
def test_the_tab_key_offers_models_servers_and_hosts(inventory: Path, tmp_path: Path, line: str, offered: set[str]) -> None:
    asked = {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_STDOUT_FILENAME": str(tmp_path / "said"), "_ARGCOMPLETE_IFS": "\n"}
    env = {**os.environ, **asked, "PADDOCK_INVENTORY": str(inventory), "COMP_LINE": line, "COMP_POINT": str(len(line))}
    env["_ARGCOMPLETE_COMP_WORDBREAKS"] = " "
    subprocess.run([sys.executable, "-m", "cli"], cwd=ROOT, env=env, timeout=60)
    assert {word.strip() for word in (tmp_path / "said").read_text().split("\n")} == offered


PI_INSTANCE = ("hosts", "pi[1:2]", "roles", "llama_server", "instances", "chat", "preset", "ctx-size")


@pytest.mark.parametrize(
    ("model", "server", "place"),
    [
        ("chat", "ai/llama-server", ("models", "chat", "preset", "c")),
        ("chat", "ai/chat-1", ("models", "chat", "preset", "c")),
        ("story", "ai/llama-server", ("models", "story", "preset", "ctx-size")),
        ("story", "pi1/chat", PI_INSTANCE),
    ],
)
def test_an_option_is_written_at_the_model_but_for_an_instance_that_says_it_itself(
    inventory: Path, model: str, server: str, place: tuple[str, ...]
) -> None:
    fleet, text = load(inventory), inventory.read_text()
    servers = [each for host in fleet.hosts for each in fleet.servers(host) if f"{each.host}/{each.name}" == server]
    assert places(text, {}, model, "ctx-size", servers) == [place]


@pytest.mark.parametrize(
    ("option", "key"), [("temperature", "temp"), ("temp", "temp"), ("np", "parallel"), ("no-jinja", "no-jinja"), ("made-up", "made-up")]
)
def test_an_option_that_is_there_under_another_name_keeps_that_one_but_what_turns_it_off_is_another(
    inventory: Path, option: str, key: str
) -> None:
    text = INVENTORY.replace("{c: 2048}", "{temp: 0.5, parallel: 2, jinja: true}")
    inventory.write_text(text)
    fleet = load(inventory)
    for options in ({}, options_by_host(fleet, inventory.parent)):
        assert places(text, options, "chat", option, fleet.servers("ai")[:1]) == [("models", "chat", "preset", key)]


TRAINED = ModelShape("", 0, context_length=32768)


@pytest.mark.parametrize("preset", ["c: 32768", "c: 131072, parallel: 4", "c: 131072, np: 4, ctk: q8_0", "kv-unified-per-slot: 32768"])
def test_of_a_context_that_slots_can_use_nothing_is_said(inventory: Path, preset: str) -> None:
    inventory.write_text(INVENTORY.replace("c: 2048", preset))
    fleet = load(inventory)
    assert told_of(fleet, fleet.servers("ai"), "chat", TRAINED, {}) == ()


def test_what_yarn_stretches_counts_where_the_version_of_llama_cpp_counts_it(inventory: Path) -> None:
    inventory.write_text(INVENTORY.replace("c: 2048", "c: 131072, np: 1, rope-scaling: yarn, rope-scale: 4"))
    fleet = load(inventory)
    newer = Options("path x", "x", (), sizing=Sizing(yarn_raises_limit=True))
    router = fleet.servers("ai")[:1]
    assert told_of(fleet, router, "chat", TRAINED, {"ai": newer}) == ()
    (said,) = told_of(fleet, router, "chat", TRAINED, {"ai": replace(newer, sizing=Sizing())})
    assert said.endswith("How positions are stretched does not raise that here: `override-kv: ARCHITECTURE.context_length=int:131072` does")


BY_TRAINING = "each slot gets the 32768 that it was trained for"
BY_OPTION = "each slot gets the 4096 that `kv-unified-per-slot` allows"
REST = "and the memory of the rest is taken for nothing"


@pytest.mark.parametrize(
    ("preset", "words"),
    [
        ("c: 33024", f"ctx-size gives chat 33024 tokens, which its 4 slots share: {BY_TRAINING}"),
        (
            "c: 131072, np: 2, kvu: on",
            f"ctx-size gives chat 131072 tokens, which its 2 slots share: {BY_TRAINING}, {REST}: 65536 is enough",
        ),
        ("c: 131072, parallel: 2", f"ctx-size gives chat 65536 tokens a slot: {BY_TRAINING}, {REST}: 65536 is enough"),
        (
            "c: 32768, kv-unified-per-slot: 4096",
            f"ctx-size gives chat 32768 tokens, which its 4 slots share: {BY_OPTION}, {REST}: 16384 is enough",
        ),
    ],
)
def test_of_a_context_that_no_slot_gets_it_is_said_what_each_gets(inventory: Path, preset: str, words: str) -> None:
    inventory.write_text(INVENTORY.replace("c: 2048", preset))
    fleet = load(inventory)
    assert told_of(fleet, fleet.servers("ai")[:1], "chat", TRAINED, {}) == (f"models.chat.preset: {words}",)


@pytest.mark.parametrize(
    ("preset", "words"),
    [
        ("np: 0", "chat: np: llama-server has no 0 slots"),
        ("parallel: 257", "chat: parallel: llama-server has no 257 slots, it would not start: use 1 to 256"),
        ("c: -1", "chat: c: -1 is not a number of tokens"),
        ("fa: off, ctv: q8_0", "chat: cache-type-v: q8_0: a quantized cache of values needs flash attention"),
    ],
)
def test_what_llama_server_would_not_start_is_refused(inventory: Path, preset: str, words: str) -> None:
    inventory.write_text(INVENTORY.replace("c: 2048", preset))
    fleet = load(inventory)
    with pytest.raises(UsageError, match=rf"^models\.chat\.preset: {words}"):
        told_of(fleet, fleet.servers("ai"), "chat", TRAINED, {})


def test_servers_that_are_not_meant_are_not_judged(inventory: Path) -> None:
    inventory.write_text(INVENTORY.replace("count: 2}", "count: 2, preset: {c: 65536}}"))
    fleet = load(inventory)
    router, *instances = fleet.servers("ai")
    assert told_of(fleet, (router,), "chat", TRAINED, {}) == ()
    (said,) = told_of(fleet, tuple(instances), "chat", TRAINED, {})
    assert said.startswith("hosts.ai.roles.llama_server.instances.chat.preset: ")


@pytest.mark.parametrize(
    ("preset", "trained", "came_back"),
    [
        ({"ctx-size": 32768, "parallel": 4}, 32768, 8192),
        ({"ctx-size": 8000}, 32768, 8192),  # llama.cpp gives whole steps of 256
        ({"ctx-size": 1000}, 1000, 1000),  # and llama-server then no more than the model was trained for
        ({"ctx-size": 131072, "parallel": 2}, 32768, 32768),
        ({"ctx-size": 131072, "rope-scaling": "yarn", "rope-scale": 4}, 131072, 131072),
        ({"ctx-size": 131072, "kv-unified-per-slot": 8192}, 32768, 8192),
        ({"kv-unified-per-slot": 8192}, 32768, 8192),
    ],
)
def test_a_slot_that_came_back_with_its_part_is_well(inventory: Path, preset: dict[str, PresetValue], trained: int, came_back: int) -> None:
    found = ServedModel(load(inventory).servers("ai")[0], "chat", "loaded", context=came_back, trained=trained)
    refuse_shorter(found, replace(TRAINED, context_length=trained), preset)


def test_a_slot_that_came_back_with_less_is_told(inventory: Path) -> None:
    found = ServedModel(load(inventory).servers("ai")[0], "chat", "loaded", context=4096, trained=32768)
    with pytest.raises(PaddockError, match=r"^ai/llama-server: chat came back with a context of 4096 tokens, not 32768$"):
        refuse_shorter(found, TRAINED, {"ctx-size": 131072, "parallel": 2})
    stretched = {"ctx-size": 131072, "override-kv": "llama.context_length=int:131072"}
    found, shape = replace(found, context=32768), replace(TRAINED, architecture="llama")
    with pytest.raises(PaddockError, match=r"with a context of 32768 tokens, not 131072, which is all that llama-server gives it$"):
        refuse_shorter(found, shape, stretched)


def test_others_that_take_the_same_line_are_named(inventory: Path) -> None:
    fleet, text = load(inventory), inventory.read_text()
    one = fleet.servers("pi1")
    assert also_changed(text, [PI_INSTANCE], fleet, {}, "story", one) == ["pi2/chat"]
    router = fleet.servers("ai")[:1]
    assert also_changed(text, [("models", "chat", "preset", "c")], fleet, {}, "chat", router) == ["ai/chat-1", "ai/chat-2"]


def test_a_table_of_nothing_is_its_head() -> None:
    assert lines([]).split() == ["host", "server", "model", "status", "context", "memory"]
