"""Whatever has happened to a file that Paddock keeps of a fleet, each verb that reads it ends with words, and in time."""

from __future__ import annotations

import control.ssh.cooperative  # isort: skip - first of all
import json
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cli import main
from control.lifecycle.history import History
from control.lifecycle.recorded_plans import as_data, plan_digest
from control.lifecycle.records import HostRecord, Record, RecordedChange
from control.llama_cpp.artifacts import Artifacts
from control.pki.authority import Authority
from control.state import api_keys
from control.state.fleet import FleetState
from control.state.lineage import told_hosts
from control.state.secrets import Vault
from facts.hardware import HardwareFact
from inventory.load import load
from resources import File
from tests.share import chance, spread
from tests.unit.control.test_artifacts import RELEASE, packed

assert control.ssh.cooperative

SECONDS = 5.0

INVENTORY = """fleet: home
domain: home.example
hosts:
  ai:
    address: 127.0.0.1
    port: 1
    roles:
      llama_cpp:
      models:
      llama_server: {models: [m, n], api_key: true, environment: {TOKEN: {secret: token}}}
      caddy: {sites: {ai.home.example: {upstream: ai}}}
models:
  m: {source: {local: m.gguf}}
  n: {source: {url: "https://models.home.example/n.gguf"}}
clients: {laptop: , phone: }
"""
LOCK = {
    "version": 1,
    "models": {
        "m": {"source": {"local": "m.gguf"}, "files": [{"name": "m.gguf", "sha256": "1" * 64}]},
        "n": {"source": {"url": "https://models.home.example/n.gguf"}, "files": [{"name": "n.gguf", "sha256": "2" * 64}]},
    },
}
SOURCES = {"version": 1, "sources": {}}
RECORDED = Path(__file__).parents[1] / "hardware" / "recorded" / "vm-without-avx.txt"

VERBS = (
    *(("check",), ("render",), ("plan", "--offline"), ("plan",), ("status",), ("up", "--yes"), ("models", "list")),
    *(
        ("certs", "list"),
        ("certs", "renew", "--all"),
        ("certs", "issue", "laptop"),
        ("certs", "revoke", "phone"),
        ("certs", "export", "laptop"),
    ),
    *(("certs", "roll-over", "begin"), ("certs", "roll-over", "switch"), ("secrets", "list"), ("secrets", "show", "token")),
    *(("history",), ("history", "show"), ("history", "show", "1", "--diff"), ("history", "--json")),
    *(("secrets", "rotate"), ("secrets", "recipients"), ("artifacts", "list"), ("artifacts", "prune", "none"), ("models", "prune")),
)

ODD: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1.5,
    10**30,
    "",
    "x",
    "x" * 5000,
    "\ud800",
    "../x",
    "2026-02-30T25:00:00Z",
    [],
    {},
    [[]],
    {"x": {}},
)


def of_another_kind(number: int, data: bytes) -> bytes:
    """JSON in which one to three values are odd, or keys; bytes that are none without their middle."""
    chance = random.Random(number * 1_000_003 + len(data))
    try:
        value = json.loads(data)
    except ValueError:
        middle = len(data) // 2
        return data[: middle - number] + data[middle + number :]
    for _ in range(chance.randint(1, 3)):
        holders = list(_holders(value))
        if not holders:
            return json.dumps(chance.choice(ODD)).encode()
        holder = chance.choice(holders)
        key = chance.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
        if isinstance(holder, dict) and chance.random() < 0.2:
            holder[chance.choice(("", "x", "../x", "\ud800"))] = holder.pop(key)
        else:
            holder[key] = chance.choice(ODD)
    return json.dumps(value).encode()


def _holders(value: Any) -> Iterator[Any]:
    """The mappings and lists that hold anything."""
    if isinstance(value, (dict, list)) and value:
        yield value
        for each in value.values() if isinstance(value, dict) else value:
            yield from _holders(each)


def of_bytes(number: int, data: bytes) -> bytes:
    """With bits turned, and a piece of it elsewhere."""
    chance, changed = random.Random(number * 1_000_003 + len(data)), bytearray(data)
    for _ in range(chance.choice((1, 3, 30))):
        if changed:
            changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    at = chance.randrange(len(changed) + 1)
    changed[at:at] = data[at // 2 : at // 2 + chance.choice((0, 1, 40))]
    return bytes(changed)


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "first half": lambda data: data[: len(data) // 2],
    "without its last byte": lambda data: data.rstrip()[:-1],
    "binary": lambda data: bytes(range(256)) * 4,
    "10 MB": lambda data: data + b"x" * 10_000_000,
    "10 MB of brackets": lambda data: b"[" * 10_000_000,
    "another's": lambda data: b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    "text": lambda data: "Grüße\n".encode("latin-1"),
    "null": lambda data: b"null\n",
    "a list": lambda data: b"[[], {}, null, 1]\n",
    "a mapping": lambda data: b'{"version": 1, "id": [], "files": {}, "x": null}\n',
    **{f"values of another kind, {number}": partial(of_another_kind, number) for number in range(20)},
    **{f"bytes, {number}": partial(of_bytes, number) for number in range(10)},
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory with an inventory, its locks, all that is kept of the fleet, and the home of who keeps it."""
    directory = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patched:
        for name in [name for name in os.environ if name.startswith("PADDOCK_")]:
            patched.delenv(name)
        patched.setenv("HOME", str(directory / "home"))
        (directory / "home").mkdir()
        path = directory / "home.yml"
        path.write_text(INVENTORY)
        path.with_name("home.models.lock").write_text(json.dumps(LOCK))
        path.with_name("home.sources.lock").write_text(json.dumps(SOURCES))
        fleet, state = load(path), FleetState.of(path, "home")
        vault = Vault(state)
        vault.set("token", "x")
        api_keys.issue(fleet, vault)
        Authority(state, vault).issue(fleet, datetime.now(UTC))
        told_hosts(state)
        state.pin("ai", "[127.0.0.1]:1", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHkp9Y2VvZXhhbXBsZWV4YW1wbGVleGFtcGxlZXhh")
        state.save_hardware("ai", HardwareFact().process(RECORDED.read_text().splitlines()))
        history_of(state)
        Artifacts(state).add(packed(directory / "built.tar.gz"), RELEASE, "debian 13")
        assert main(["-i", str(path), "certs", "export", "laptop"]) == 0
        yield directory


def history_of(state: FleetState) -> None:
    """Two runs on one host, each with a plan of its own."""
    plans = [as_data({"base": (File("/etc/motd", text), File("/etc/key", text, mode=0o600, secret=True))}) for text in ("a\n", "b\n")]
    for plan in plans:
        changes = (RecordedChange("mend", "file:/etc/motd", "~", "base", {"sha256": ("1", "2")}),)
        host = HostRecord(changes, plan_digest(plan), "0.3.35-1", "0.3.36-2", 1.5, "yes", figures={"tokens_per_s": 30.5})
        moment = datetime.now(UTC)
        run = Record(0, "up", "anna@desk", moment, "0.1.0", "/home/anna/home.yml", "1" * 64, {"ai": host}, ("a word",), moment, "done")
        History(state).put_plans(History(state).add(run).number, {"ai": plan})


def kept(whole: Path) -> list[Path]:
    return sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file() and path.name not in ("home.yml", "built.tar.gz"))


def said(path: Path, verb: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> str:
    """What is wrong with how a verb ends; nothing where it is as it has to be."""
    began = time.process_time()
    code = main(["-i", str(path), *verb])
    took, told = time.process_time() - began, capsys.readouterr()
    if "Traceback" in told.err + told.out:
        return told.err
    if code and not (told.err + told.out).strip():
        return f"ends with {code} and without a word"
    return f"takes {took:.1f} s" if took > SECONDS else ""


def test_whatever_happened_to_a_file_is_told_in_words(whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw = chance("verbs on damaged state")
    cases = [(file, how, verb) for file in kept(whole) for how in (*DAMAGES, "a directory", "not there") for verb in draw.sample(VERBS, 3)]
    wrong = {}
    for number, (file, how, verb) in enumerate(spread("damaged state", cases, 40)):
        own = shutil.copytree(whole, tmp_path / str(number))
        with pytest.MonkeyPatch.context() as patched:
            patched.setenv("HOME", str(own / "home"))
            data = (own / file).read_bytes()
            if how in DAMAGES:
                (own / file).write_bytes(DAMAGES[how](data))
            else:
                (own / file).unlink()
            if how == "a directory":
                (own / file).mkdir()
            if words := said(own / "home.yml", verb, capsys):
                wrong[f"{file}: {how}: {verb}"] = words
        shutil.rmtree(own)
    assert not wrong, "\n".join(f"{case}\n{words}" for case, words in wrong.items())
