"""Whatever hosts, files, servers and the state say, no verb lets it steer the terminal, and none shows a line of theirs as one of
its own.

The verbs are those of the parser. Each is run at a terminal of its own, on hosts that say hostile text, nothing, bytes or 10 MB to all
that they are asked (tests/hostile/hosts.py), on a state and on files that hold it, and on an inventory that does.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import gzip
import io
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from control.ssh.run import Run  # isort: skip - first of all, for gevent, and before a screen is no terminal

from cli import main, parser
from control.pki.authority import Authority
from control.state import api_keys
from control.state.fleet import FleetState
from control.state.secrets import Vault
from inventory.hardware import Hardware
from inventory.load import load
from tests.hostile.hosts import IDENTITY, KINDS
from tests.hostile.text import FORGED, LINE, LINES, SEEN, faults
from tests.share import WHOLE, spread

assert Run

ROOT = Path(__file__).parents[2]

TIMEOUT_S = 120
FIRST = 1
"""So many of the ways to run a verb are tried, where a run is not whole."""
PYTHONS = re.compile(r"^ *((json\.decoder\.)?(Unicode|Index|Key|Value|Type|Attribute|Overflow|NotImplemented|JSON)[A-Za-z]*Error\b)", re.M)
TERMINAL = ROOT / "tests" / "hostile" / "terminal.py"

VERBS: dict[str, tuple[str, ...]] = {
    "check": ("",),
    "schema": ("",),
    "render": ("--to out",),
    "plan": ("", "--json"),
    "up": ("--yes", "--yes --limit plays --take-over", "--yes --json", ""),
    "upgrade": ("--plan", f"--to {LINE} --yes", f"--waves {LINE}", "--yes --no-measure --soak 0"),
    "rollback": ("--list", "--yes", f"{LINE} --yes"),
    "verify": ("--limit plays", "--limit babbles,fails", "--limit silent,halves", "--limit binary"),
    "status": ("", "--json"),
    "teardown": ("--yes", "--yes --take-over --limit others"),
    "backup": ("--limit plays,babbles,fails", "--json", f"--to {LINE}"),
    "backup list": ("", "--json"),
    "backup check": ("hostile.pem", LINE),
    "restore": ("hostile.pem --yes", f"{LINE} --yes"),
    "models list": ("", "--json"),
    "models load": ("demo", LINE),
    "models unload": ("demo",),
    "models use": ("demo",),
    "models ctx": ("demo 512 --yes", "demo 512 --yes --limit plays"),
    "models preset": ("demo", "demo temp=0.5 --yes --limit plays", f"demo {LINE}=1 --yes"),
    "models fit": ("",),
    "models pull": ("", "--lock", LINE),
    "models prune": ("--yes",),
    "chat": ("--host plays hello", "--host babbles hello", "--host fails hello"),
    "logs": ("", "plays", "--since now plays"),
    "start": ("--yes",),
    "stop": ("--yes", LINE),
    "restart": ("--yes plays",),
    "certs list": ("", "--json"),
    "certs issue": ("tablet --yes", f"{LINE} --yes"),
    "certs renew": ("--all", LINE),
    "certs revoke": ("phone", LINE),
    "certs export": ("laptop", "laptop --to out", LINE),
    "certs import": ("--ca hostile.pem", f"--ca {LINE}"),
    "certs roll-over": ("begin", "switch", "finish --yes"),
    "keys create": ("eve", LINE, f"eve --label {LINE}"),
    "keys list": ("", "--json"),
    "keys show": ("eve", "eve --key", LINE),
    "keys revoke": ("eve --yes", f"{LINE} --yes"),
    "keys rotate": ("eve --yes", f"{LINE} --yes"),
    "secrets list": ("",),
    "secrets show": ("hostile", LINE),
    "secrets set": ("new", LINE),
    "secrets rotate": ("", "hostile --yes", f"{LINE} --yes"),
    "secrets recipients": ("", "--accept"),
    "artifacts list": ("", "--json"),
    "artifacts pull": ("", "--lock"),
    "artifacts build": ("", "--limit plays"),
    "artifacts export": ("0.3", LINE),
    "artifacts import": ("hostile.pem", LINE),
    "artifacts prune": ("", LINE),
    "artifacts dockerfile": ("plays", LINE, f"plays --runtime-image {LINE}"),
    "state adopt": ("--yes",),
    "history": ("", "--json"),
    "history show": ("1 --diff --evidence", "1 --evidence --json", "", LINE),
    "lab up": ("",),
    "lab down": ("",),
    "lab list": ("",),
    "lab ssh": (LINE,),
    "rehearse": ("",),
    "completion": ("bash",),
}
"""Verb → with what it is run, the first always. What `lab ssh` shows of a host that there is, is that host's own screen, as with `ssh`."""

HEARS = frozenset({"plan", "up", "status", "verify", "teardown", "models list", "chat", "logs", "lab up", "rehearse"})
"""These show what a host, a server or a program says, and have done so here: the walk would be worth nothing otherwise."""


def test_every_verb_is_walked() -> None:
    assert VERBS.keys() == set(verbs(parser()))


def verbs(of: argparse.ArgumentParser, name: str = "") -> Iterator[str]:
    """The verbs and actions that can be run, as the parser knows them: `certs issue`."""
    nested = next((each for each in of._actions if isinstance(each, argparse._SubParsersAction)), None)
    if nested is None or not nested.required:
        yield name
    for action, below in nested.choices.items() if nested else ():
        yield from verbs(below, f"{name} {action}".strip())


@dataclass(frozen=True)
class World:
    """A directory with an inventory, `home.yml`, and what a verb finds around it."""

    directory: Path
    environment: dict[str, str]

    def shown(self, words: list[str]) -> tuple[int, str]:
        """The verb's exit code, and what its terminal was sent. Whoever sits there says no to all questions."""
        command = [sys.executable, str(TERMINAL), str(TIMEOUT_S), sys.executable, "-m", "cli", "-i", "home.yml", *words]
        done = subprocess.run(command, cwd=self.directory, env=self.environment, capture_output=True)
        return done.returncode, done.stdout.decode(errors="replace")


def walked(world: World, verb: str) -> str:
    """All that was shown; fails where anything of it should not have been."""
    everything = ""
    for arguments in VERBS[verb] if WHOLE else VERBS[verb][:FIRST]:
        code, shown = world.shown([*verb.split(), *words(arguments)])
        print(f"$ paddock {verb} {arguments!r}: {code}\n{shown!r}")
        assert not faults(shown), f"paddock {verb} {arguments!r}:\n" + "\n".join(faults(shown))
        assert code in (0, 1, 2, 3)
        assert not PYTHONS.search(shown), f"paddock {verb} {arguments!r}: told in the words of Python"
        everything += shown
    return everything


def words(arguments: str) -> list[str]:
    return [each.replace("\0", LINE) for each in arguments.replace(LINE, "\0").split(" ") if each]


class Index(BaseHTTPRequestHandler):
    """An index of packages, and a Hugging Face, that say hostile text."""

    def do_GET(self) -> None:
        body = LINES.encode() if "simple" in self.path else json.dumps({"error": LINES}).encode()
        self.send_response(404 if "1" in self.path else 200)
        self.send_header("Content-Type", "text/html" if "simple" in self.path else "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture(scope="module")
def index() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Index) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture(scope="module")
def hosts() -> Iterator[dict[str, object]]:
    command = [sys.executable, "-m", "tests.hostile.hosts"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stdin
        yield json.loads(process.stdout.readline())
        process.stdin.close()


def inventory(found: dict[str, object]) -> dict[str, object]:
    where = found["where"]
    assert isinstance(where, dict)
    roles = {
        "base": {"time": "elsewhere"},
        "llama_cpp": {"source": {"sdist": "llama-cpp-python==0.3.36"}},
        "models": None,
        "llama_server": {"models": ["demo"]},
    }
    named = {
        name: {"address": address, "port": port, "host_key": found["key"], "ssh_key": "key", "roles": dict(roles)}
        for name, (address, port) in where.items()
    }
    for name in ("plays", "babbles"):
        named[name]["roles"]["caddy"] = {"sites": {f"{name}.home.example": {"upstream": name}}}
    models = {"demo": None, "far": {"source": {"hf": "some/model", "file": "x.gguf"}}}
    return {
        "fleet": "home",
        "domain": "home.example",
        "settle": 0,
        "hosts": named,
        "models": models,
        "clients": {"laptop": None, "phone": None},
    }


@pytest.fixture(scope="module")
def whole(hosts: dict[str, object], index: str, tmp_path_factory: pytest.TempPathFactory) -> World:
    """All is well here but the hosts, the index and the container engine."""
    directory = tmp_path_factory.mktemp("whole")
    home, programs = directory / "home", directory / "programs"
    home.mkdir()
    programs.mkdir()
    for name in ("docker", "dockerd", "podman", "node", "npm", "git"):
        (programs / name).write_text(f'#!/bin/sh\n[ "$1" != version ] || exit 0\ncat {directory}/said\ncat {directory}/said >&2\nexit 1\n')
        (programs / name).chmod(0o755)
    (directory / "said").write_text(LINES)
    (directory / "hostile.pem").write_text(LINES)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / "key")], check=True)
    path = directory / "home.yml"
    path.write_text(json.dumps(inventory(hosts)))
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PADDOCK_", "PIP_", "SSH_"))}
    environment = {**kept, "HOME": str(home), "PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "TERM": "xterm"}
    environment |= {"PIP_INDEX_URL": f"{index}/simple", "HF_ENDPOINT": index, "COLUMNS": "200"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        fleet = load(path)
        state = FleetState.of(path, fleet.name)
        vault = Vault(state)
        Authority(state, vault).issue(fleet, datetime.now(UTC))
        api_keys.issue(fleet, vault)
        vault.set("hostile", LINES)
        for name in KINDS:
            hardware = Hardware("x86_64", LINE, frozenset({"sse4_2"}), 2, 15900, "debian 13", identity=IDENTITY, disk_free_mib=90000)
            state.save_hardware(name, hardware)
            host = fleet.hosts[name]
            state.pin(name, f"[{host.address}]:{host.port}", host.host_key or "")
    return World(directory, environment)


def copied(world: World, directory: Path) -> World:
    shutil.copytree(world.directory, directory, dirs_exist_ok=True, symlinks=True)
    return World(directory, {**world.environment, "HOME": str(directory / "home")})


@pytest.mark.parametrize("verb", VERBS)
def test_what_hosts_servers_and_programs_say_is_shown_and_not_obeyed(verb: str, whole: World, tmp_path: Path) -> None:
    shown = walked(copied(whole, tmp_path / "it"), verb)
    assert verb not in HEARS or SEEN in shown or FORGED in shown


@pytest.mark.parametrize(
    "command", ["start --yes", "stop --yes", "restart --yes", "models load demo", "models unload demo", "models use demo"]
)
def test_a_host_of_another_fleet_is_left_alone(command: str, whole: World, tmp_path: Path) -> None:
    code, shown = copied(whole, tmp_path / "it").shown([*command.split(), "--limit", "others"])
    assert (code, shown.split(". ")[0]) == (1, "others: belongs to fleet other, not to fleet home")
    assert "Nothing was done there" in shown and "demo" not in shown


class Screen(io.StringIO):
    """A terminal, as far as a stream tells."""

    def isatty(self) -> bool:
        return True


def names(directory: Path) -> None:
    """Files of the state are called so."""
    state = directory / ".paddock" / "home"
    for each in (LINE.replace("/", ""), LINES.replace("/", "")):
        for where in (
            "secrets/{}.age",
            "certs/client/{}.json",
            "certs/client/{}.pem",
            "certs/server/{}.json",
            "certs/revoked/client/{}-1.pem",
        ):
            (state / where.format(each)).parent.mkdir(parents=True, exist_ok=True)
            (state / where.format(each)).write_text("{}")
        for where in ("artifacts/{}.json", "artifacts/{}.tar.gz", "hardware/{}.json", "history/{}.json"):
            (state / where.format(each)).parent.mkdir(parents=True, exist_ok=True)
            (state / where.format(each)).write_text("{}")


def texts(directory: Path) -> None:
    """The files are what they should be, and each text in them is so."""
    state = directory / ".paddock" / "home"
    for path in (*state.glob("certs/*/*.json"), *state.glob("hardware/*.json")):
        path.write_text(json.dumps(hostile(json.loads(path.read_text()))))
    moment = datetime.now(UTC).isoformat()
    change = {"action": LINES, "resource": LINES, "sign": LINES, "role": LINES, "attributes": {LINES: [LINES, LINES]}}
    run = {"number": 1, "began": moment, "hosts": {LINES: {"changes": [change], "plan": LINES, "after": LINES, "figures": {LINES: LINES}}}}
    run["hosts"] |= {"ai": {"evidence": "upgrade-1"}, f"pi{LINE}": {"evidence": "../../.."}, "../..": {"evidence": LINES}}
    run |= dict.fromkeys(("verb", "who", "paddock", "inventory", "digest", "outcome", "failed"), LINES) | {"words": [LINES]}
    evidence = state / "evidence" / "ai-upgrade-1"
    evidence.mkdir(parents=True)
    for name in ("llama-server.service.journal", "control-machine", LINE.replace("/", "")):
        (evidence / name).write_bytes(LINES.encode() * 100 + bytes(range(256)) * 4)
    (state / "history").mkdir(exist_ok=True)
    (state / "history" / "000001.json").write_text(json.dumps(run))
    plan = {"resources": [{"id": LINES, "kind": LINES, "content": LINES, LINES: LINES}], "plans": {LINES: {LINES: [0]}}}
    (state / "history" / "000001.plans.json.gz").write_bytes(gzip.compress(json.dumps(plan).encode()))
    (state / "fleet.json").write_text(json.dumps({"id": LINES, "changed": LINES, "told": [LINES]}))
    with (state / "recipients.txt").open("a") as file:
        file.write(f"age1{LINES}")
    with (state / "known_hosts").open("a") as file:
        file.write(LINES)
    artifact = {"name": LINES, "fingerprint": LINES, "profile": LINES, "libc": LINES, "imported": LINES, "architecture": LINES}
    (state / "artifacts").mkdir(exist_ok=True)
    (state / "artifacts" / "0.3.36-0123456789ab.json").write_text(json.dumps(artifact))


def hostile(value: object) -> object:
    """With each text of it so, but for dates and what says the kind and the name."""
    if isinstance(value, dict):
        return {key: each if key in ("kind", "name", "not_before", "not_after", "on") else hostile(each) for key, each in value.items()}
    if isinstance(value, list):
        return [hostile(each) for each in value]
    return f"{value}{LINES}" if isinstance(value, str) else value


def garbage(directory: Path) -> None:
    """Nothing else is in any file of the state."""
    for path in (directory / ".paddock").rglob("*"):
        if path.is_file() and path.name != ".gitignore":
            path.write_text(LINES)


def locks(directory: Path) -> None:
    """The locks beside the inventory hold it."""
    for name in ("home.models.lock", "home.sources.lock"):
        (directory / name).write_text(json.dumps({"models": {LINES: LINES}, "sources": {LINES: {"sha256": LINES}}, LINES: LINES}))


def locked(directory: Path) -> None:
    """Somebody else is at work, and says who that is."""
    path = directory / ".paddock" / "home" / "lock"
    path.write_text(json.dumps({"who": LINES, "pid": LINES, "verb": LINES, "since": datetime.now(UTC).isoformat()}))


def declared(directory: Path) -> None:
    """The inventory says it, wherever a text may stand."""
    path = directory / "home.yml"
    whole = json.loads(path.read_text())
    path.write_text(json.dumps({**hostile(whole), LINES: LINES, "fleet": "home", "clients": {LINES: {LINES: LINES}}}))


def unreadable(directory: Path) -> None:
    """The inventory is no YAML."""
    (directory / "home.yml").write_text(f"fleet: [{LINES}\n{LINES}: {{")


@pytest.mark.parametrize("spoil", [names, texts, garbage, locks, locked, declared, unreadable])
def test_what_files_and_the_state_say_is_shown_and_not_obeyed(
    spoil: Callable[[Path], None], whole: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong, said = [], ""
    these = list(VERBS) if spoil in (names, texts) else spread(f"verbs with {spoil.__name__}", list(VERBS), 16)
    for number, verb in enumerate(these):
        world = copied(whole, tmp_path / str(number))
        elsewhere = json.loads((world.directory / "home.yml").read_text())
        for each in elsewhere["hosts"].values():
            each["port"] = 1  # nobody answers
        (world.directory / "home.yml").write_text(json.dumps(elsewhere))
        spoil(world.directory)
        with monkeypatch.context() as patch, contextlib.ExitStack() as held:
            for name, value in world.environment.items():
                patch.setenv(name, value)
            patch.chdir(world.directory)
            if spoil is locked:
                lock = held.enter_context((world.directory / ".paddock" / "home" / "lock").open())
                fcntl.flock(lock, fcntl.LOCK_EX)
            screen = Screen()
            for stream in ("stdout", "stderr"):
                patch.setattr(sys, stream, screen)
            patch.setattr(sys, "stdin", io.StringIO())
            with suppress(SystemExit):
                main(["-i", "home.yml", *verb.split(), *words(VERBS[verb][0])])
        said += screen.getvalue()
        print(f"$ paddock {verb} {VERBS[verb][0]!r}\n{screen.getvalue()}")
        wrong += [f"paddock {verb} {VERBS[verb][0]!r}: {fault}" for fault in faults(screen.getvalue())]
        shutil.rmtree(world.directory)
    assert not wrong, "\n".join(wrong)
    assert SEEN in said or len(these) < len(VERBS) or spoil in (garbage, unreadable)  # of which nothing is repeated
