from __future__ import annotations

import control.ssh.cooperative  # isort: skip - first of all
import io
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import control.servers.gateway_users
from cli import main
from control.state.fleet import FleetState
from control.state.secrets import Vault
from roles.base.settings import BaseSettings
from tests.unit.cli.keys.gateway_of_pi import GATEWAY, Paddock, configured, gateway
from tests.unit.control.loopback import Served, served

assert control.ssh.cooperative

HOST_KEY = "ssh-ed25519 AAAA" + "B" * 64


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That of a gateway where carol has two keys, and dave one."""
    directory = tmp_path_factory.mktemp("gateway")
    gateway(configured(directory), "init-db")
    gateway(directory / "gateway.json", "create-user", "--username", "carol")
    gateway(directory / "gateway.json", "keys", "create", "--user", "carol", "--label", "laptop")
    gateway(directory / "gateway.json", "create-user", "--username", "dave", "--weight", "3", "--label", "phone")
    return directory / "gateway.db"


@pytest.fixture
def kept(tmp_path: Path, database: Path) -> Path:
    """A gateway's configuration, with the database beside it."""
    shutil.copy(database, tmp_path)
    return configured(tmp_path)


@pytest.fixture
def command(kept: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Has hosts run another program than the gateway's own, which notes its command lines in `said`."""

    def runs(*words: str) -> None:
        monkeypatch.setattr(control.servers.gateway_users, "COMMAND", words)

    noted = f'echo "$@" >>{kept.parent}/said; exec {sys.executable} -m paddock_gateway --configuration {kept} "$@"'
    monkeypatch.setenv("PYTHONPATH", str(GATEWAY))
    runs("/bin/sh", "-c", noted, "sh")
    return runs


@pytest.fixture
def shares(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The hosts whose gateways have one database for their users, the others have their own. A gateway is whatever has the role base."""
    sharing: list[str] = []
    monkeypatch.setattr(BaseSettings, "admits_users", True)
    monkeypatch.setattr(BaseSettings, "user_database", lambda self, host: "shared" if host in sharing else host)
    return sharing


@pytest.fixture
def inventory(tmp_path: Path, shares: list[str], command: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """`pi` has a gateway."""
    for name in [name for name in os.environ if name.startswith(("PADDOCK_", "SSH_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "home.yml"
    path.write_text("fleet: home\ndomain: home.example\nhosts:\nmodels: {chat: }\n")
    with served(address="127.0.0.2") as pi:
        add(path, "pi", pi)
        yield path


@pytest.fixture
def two(inventory: Path) -> Iterator[None]:
    """`ai` has one too."""
    with served(address="127.0.0.3") as ai:
        add(inventory, "ai", ai)
        yield


@pytest.fixture
def away(inventory: Path) -> None:
    """`away` has one, and nothing answers there."""
    line = f"  away: {{address: 127.0.0.9, port: 1, host_key: {HOST_KEY}, roles: {{base: }}}}"
    inventory.write_text(inventory.read_text().replace("models:", f"{line}\nmodels:"))


def add(inventory: Path, name: str, host: Served) -> None:
    line = f"  {name}: {{address: {host.address}, port: {host.port}, host_key: {host.key}, roles: {{base: }}}}"
    inventory.write_text(inventory.read_text().replace("models:", f"{line}\nmodels:"))


@pytest.fixture
def paddock(inventory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Paddock:
    """`paddock("list")` for its code, its output and its errors; nobody is at the terminal."""

    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        monkeypatch.setattr("sys.stdin", io.StringIO())
        code = main(["keys", *arguments, "-i", str(inventory)])
        return (code, *capsys.readouterr())

    return call


@pytest.fixture
def vault(inventory: Path) -> Vault:
    return Vault(FleetState.of(inventory, "home"))
