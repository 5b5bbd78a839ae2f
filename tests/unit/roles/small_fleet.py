"""A small fleet to plan for: a server behind a proxy on another host, and one host that carries both."""

import base64
from typing import Any

from inventory.fleet import Fleet
from inventory.hardware import Hardware
from inventory.knowledge import Certificate, Knowledge, ModelDigest
from inventory.options import Options
from resources import File, Resource
from roles.host_plan import host_plan
from roles.llama_cpp.releases import releases

SERVING: dict[str, Any] = {"base": {"time": "elsewhere"}, "llama_cpp": {}, "models": {}}

HARDWARE = Hardware("x86_64", "Celeron", frozenset({"sse4_2"}), cores=2, memory_mib=15900, distribution="debian 13", libc="2.41")


def pem(words: str) -> str:
    """A certificate as far as its outline goes: three elements, of which the first says the words."""
    signed = b"\x30" + bytes([len(words)]) + words.encode()
    der = signed + b"\x30\x00\x03\x01\x00"
    body = base64.b64encode(b"\x30" + bytes([len(der)]) + der).decode()
    return f"-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n"


class Small:
    """The fleet `home`: `ai` serves, `door` is the proxy in front of it, `one` does both. `settings` replace a host's, by role."""

    def __init__(self) -> None:
        self.roles: dict[str, dict[str, Any]] = {
            "ai": {**SERVING, "llama_server": {"listen": "0.0.0.0:8080", "models": ["demo", "code"]}},
            "door": {"caddy": {"sites": {"ai.home.example": {"upstream": "ai"}}}},
            "one": {**SERVING, "llama_server": {"models": ["demo"]}, "caddy": {"sites": {"one.home.example": {"upstream": "one"}}}},
        }
        self.models: dict[str, dict[str, Any]] = {"demo": {"preset": {"ctx-size": 2048}}, "code": {}}
        self.active = ["laptop", "phone"]
        self.administrators: tuple[str, ...] = ()
        self.chains: dict[str, str] = {}
        self.earlier: dict[str, tuple[str, ...]] = {}
        self.roots: dict[str, str] = {}
        self.secrets = {"admin.ai": "sk-of-ai"}
        self.hardware = HARDWARE
        self.options: Options | None = None
        self.addresses: dict[str, str] = {}
        self.groups: dict[str, tuple[str, ...]] = {}

    @property
    def fleet(self) -> Fleet:
        hosts = {
            name: {"name": name, "address": self.addresses.get(name, f"192.0.2.{10 + at}"), "roles": roles, "groups": self._groups_of(name)}
            for at, (name, roles) in enumerate(self.roles.items())
        }
        clients: dict[str, Any] = {name: {"admin": name in self.administrators} for name in ("laptop", "phone")}
        return Fleet.model_validate({"name": "home", "domain": "home.example", "hosts": hosts, "models": self.models, "clients": clients})

    def _groups_of(self, host: str) -> tuple[str, ...]:
        return tuple(group for group, hosts in self.groups.items() if host in hosts)

    @property
    def context(self) -> Knowledge:
        hardware = dict.fromkeys(self.roles, self.hardware)
        return Knowledge(
            hardware=hardware,
            releases=releases(self.fleet, hardware, {}),
            ca=pem("the CA"),
            earlier=self.earlier,
            roots=self.roots,
            secrets=self.secrets,
            servers={name: Certificate(f"chain of {name}", f"key of {name}") for name in ("ai.home.example", "one.home.example")},
            clients={name: Certificate(self.chains.get(name, pem(name))) for name in self.active},
            models=dict.fromkeys(self.models, ModelDigest("5eed" * 16, 62656)),
            options=dict.fromkeys(self.roles, self.options) if self.options else {},
        )

    def plan(self, host: str) -> dict[str, Resource]:
        """All that the host is to be, by identity."""
        parts = host_plan(self.fleet.hosts[host], self.fleet, self.context)
        return {each.id: each for part in parts.values() for each in part}

    def text(self, host: str, path: str) -> str:
        file = self.plan(host)[f"file:{path}"]
        assert isinstance(file, File)
        return file.data.decode()
