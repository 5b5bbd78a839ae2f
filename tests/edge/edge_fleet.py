"""The fleet `edge`: one llama-server, and before it two reverse proxies: `old` with Debian's Caddy 2.6.2, `new` with a current one."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from newer_caddy import newer_caddy

from control.pki.authority import Authority
from control.state.fleet import FleetState
from control.state.secrets import Vault
from tests.lab_fleet import LabFleet, lab_fleet

HOSTS = ("old", "new")
VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)

PAGE = "https://chat.home.example"
"""The origin of a page that may call the sites."""
LOCAL_PAGE = "http://localhost:3000"
"""That of another, to which llama-server says something itself."""

SITE = {"upstream": "old", "body_limit_mib": 8, "origins": [PAGE, LOCAL_PAGE]}
BOTH = ["0.0.0.0:443", "[::]:443"]

INVENTORY = {
    "fleet": "edge",
    "domain": "home.example",
    "networks": ["192.0.2.0/24"],
    "hosts": {
        "old": {
            "address": "192.0.2.10",
            "roles": {
                "base": {"time": "elsewhere"},
                "llama_cpp": {"ui": False},
                "models": None,
                "llama_server": {"listen": "0.0.0.0:8080", "models": ["endless"]},
                "admin": {"listen": "0.0.0.0:8079"},
                "caddy": {"sites": {"old.home.example": SITE}},
            },
        },
        "new": {
            "address": "192.0.2.11",
            "roles": {
                "base": {"time": "elsewhere"},
                "caddy": {"listen": BOTH, "sites": {"new.home.example": {**SITE, "routes": ["GET /metrics"]}}},
            },
        },
    },
    # It goes on for longer than a revocation takes: each of two that ask at a time has half of the context.
    "models": {"endless": {"preset": {"ctx-size": 524288, "parallel": 2, "ignore-eos": True}}},
    "clients": {"laptop": {"admin": True}, "phone": None},
}


@contextmanager
def deployed(directory: Path) -> Iterator[LabFleet]:
    inventory = json.loads(json.dumps(INVENTORY))
    inventory["hosts"]["new"]["roles"]["caddy"]["package"] = newer_caddy()
    with lab_fleet("edge", directory, yaml.safe_dump(inventory), ready=True) as fleet:
        fleet.up()
        yield fleet


@dataclass(frozen=True)
class Door:
    """A reverse proxy of the fleet, as a client elsewhere sees it."""

    fleet: LabFleet
    host: str
    address: str
    site: str
    root: str = ""
    """Who signs for it, where that is not the fleet's CA."""

    @classmethod
    def of(cls, fleet: LabFleet, host: str) -> Door:
        return cls(fleet, host, fleet.host(host).address, f"{host}.home.example")

    @property
    def _authority(self) -> Authority:
        state = FleetState.of(self.fleet.inventory, f"{self.fleet.name}-lab")
        return Authority(state, Vault(state))

    def authority(self) -> tuple[str, str]:
        """The fleet's CA, and its key."""
        authorities = self._authority.cas
        issuer = authorities.signing()
        assert issuer
        return issuer.pem, authorities.key(issuer)

    def identity(self, client: str) -> tuple[Path, Path]:
        """The certificate of a client, and its key, as it took them away."""
        away = self.fleet.directory / f"taken-{client}"
        if not away.exists():
            self._authority.export(client, away)
        return away / "cert.pem", away / "key.pem"

    def context(self, version: ssl.TLSVersion, identity: tuple[Path, Path] | None) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=self.root or self._authority.bundle())
        context.minimum_version = context.maximum_version = version
        if identity:
            context.load_cert_chain(*identity)
        return context

    def connect(self, context: ssl.SSLContext, session: ssl.SSLSession | None = None) -> http.client.HTTPConnection:
        """A connection, with the handshake done."""
        connection = http.client.HTTPConnection(self.site, 443)
        stream = socket.create_connection((self.address, 443), timeout=120)
        connection.sock = context.wrap_socket(stream, server_hostname=self.site, session=session)
        return connection

    def ask(
        self, method: str, path: str, context: ssl.SSLContext, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> tuple[int, bytes]:
        connection = self.connect(context)
        try:
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def get(self, path: str, context: ssl.SSLContext, session: ssl.SSLSession | None = None) -> tuple[int, ssl.SSLSession | None]:
        """The status, and the session that may be resumed. A server need not resume one that is given."""
        connection = self.connect(context, session)
        try:
            print(f"{self.site}: {connection.sock.version()}, resumed: {connection.sock.session_reused}", flush=True)
            connection.request("GET", path)
            answer = connection.getresponse()
            answer.read()
            return answer.status, connection.sock.session
        finally:
            connection.close()

    def is_refused(self, context: ssl.SSLContext, session: ssl.SSLSession | None = None) -> bool:
        """Whether the handshake fails, or, as with TLS 1.3, the connection ends before anything is answered."""
        try:
            connection = self.connect(context, session)
        except (ssl.SSLError, ConnectionError):
            return True
        try:
            connection.request("GET", "/health")
            return not connection.getresponse()
        except (ssl.SSLError, ConnectionError, http.client.RemoteDisconnected):
            return True
        finally:
            connection.close()


@dataclass
class Stream:
    """A long answer that is being read, in a thread of its own: no faster than a piece in `pause_s`."""

    connection: http.client.HTTPConnection
    pause_s: float = 0
    begun: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    text: bytes = b""
    size: int = 0

    def read(self) -> None:
        body = json.dumps({"model": "endless", "prompt": "Hello", "stream": True, "max_tokens": -1})
        try:
            self.connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
            answer = self.connection.getresponse()
            while piece := answer.read1(65536):
                self.text, self.size = self.text[-200:] + piece, self.size + len(piece)
                if b"data: " in self.text:
                    self.begun.set()
                time.sleep(self.pause_s)
        except (OSError, http.client.HTTPException):
            pass  # that is how it may end
        finally:
            self.ended.set()
