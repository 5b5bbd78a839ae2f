"""A gateway's own command and its database, as they are on the host `pi` of the tests here."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

GATEWAY = Path(__file__).parents[4] / "services" / "gateway"
KEY = re.compile(r"sk-[A-Za-z0-9_-]{43}")

Paddock = Callable[..., tuple[int, str, str]]
"""`paddock("list")` for the code, the output and the errors of `paddock keys list`."""


def configured(directory: Path) -> Path:
    """A gateway's configuration in a directory."""
    (directory / "pepper").write_text("5" * 64)
    (directory / "pepper").chmod(0o600)
    said = {"listen": ["127.0.0.1:8001"], "database": f"sqlite:{directory}/gateway.db", "pepper_file": f"{directory}/pepper"}
    models = {name: {"targets": [{"backend": "here", "model": name}]} for name in ("chat", "small")}
    beside = {"state": str(directory), "backends": {"here": {"url": "http://127.0.0.1:8080"}}, "models": models}
    (directory / "gateway.json").write_text(json.dumps({**said, **beside}))
    return directory / "gateway.json"


def gateway(configuration: Path, *words: str) -> str:
    """What the gateway's own command says."""
    command = [sys.executable, "-m", "paddock_gateway", "--configuration", str(configuration), *words, "--json"]
    return subprocess.run(command, env={**os.environ, "PYTHONPATH": str(GATEWAY)}, check=True, capture_output=True, text=True).stdout


def keys_of(kept: Path) -> list[tuple[str, str, str]]:
    """Id, user and label of each key that is not revoked."""
    with closing(sqlite3.connect(kept.with_name("gateway.db"))) as opened:
        return opened.execute("SELECT id, username, label FROM keys WHERE revoked IS NULL ORDER BY username, label").fetchall()


def asked(kept: Path) -> str:
    """The command lines by which it was asked over SSH."""
    said = kept.with_name("said")
    return said.read_text() if said.exists() else ""


def declare(inventory: Path, *users: str) -> None:
    """Has the inventory say so of its users: `alice: {weight: 2}`."""
    text = re.sub(r"^users:.*\n", "", inventory.read_text(), flags=re.M)
    inventory.write_text(f"{text}users: {{{', '.join(users)}}}\n" if users else text)
