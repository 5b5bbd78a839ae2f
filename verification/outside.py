"""A caller on another machine than the host: this one."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from threading import Event, Timer
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from inventory.bounds import VERIFY_ANSWER, TooMuch, size_words, time_words
from roles.outside import STRANGER, Refused

TIMEOUT_S = 120

ENDED_S = 5
"""An ssh whose connection has ended is gone by then."""

HEARD_S = 3
"""Who is refused hears of it at once; who is let in may hear nothing."""


@dataclass(frozen=True)
class Answered:
    status: int
    text: str
    headers: Mapping[str, str]


class Connected(NamedTuple):
    """A connection; `require` raises OSError where there turns out to be none, which a bastion says only later."""

    stream: socket.socket
    require: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Through:
    """A bastion that calls in place of this machine: the ssh that goes there, and what it is called."""

    command: tuple[str, ...]
    bastion: str

    def connected(self, at: str, port: int) -> Connected:
        here, there = socket.socketpair()
        here.settimeout(TIMEOUT_S)
        target = f"[{at}]:{port}" if ":" in at else f"{at}:{port}"
        said = TemporaryFile()  # noqa: SIM115 - read where ssh ends
        with there:
            command = [*self.command, "-W", target, self.bastion]
            process = subprocess.Popen(command, stdin=there.fileno(), stdout=there.fileno(), stderr=said)

        def require() -> None:
            with suppress(subprocess.TimeoutExpired):
                if process.wait(ENDED_S):
                    said.seek(0)
                    raise OSError(f"{self.bastion} does not reach {target}: {said.read(1 << 12).decode(errors='replace').strip()}")

        return Connected(here, require)


@dataclass(frozen=True)
class Outside:
    """Asks over the network as a client of the fleet, as a stranger, or as nobody in particular.

    `clients` are those that are let in, `identities` their certificate and key in PEM, `ca` the certificates of the fleet's CAs. `roots` is
    by site the root of its ACME authority, empty where that is a public one.
    """

    clients: frozenset[str] = frozenset()
    identities: Mapping[str, tuple[str, str]] = field(default_factory=dict, repr=False)
    ca: str = ""
    roots: Mapping[str, str] = field(default_factory=dict)
    through: Through | None = None

    @classmethod
    def of(cls, data: Mapping[str, Any], through: Through | None = None) -> Outside:
        identities = {name: (chain, key) for name, (chain, key) in data["identities"].items()}
        return cls(frozenset(data["clients"]), identities, data["ca"], data["roots"], through)

    def ask(
        self,
        url: str,
        *,
        at: str,
        client: str | None = None,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answered:
        """See `roles.outside.Outside`."""
        parts = urlsplit(url)
        assert parts.hostname
        connection = http.client.HTTPConnection(parts.hostname, parts.port or (443 if parts.scheme == "https" else 80))
        # Outside of the try: where nobody listens, nobody has refused anything.
        stream, require = self._connected(at, connection.port)
        whole, late = stream.dup(), Event()

        def hang_up() -> None:
            late.set()
            whole.shutdown(socket.SHUT_RDWR)

        clock = Timer(VERIFY_ANSWER.seconds or 0, hang_up)  # a timeout of the socket is for each read
        clock.daemon = True
        clock.start()
        try:
            connection.sock = (
                self._context(parts.hostname, client).wrap_socket(stream, server_hostname=parts.hostname)
                if parts.scheme == "https"
                else stream
            )
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            data = json.dumps(body).encode() if body is not None else None
            sent = {**({"Content-Type": "application/json"} if data else {}), **(headers or {})}
            connection.request("POST" if data else "GET", target, data, sent)
            answer = connection.getresponse()
            said = {name.lower(): value for name, value in answer.getheaders()}
            text = answer.read(VERIFY_ANSWER.size + 1)
            if late.is_set():
                raise TooMuch(f"{url}: its answer is not there within {time_words(VERIFY_ANSWER.seconds)}")
            if len(text) > VERIFY_ANSWER.size:
                raise TooMuch(f"{url}: sends more than {size_words(VERIFY_ANSWER.size)}")
            return Answered(answer.status, text.decode(errors="replace"), said)
        except ssl.SSLCertVerificationError:
            raise  # it is the caller who refuses
        except (ssl.SSLError, ConnectionError) as error:
            require()
            raise Refused(str(error)) from error
        finally:
            clock.cancel()
            for each in (connection, stream, whole):
                each.close()

    def is_let_in(self, at: str, port: int, client: str | None = None) -> bool:
        """See `roles.outside.Outside`."""
        context = self._context("", client)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        stream, require = self._connected(at, port)
        with stream:
            try:
                with context.wrap_socket(stream) as secured:
                    secured.settimeout(HEARD_S)
                    return bool(secured.recv(1))
            except TimeoutError:
                return True
            except (ssl.SSLError, ConnectionError):
                require()
                return False

    def _connected(self, at: str, port: int) -> Connected:
        """Raises OSError where nobody listens."""
        return self.through.connected(at, port) if self.through else Connected(socket.create_connection((at, port), timeout=TIMEOUT_S))

    def _context(self, site: str, client: str | None) -> ssl.SSLContext:
        context = self._trusting(site)
        with TemporaryDirectory() as scratch:  # a client's key lies unsealed for no longer than it takes to read it
            if client == STRANGER:
                context.load_cert_chain(_of_another_ca(Path(scratch)))
            elif client:
                assert client in self.identities, f"the certificate of client {client} cannot be used: `paddock certs list` says why"
                own = Path(scratch) / "own.pem"
                own.touch(mode=0o600)
                own.write_text("".join(self.identities[client]))
                context.load_cert_chain(own)
        return context

    def _trusting(self, site: str) -> ssl.SSLContext:
        """Trusts who signs for the site: the fleet's CA, a private ACME authority, or, of a public one, those that everybody does."""
        return ssl.create_default_context(cadata=self.roots.get(site, self.ca) or None)


def _of_another_ca(scratch: Path) -> Path:
    """A client certificate as good as any, but for who signed it."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    issuer, subject = (x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]) for name in ("another CA", "stranger"))
    builder = x509.CertificateBuilder(
        issuer, subject, key.public_key(), x509.random_serial_number(), now - timedelta(minutes=5), now + timedelta(days=1)
    )
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
    leaf = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    plain = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = scratch / "stranger.pem"
    path.write_bytes(plain + leaf.public_bytes(serialization.Encoding.PEM))
    return path
