"""This version of the gateway, tried before it serves: on a scratch database, at a socket of its own, beside the version that serves.

It runs in a process of its own, as who owns the tables (`python -c "…trial.main()"`, the configuration on standard input).
"""

from __future__ import annotations

import asyncio
import http.client
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from paddock_gateway.commands.opened import become_owner
from paddock_gateway.errors import Failure
from paddock_gateway.pepper import pepper
from paddock_gateway.settings import Configuration, SettingsError
from paddock_gateway.store.database import StoreError
from paddock_gateway.store.opening import open_users

SERVES_S = 120.0
"""How long it may take until it answers."""
ANSWERS_S = 30.0
ENDS_S = 20.0


def tried(scratch: Configuration) -> str:
    """Migrates that database and serves on it. Why this version cannot; empty where it can."""
    child = subprocess.run(
        [sys.executable, "-c", "from paddock_gateway.commands import trial; trial.main()"],
        input=msgspec.json.encode(scratch),
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
    )
    lines = child.stderr.decode("utf-8", "replace").strip().splitlines()
    return (lines[-1] if lines else f"it ended with {child.returncode}") if child.returncode else ""


def main() -> None:
    """Exits with 1 and a line on standard error."""
    from paddock_gateway.store.migrate import migrate

    scratch = msgspec.json.decode(sys.stdin.buffer.read(), type=Configuration)
    become_owner(scratch)
    try:
        migrate(scratch)
    except Exception as error:  # whatever a migration raises
        sys.exit((str(error) or type(error).__name__).splitlines()[0])
    try:
        _serves(scratch)
    except (OSError, http.client.HTTPException, Failure, SettingsError, StoreError) as error:
        sys.exit(f"this version does not serve with it: {error}")


def _serves(scratch: Configuration) -> None:
    """Raises StoreError and others where it does not come up, or does not know a user who has a key."""
    key = asyncio.run(_key(scratch))
    with tempfile.TemporaryDirectory(prefix="paddock-gateway-trial-") as directory:
        own, at = Path(directory), Path(directory, "socket")
        said = msgspec.structs.replace(
            scratch,
            listen=(f"unix:{at}",),
            metrics_listen="",
            admin_socket="",
            state=directory,
            drain_s=1.0,
            pi=scratch.pi and msgspec.structs.replace(scratch.pi, warm_up=False),
        )
        file, log = own / "gateway.json", own / "log"
        file.touch(0o600)
        file.write_bytes(msgspec.json.encode(said))
        with log.open("wb") as output:
            server = subprocess.Popen(
                [sys.executable, "-m", "paddock_gateway", "--configuration", str(file), "serve"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=directory,
            )
        try:
            _await(server, at, log)
            status = _asked(at, "/v1/models", key)
            if status != 200:
                raise StoreError(f"a user with a key who asks for the models gets {status}")
        finally:
            server.terminate()
            try:
                server.wait(ENDS_S)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


async def _key(scratch: Configuration) -> str:
    """Of a user that only the scratch database has."""
    async with open_users(scratch, pepper(Path(scratch.pepper_file))) as users:
        key, _ = await users.create(f"trial-{secrets.token_hex(4)}")
        return key


def _await(server: subprocess.Popen[bytes], at: Path, log: Path) -> None:
    late = time.monotonic() + SERVES_S
    while True:
        if server.poll() is not None:
            lines = log.read_text("utf-8", "replace").strip().splitlines()
            raise StoreError(lines[-1] if lines else f"it ended with {server.returncode}")
        try:
            if _asked(at, "/livez") == 200:
                return
        except OSError:
            pass  # not yet
        if time.monotonic() > late:
            raise StoreError(f"it does not answer after {SERVES_S:.0f} s")
        time.sleep(0.1)


def _asked(at: Path, path: str, key: str = "") -> int:
    """The status of the answer."""
    connection = http.client.HTTPConnection("localhost")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as own:
        own.settimeout(ANSWERS_S)
        own.connect(str(at))
        connection.sock = own
        connection.request("GET", path, headers={"Authorization": f"Bearer {key}"} if key else {})
        return connection.getresponse().status
