"""Secrets as canaries: while Paddock works with them, and after, each is in its own places and nowhere else.

Argument lists and environments are sampled all the while, on the control machine and on its host. What is printed is searched as it comes;
files, journals, reports and the state are searched at the end.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path

import pytest

from control.state.fleet import FleetState
from control.state.secrets import Vault
from tests.faults.sampling import sampled
from tests.faults.tripwire import HOLD, Call, tripwire
from tests.lab.snapshot import inside
from tests.lab_fleet import LabFleet, lab_fleet
from tests.model_server import ModelServer, gguf, model_server
from tests.share import turn

pytestmark = turn(1, of=5)

NAME = "canaries"
REPOSITORY = "canaries/Tiny-GGUF"
HF_TOKEN, SUDO, OWN = (f"{name}Canary{secrets.token_hex(12)}" for name in ("hf_", "sudo", "own"))
"""Others each time: they stand in no source."""

OWN_TOKEN = {"OWN_TOKEN": {"secret": "own"}}

BRIDGE = "paddock-bridge-anna.service"
ENVIRONMENTS = {
    "LLAMA_API_KEY": ("llama-server.service", "paddock-admin.service", "paddock-model-list.service", BRIDGE),
    "OPENAI_API_KEY": (BRIDGE,),
    "OWN_TOKEN": ("llama-server.service",),
}
"""The variables in which the processes of a unit get its own key, which only their account and root can read."""

ON_HOST = re.compile(
    r"/etc/caddy/paddock/[^/]+\.(key|admin)"
    r"|/tmp/systemd-private-[^/]+-caddy.service-[^/]+/tmp/caddy/autosave.json"  # Caddy's own, gone when it is
    r"|/etc/paddock/admin/key"
    r"|/etc/paddock/llama-server/[^/]+"
    r"|/etc/paddock/clients/anna/(bridge(-upstream)?\.env|bridge\.key|certs/client-key\.pem)"
)
"""A canary's own places on the host."""

LEFT_BY_A_RUN = re.compile(r"/var/lib/paddock/stage\.[^/]+/.+")
"""What a run that was killed has not got to use: root's alone, and gone with the next run."""

SEARCHED = "/etc /home /root /tmp /var /run /opt /srv /dev/shm /usr/local"


@dataclass
class Canaries:
    """`said` is what the verbs have printed."""

    fleet: LabFleet
    server: ModelServer
    home: Path
    said: list[str] = field(default_factory=list)
    exported: list[Path] = field(default_factory=list)

    @property
    def container(self) -> str:
        return self.fleet.host("ai").container

    def paddock(self, *arguments: str, code: int = 0) -> str:
        done = self.fleet.paddock(*arguments)
        text = done.stdout + done.stderr
        print(f"$ paddock {' '.join(arguments)}: {done.returncode}\n{text}", flush=True)
        assert done.returncode == code, text
        self.said.append(text)
        return text

    def keep(self, name: str, value: str, *where: str) -> None:
        command = self.fleet.command("secrets", "set", name, *where)
        done = subprocess.run(command, cwd=self.fleet.product, env=self.fleet.env, input=value, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        self.said.append(done.stdout + done.stderr)

    def inside(self, script: str) -> str:
        return inside(self.container, script)

    def of(self) -> dict[str, str]:
        """The secrets of the fleet as they are now, by what they are; of a key in PEM a line of its middle."""
        state = FleetState.of(self.fleet.inventory, f"{NAME}-lab")
        identity = self.home / ".config" / "paddock" / "identity.txt"
        found = {"identity": identity.read_text().split("\n")[1]}
        vault = Vault(state)
        found |= {f"secret {name}": vault.get(name) for name in vault.names()}
        for path in sorted(state.path.rglob("*.key.age")):
            name = str(path.relative_to(state.path)).removesuffix(".age")
            found[name] = _middle(vault.unseal(name).decode(errors="replace"))
        return found


def _middle(key: str) -> str:
    lines = [line for line in key.split("\n") if line and "-----" not in line]
    return lines[len(lines) // 2] if len(lines) > 1 else lines[0]


def inventory(*packages: str, anna: bool = True, ctx: int = 512) -> str:
    roles = {
        "base": {"time": "elsewhere", "packages": list(packages)},
        "llama_cpp": {"ui": False},
        "models": None,
        "llama_server": {"models": ["story", "private"], "api_key": True, "preset": {"ctx-size": ctx}, "environment": OWN_TOKEN},
        "admin": None,
        "caddy": {"sites": {"ai.home.example": {"upstream": "ai"}}},
        "client": {"accounts": {"anna": {"client": "laptop", "bridge": "127.0.0.1:8399"}}} if anna else {"accounts": {}},
    }
    host = {"address": "192.0.2.10", "user": "admin", "roles": roles}
    models = {"story": None, "private": {"source": {"hf": REPOSITORY}}}
    whole = {"fleet": NAME, "domain": "home.example", "networks": ["192.0.2.0/24"], "hosts": {"ai": host}, "models": models}
    return json.dumps({**whole, "clients": {"laptop": None, "phone": None, "boss": {"admin": True}}})


@pytest.fixture(scope="module")
def canaries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Canaries]:
    directory = tmp_path_factory.mktemp(NAME)
    home = directory / "home"
    home.mkdir()
    (home / ".cache").symlink_to(Path.home() / ".cache")
    with pytest.MonkeyPatch.context() as patch, model_server() as server:
        patch.setenv("HOME", str(home))  # what others have compiled is signed here, with an identity of this home
        yield from on_a_host(directory, home, server, gguf(tmp_path_factory.mktemp("private"), "private")[0])


def on_a_host(directory: Path, home: Path, server: ModelServer, model: bytes) -> Iterator[Canaries]:
    with lab_fleet(NAME, directory, inventory(), ready=True) as fleet:
        host = fleet.host("ai")
        here = next(ip_network(host.network).hosts())
        server.repositories[REPOSITORY] = {"tiny.gguf": model}
        server.tokens |= {f"/{REPOSITORY}": HF_TOKEN, f"/api/models/{REPOSITORY}": HF_TOKEN}
        fleet.environment |= {"HF_ENDPOINT": f"http://{here}:{server.port}"}
        found = Canaries(fleet, server, home)
        found.inside(
            f"printf 'admin:%s' {SUDO} | chpasswd --crypt-method SHA256 --sha-rounds 1000; sed -i s/NOPASSWD:// /etc/sudoers.d/[!R]*; id -u anna || useradd --create-home anna"
        )
        yield found


def test_canaries_are_found_in_their_own_places_and_nowhere_else(canaries: Canaries, tmp_path: Path) -> None:
    (tmp_path / "begun").touch()
    with sampled(tmp_path) as seen:
        known = work(canaries, tmp_path)
    known |= canaries.of()
    assert len(known) >= 12, sorted(known)
    wrong = [
        *in_processes(seen, known),
        *in_what_was_said(canaries, known),
        *in_files_of_the_host(canaries, known),
        *in_journals(canaries, known),
        *in_files_here(canaries, known, tmp_path),
    ]
    assert not wrong, "\n".join(wrong)


def work(canaries: Canaries, away: Path) -> dict[str, str]:
    """All that is done with the secrets. Gives those that are replaced or thrown away meanwhile."""
    for name, value in {"hf-token": HF_TOKEN, "sudo": SUDO, "own": OWN}.items():
        canaries.keep(name, value, "--lab")
    canaries.keep("hf-token", HF_TOKEN)
    canaries.paddock("models", "pull", "--lock")  # which is the inventory's own, and so is the state
    canaries.paddock("up", "--lab", "--yes", "--accept-host-keys", "--no-verify", "--json", "--deep")
    first = {f"the first {name}": canary for name, canary in canaries.of().items() if name.startswith("certs/")}
    canaries.paddock("plan", "--lab", "--json")
    canaries.paddock("verify", "--lab", "--deep")
    canaries.paddock("certs", "issue", "tablet", "--lab", "--yes")
    canaries.paddock("certs", "renew", "--all", "--lab")
    canaries.paddock("certs", "export", "phone", "--lab", "--to", str(away / "phone"))
    canaries.exported.append(away / "phone")
    sealed = canaries.fleet.paddock("certs", "export", "phone", "--lab", "--p12", "--to", str(away / "sealed"))
    canaries.exported.append(away / "sealed")
    password = re.search(r"^  ([a-z0-9-]{34})$", sealed.stdout, re.MULTILINE)
    assert password, sealed.stdout + sealed.stderr
    canaries.paddock("certs", "revoke", "phone", "--lab")
    canaries.paddock("secrets", "rotate", "--lab")
    for verb in ("logs", "restart", "status"):
        canaries.paddock(verb, "--lab", *(("--json",) if verb == "status" else ()))
    canaries.paddock("models", "list", "--lab", "--json")
    canaries.paddock("chat", "--lab", "--model", "private", "hello")

    canaries.fleet.write(with_tablet(inventory("no-such-package")))
    canaries.paddock("up", "--lab", "--yes", "--no-verify", code=1)

    canaries.fleet.write(with_tablet(inventory(ctx=768)))
    canaries.inside("rm /etc/paddock/admin/key /etc/caddy/paddock/ai.home.example.key")
    with tripwire(canaries.container, Call("systemctl", "*restart*"), HOLD) as wire:
        run = canaries.fleet.start("up", "--lab", "--yes", "--no-verify")
        wire.tripped(200)
        run.kill()
        canaries.said.append(run.communicate(timeout=60)[0])
    return {**first, "password of a PKCS#12": password[1], "an exported key": _middle((away / "phone" / "key.pem").read_text())}


def with_tablet(text: str) -> str:
    whole = json.loads(text)
    whole["clients"]["tablet"] = {"days": 180}
    return json.dumps(whole)


def in_processes(seen: list[tuple[str, str, str, str]], known: Mapping[str, str]) -> Iterator[str]:
    assert any(program == "sudo" for _, program, _, _ in seen), "the sampling saw nothing of the host"
    assert any("cli" in text and "verify" in text for *_, text in seen), "the sampling saw nothing of the runs"
    for what, program, unit, text in seen:
        for name, canary in known.items():
            own = what == "environment" and unit in ENVIRONMENTS.get(text.partition("=")[0], ())
            if canary in text and not own:
                yield f"{name} in the {what} of {program} of {unit}: {text.replace(canary, '<CANARY>')[:300]!r}"


def in_what_was_said(canaries: Canaries, known: Mapping[str, str]) -> Iterator[str]:
    assert len(canaries.said) > 12
    yield from (f"{name} was printed: {text[:80]!r}" for text in canaries.said for name, canary in known.items() if canary in text)


def in_files_of_the_host(canaries: Canaries, known: Mapping[str, str]) -> Iterator[str]:
    own = 0
    for name, canary in known.items():
        look = f"grep -rlaF --devices=skip -e {shlex.quote(canary)} {SEARCHED} 2>/dev/null || true"
        for path in canaries.inside(look).split("\n"):
            if not path:
                continue
            mode, who = canaries.inside(f"stat -c '%a %U:%G' {shlex.quote(path)}").split()
            private = int(mode, 8) & 0o007 == 0 and (int(mode, 8) & 0o070 == 0 or who in ("root:caddy", "root:anna"))
            if not private or not (ON_HOST.fullmatch(path) or LEFT_BY_A_RUN.fullmatch(path)):
                yield f"{name} on the host in {path}, {mode} {who}"
            own += 1
    assert own >= 6, "the search finds not even what has to be there"


def in_journals(canaries: Canaries, known: Mapping[str, str]) -> Iterator[str]:
    said = canaries.inside("journalctl --no-pager --quiet --all --output=json; dmesg 2>/dev/null || true")
    assert "llama-server" in said
    yield from (f"{name} in the host's journal" for name, canary in known.items() if canary in said)


def in_files_here(canaries: Canaries, known: Mapping[str, str], begun: Path) -> Iterator[str]:
    """In what is there since, here: the state, the home, what is temporary, and caches."""
    identity = canaries.home / ".config" / "paddock" / "identity.txt"
    state = canaries.fleet.state
    assert identity.stat().st_mode & 0o077 == 0
    exports = (*canaries.exported, state / "export")
    newer = ["find", str(canaries.fleet.directory), "/tmp", "/var/tmp", "/dev/shm", str(Path.home() / ".cache" / "paddock"), "-xdev"]
    newer += ["-newer", str(begun / "begun"), "-type", "f", "-size", "-20M", "-print0"]
    found = subprocess.run(newer, capture_output=True).stdout.split(b"\0")
    paths = {Path(os.fsdecode(each)) for each in found if each} | {each for each in state.parent.rglob("*") if each.is_file()}
    assert {state / "fleet.json", state.with_name(NAME) / "secrets" / "hf-token.age"} <= paths
    for path in sorted(paths):
        try:
            content = path.read_bytes()
            mode = path.stat().st_mode & 0o777
        except OSError:
            continue  # somebody else's, and gone
        for name, canary in known.items():
            if canary.encode() in content:
                own = (path == identity and name == "identity") or any(path.is_relative_to(each) for each in exports)
                if not own or mode & 0o077:
                    yield f"{name} here in {path}, {mode:o}"
