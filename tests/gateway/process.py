"""The gateway and its back ends as processes of their own, as a host runs them."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PEPPER = "pepper-of-a-test-and-of-nothing-else"
STARTS_S = 30.0


@dataclass
class Gateway:
    """`configuration` is gateway.json; `users` is name → what it says of them but for the key."""

    directory: Path
    configuration: dict[str, Any]
    users: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    port: int = 0
    process: subprocess.Popen[bytes] | None = None
    held: socket.socket | None = None
    """What systemd would hold for it."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def file(self) -> Path:
        return self.directory / "gateway.json"

    @property
    def log(self) -> Path:
        return self.directory / "gateway.log"

    def write(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        pepper = self.directory / "pepper"
        if not pepper.exists():
            pepper.touch(mode=0o600)
            pepper.write_text(PEPPER + "\n")
        self.port = self.port or free_port()
        users = [{"name": name, "digest": digest(key_of(name)), **said} for name, said in self.users.items()]
        least = {
            "listen": [f"127.0.0.1:{self.port}"],
            "database": f"sqlite:{self.directory}/gateway.db",
            "pepper_file": str(pepper),
            "state": str(self.directory / "state"),
            "access_log": False,
            "admin_socket": str(self.directory / "state" / "admin.sock"),
            "users": users,
        }
        (self.directory / "state").mkdir(exist_ok=True)
        self.file.write_text(json.dumps(least | self.configuration))

    def start(self) -> None:
        self.write()
        with self.log.open("ab") as log:
            command, held = [*COMMAND, "--configuration", str(self.file), "serve"], ()
            if self.held:
                held = (self.held.fileno(),)
                command = ["bash", "-c", f'LISTEN_PID=$$ LISTEN_FDS=1 exec "$@" 3<&{held[0]}', "bash", *command]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=ENVIRONMENT, pass_fds=held)
        wait_for(f"{self.url}/readyz", self.process, self.log)

    def stop(self, how: int = signal.SIGTERM, within_s: float = 120.0) -> int:
        assert self.process
        self.process.send_signal(how)
        return self.process.wait(within_s)

    def status(self) -> dict[str, Any]:
        """What /admin/status shows, over the Unix socket."""
        with closing(http.client.HTTPConnection("localhost")) as connection:
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.connect(str(self.directory / "state" / "admin.sock"))
            connection.request("GET", "/admin/status")
            said: dict[str, Any] = json.load(connection.getresponse())
        return said

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`paddock-gateway …` beside it."""
        return subprocess.run(
            [*COMMAND, "--configuration", str(self.file), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            env=ENVIRONMENT,
        )


COMMAND = [sys.executable, "-m", "paddock_gateway"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{ROOT / 'services' / 'gateway'}:{ROOT}"}


@contextmanager
def running(
    directory: Path, configuration: Mapping[str, Any], users: Mapping[str, Mapping[str, Any]] | None = None, *, held: bool = False
) -> Iterator[Gateway]:
    """With `held` its port is held for it, as a socket unit does."""
    gateway = Gateway(directory, dict(configuration), users or {})
    if held:
        gateway.held = socket.create_server(("127.0.0.1", 0), backlog=4096)
        gateway.port = gateway.held.getsockname()[1]
    gateway.start()
    try:
        yield gateway
    finally:
        if gateway.process and gateway.process.poll() is None:
            gateway.process.kill()
            gateway.process.wait()
        if gateway.held:
            gateway.held.close()


@contextmanager
def back_end(slots: int, *options: str, port: int = 0, pids: list[int] | None = None) -> Iterator[str]:
    """The URL of a stand-in for a llama-server (tests/gateway/back_end.py); its process is added to `pids`."""
    port = port or free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.gateway.back_end", str(port), str(slots), *options], stdin=subprocess.DEVNULL, cwd=ROOT
    )
    try:
        wait_for(f"http://127.0.0.1:{port}/health", process)
        if pids is not None:
            pids.append(process.pid)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def told(url: str, path: str = "told") -> dict[str, Any]:
    """What came to a stand-in."""
    with urllib.request.urlopen(f"{url}/{path}", timeout=30) as answer:
        said: dict[str, Any] = json.load(answer)
    return said


def key_of(user: str) -> str:
    return f"sk-{user}-{'0' * 32}"


def digest(key: str) -> str:
    return hmac.new(PEPPER.encode(), key.encode(), hashlib.sha256).hexdigest()


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port: int = bound.getsockname()[1]
    return port


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path | None = None, within_s: float = STARTS_S) -> None:
    ends = time.monotonic() + within_s
    while time.monotonic() < ends and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.05)
    raise AssertionError(f"{url} does not answer: {log.read_text() if log else ''}")
