"""How each machine is reached over SSH: as the inventory says, and for what it does not say as ssh itself would, by ~/.ssh/config.

`ssh -G` reads the configuration, so that Include, Match and patterns mean here what they mean to ssh.
"""

from __future__ import annotations

import getpass
import os
import re
import shlex
import socket
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from inventory.errors import PaddockError
from inventory.fleet import Host
from inventory.schema import BASTION

CONFIG = "PADDOCK_SSH_CONFIG"
"""Names a file in place of ~/.ssh/config and /etc/ssh/ssh_config; `none` is no file, as with `ssh -F`."""

SYSTEM_CONFIG = "/etc/ssh/ssh_config"
JUMPS = 8
"""Bastions on one way: more are a circle in ~/.ssh/config."""
READING_S = 30


@dataclass(frozen=True)
class Way:
    """The way to one machine's sshd. `name` is what its pinned host key is called: a host of the fleet, or `bastion.home.example:22`."""

    name: str
    address: str
    port: int = 22
    user: str = "root"
    asked: str = ""
    """What ~/.ssh/config is asked about: the address as the inventory writes it."""
    keys: tuple[str, ...] = ()
    """Private key files, in the order in which they are tried."""
    own_key: bool = False
    """Whether the inventory names the key."""
    only_keys: bool = False
    """Whether no other key of the agent is tried."""
    agent: str = "SSH_AUTH_SOCK"
    """The agent's socket, or the variable that names it; `none` for no agent."""
    via: Way | None = None
    command: str = ""
    """What leads to it (`ProxyCommand`), for a shell."""
    in_fleet: bool = True
    key_in_inventory: bool = field(default=False, compare=False)
    """Whether the inventory has its host key."""
    sudo: bool | None = field(default=None, compare=False)

    @property
    def where(self) -> str:
        return f"{self.user}@{self.address}:{self.port}"

    @property
    def known_as(self) -> str:
        """As known_hosts names it. One behind a bastion has a name of its own: two networks may have the same addresses."""
        if self.via or self.command:
            return self.name
        return self.address if self.port == 22 else f"[{self.address}]:{self.port}"

    @property
    def becomes_root(self) -> bool:
        return self.sudo if self.sudo is not None else self.user != "root"

    @cached_property
    def bastions(self) -> tuple[Way, ...]:
        """The machines on the way, in the order in which they are passed."""
        return (*self.via.bastions, self.via) if self.via else ()


class Ways:
    """The ways to the hosts of a fleet. Each is found once."""

    def __init__(self, hosts: Mapping[str, Host]) -> None:
        self.hosts = hosts
        self._found: dict[str, Way] = {}

    def to(self, name: str) -> Way:
        """Raises PaddockError where ~/.ssh/config cannot be read."""
        if name not in self._found:
            self._found[name] = self._to(self.hosts[name])
        return self._found[name]

    def _to(self, host: Host) -> Way:
        said = host.model_fields_set
        way = _configured(
            host.name, host.address, host.user if "user" in said else None, host.port if "port" in said else None, jumps=not host.via
        )
        if host.via:
            way = replace(way, via=self._bastion(host.via))
        if host.ssh_key:
            way = replace(way, keys=(host.ssh_key,), own_key=True, only_keys=True)
        return replace(way, sudo=host.sudo, key_in_inventory=bool(host.host_key))

    def key_in_inventory(self, way: Way) -> str:
        """`ssh-ed25519 AAAA…`; empty where the inventory has none."""
        host_key = self.hosts[way.name].host_key if way.in_fleet else None
        return " ".join(host_key.split()[:2]) if host_key else ""

    def _bastion(self, via: str) -> Way:
        return self.to(via) if via in self.hosts else _outside(via)


def _outside(via: str, before: Way | None = None, passed: int = 1) -> Way:
    """A bastion that is no host of the fleet; `before` is the one that leads to it, where something says so."""
    found = BASTION.fullmatch(via.removeprefix("ssh://"))
    if not found or passed > JUMPS:
        what = f"more than {JUMPS} machines to pass, one after the other" if found else f"`ProxyJump {via}` leads nowhere"
        raise PaddockError(f"~/.ssh/config: {what}")
    address, port = found["address"] or found["name"], int(found["port"]) if found["port"] else None
    way = _configured("", address, found["user"], port, jumps=before is None, passed=passed)
    return replace(way, name=f"[{way.address}]:{way.port}", via=before or way.via, in_fleet=False)


def _configured(name: str, address: str, user: str | None, port: int | None, *, jumps: bool, passed: int = 0) -> Way:
    """What ssh would do for `ssh ADDRESS`; without `jumps` whatever leads there is left out."""
    found = _read(address, user, port)
    one = {key: values[0] for key, values in found.items()}
    way = Way(name, one.get("hostname", address), int(one.get("port", port or 22)), one.get("user", user or "root"), address)
    tokens = _tokens(way)
    way = replace(
        way,
        keys=tuple(str(Path(_expanded(each, tokens)).expanduser()) for each in found.get("identityfile", DEFAULT_KEYS)),
        only_keys=one.get("identitiesonly") == "yes",
        agent=_expanded(one.get("identityagent", "SSH_AUTH_SOCK"), tokens),
    )
    command, jump = one.get("proxycommand", "none"), one.get("proxyjump", "none")
    if jumps and command.lower() != "none":
        return replace(way, command=_expanded(command, tokens))
    if jumps and jump.lower() != "none":
        via = None
        for each in jump.split(","):
            via = _outside(each, via, passed + 1)
        return replace(way, via=via)
    return way


DEFAULT_KEYS = ("~/.ssh/id_rsa", "~/.ssh/id_ecdsa", "~/.ssh/id_ecdsa_sk", "~/.ssh/id_ed25519", "~/.ssh/id_ed25519_sk")


def _read(address: str, user: str | None, port: int | None) -> dict[str, list[str]]:
    """What `ssh -G` says, by lower-case keyword; nothing where there is no ssh, and so nobody has configured it."""
    given = [*(("-l", user) if user else ()), *(("-p", str(port)) if port else ())]
    try:
        done = subprocess.run(
            ["ssh", "-G", "-F", "/dev/stdin", *given, "--", address],
            input=_configuration(),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=READING_S,
            check=False,
        )
    except FileNotFoundError:
        return {}
    except subprocess.TimeoutExpired:
        raise PaddockError(f"ssh has not read its configuration within {READING_S} s: `ssh -G {address}` shows how far it comes") from None
    if done.returncode:
        said = next((line for line in done.stderr.split("\n") if ":" in line), "it says nothing").strip()
        raise PaddockError(f"ssh cannot read its configuration: {said}")
    found: dict[str, list[str]] = {}
    for line in done.stdout.split("\n"):
        key, _, value = line.partition(" ")
        found.setdefault(key, []).append(value.strip())
    return found


def _configuration() -> str:
    """ssh would take the account of this machine where nobody says another; Paddock takes root."""
    files = [Path("~/.ssh/config").expanduser(), Path(SYSTEM_CONFIG)]
    if own := os.environ.get(CONFIG):
        files = [Path(own).expanduser().absolute()] if own != "none" else []
        if files and not files[0].is_file():
            raise PaddockError(f"{CONFIG}: there is no file {own}: name another, or `none`")
    included = [f"Include {_quoted(str(each))}" for each in files if each.exists()]
    return "\n".join([*included, "Host *", "  User root", ""])


def _quoted(path: str) -> str:
    """A path as ssh_config(5) reads it; Include takes a pattern."""
    return '"{}"'.format(re.sub(r"([*?\[\]\\])", r"\\\1", path).replace('"', '\\"'))


def _tokens(way: Way) -> Mapping[str, str]:
    """Those of ssh_config(5), TOKENS, that name where it goes."""
    home = str(Path("~").expanduser())
    host = socket.gethostname()
    return {
        **{"%": "%", "h": way.address, "n": way.asked, "k": way.asked, "p": str(way.port), "r": way.user},
        **{"d": home, "u": getpass.getuser(), "i": str(os.getuid()), "l": host, "L": host.partition(".")[0]},
    }


def _expanded(text: str, tokens: Mapping[str, str]) -> str:
    return re.sub(r"%(.)", lambda found: tokens.get(found[1], found[0]), text)


def options(way: Way, known_hosts: Path) -> Iterator[tuple[str, str]]:
    """What ssh is told so that it goes this way, to the pinned host keys only, those of the bastions too: options of ssh_config(5)."""
    yield "User", way.user
    yield "Port", str(way.port)
    yield "HostKeyAlias", way.known_as
    yield "StrictHostKeyChecking", "yes"
    yield "UserKnownHostsFile", _path_value(str(known_hosts))
    yield "GlobalKnownHostsFile", "none"
    yield "BatchMode", "yes"
    yield "LogLevel", "ERROR"
    if way.own_key:
        yield "IdentityFile", _path_value(way.keys[0])
        yield "IdentitiesOnly", "yes"
    if way.via:
        target = f"[{way.address}]:{way.port}" if ":" in way.address else f"{way.address}:{way.port}"
        yield "ProxyCommand", shlex.join([*through(way, known_hosts), "-W", target, way.via.asked]).replace("%", "%%")
    elif not way.command:
        yield "ProxyCommand", "none"


def through(way: Way, known_hosts: Path) -> list[str]:
    """The ssh that goes to the last bastion of a way: `-W HOST:PORT BASTION` comes behind it. Empty where there is none."""
    if not way.via:
        return []
    return ["ssh", *configuration(), *(f"-o{name}={value}" for name, value in options(way.via, known_hosts))]


def configuration() -> tuple[str, ...]:
    """`-F FILE`, where another file than ~/.ssh/config is meant."""
    own = os.environ.get(CONFIG)
    return ("-F", str(Path(own).expanduser().absolute()) if own != "none" else own) if own else ()


def _path_value(path: str) -> str:
    """A path as a value in ssh_config(5), where a percent sign begins a token."""
    escaped = path.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'
