"""`paddock-gateway COMMAND`, beside a gateway that runs and without one."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from paddock_gateway.__main__ import command
from paddock_gateway.pepper import digest
from paddock_gateway.settings import Configuration, User
from paddock_gateway.store.opening import open_store

Command = Callable[..., str]


def command_on(configuration: Configuration, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs one and gives what it printed; `status` is the exit status that is expected, 1 gives standard error."""
    path = Path(configuration.state) / "gateway.json"
    path.write_bytes(msgspec.json.encode(configuration))

    def run(*arguments: str, status: int = 0) -> str:
        capsys.readouterr()
        assert command(["--configuration", str(path), *arguments]) == status
        printed = capsys.readouterr()
        if status:
            assert printed.err.startswith("paddock-gateway: ") and printed.err.count("\n") == 1 and not printed.out
            return printed.err
        assert not printed.err
        return printed.out

    return run


@pytest.fixture
def run(configuration: Configuration, capsys: pytest.CaptureFixture[str]) -> Command:
    return command_on(configuration, capsys)


def test_a_host_without_paddock_goes_from_nothing_to_a_key(empty: Configuration, capsys: pytest.CaptureFixture[str]) -> None:
    run = command_on(empty, capsys)
    assert "`paddock-gateway init-db` makes" in run("list-users", status=1)
    assert "is ready" in run("init-db")
    assert "is ready" in run("init-db")
    said = run("create-user", "--username", "ann", "--models", "qwen", "--requests", "60", "--window-s", "30", "--weight", "2")
    key = said.splitlines()[0]
    assert key.startswith("sk-") and "It is shown this once" in said
    assert run("list-users").splitlines()[1].split() == ["ann", "qwen", "60", "requests", "in", "30", "s", "2", "1", "active"]

    async def account() -> Any:
        store = await open_store(empty)
        try:
            return await store.keys.account(key)
        finally:
            await store.close()

    assert asyncio.run(account()).limits.requests == 60


def test_keys_are_made_listed_rotated_and_revoked(run: Command) -> None:
    run("create-user", "--username", "ann")
    made = json.loads(run("keys", "create", "--user", "ann", "--label", "laptop", "--expires", "30d", "--json"))
    assert made["key"].startswith("sk-") and abs(made["expires"] - time.time() - 30 * 86_400) < 60
    assert "laptop" in run("keys", "show", made["id"])
    new = json.loads(run("keys", "rotate", made["id"], "--json"))
    assert new["key"] != made["key"] and (new["label"], new["expires"]) == ("laptop", made["expires"])
    assert "or it was revoked" in run("keys", "show", made["id"], status=1)
    assert "is revoked" in run("keys", "revoke", new["id"])
    assert len(json.loads(run("keys", "list", "--user", "ann", "--json"))) == 1
    assert made["key"] not in run("keys", "list") and new["key"] not in run("keys", "list")


def test_a_user_is_disabled_enabled_and_deleted(run: Command) -> None:
    run("create-user", "--username", "ann", "--expires", "2099-01-01")
    assert "refused" in run("disable-user", "ann")
    assert run("keys", "list").splitlines()[1].endswith("disabled")
    assert "2099-01-01 00:00Z" in run("keys", "list")
    run("enable-user", "ann")
    assert run("keys", "list").splitlines()[1].endswith("active")
    assert json.loads(run("delete-user", "ann", "--json")) == {"user": "ann", "deleted": True}
    assert run("keys", "list") == "no keys\n"


async def test_a_command_beside_a_running_gateway_is_seen_by_it(configuration: Configuration, capsys: pytest.CaptureFixture[str]) -> None:
    run, store = command_on(configuration, capsys), await open_store(configuration)
    key = json.loads(await asyncio.to_thread(run, "create-user", "--username", "ann", "--json"))["key"]
    assert (await store.keys.account(key)).user == "ann"
    await asyncio.to_thread(run, "disable-user", "ann")
    while store.keys.known(key):
        await asyncio.sleep(0.02)
    await store.close()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["create-user", "--username", "ann", "--models", "qwem"], "there is no model 'qwem'. Did you mean \"qwen\"?"),
        (["create-user", "--username", "ann", "--tokens", "0"], "--tokens: a number from 1"),
        (["create-user", "--username", "ann", "--window-s", "-1"], "--window-s: a number from 1"),
        (["create-user", "--username", "ann", "--weight", "nan"], "weight: a number above 0"),
        (["create-user", "--username", "ann", "--expires", "soon"], "'soon' is no time: write 2027-01-01 or 30d"),
        (["create-user", "--username", "ann", "--expires", "2020-01-01"], "a time in the future"),
        (["create-user", "--username", "a\nb"], "printable characters"),
        (["create-user", "--username", "bob"], "The inventory declares user 'bob'"),
        (["keys", "create", "--user", "nobody"], "There is no user 'nobody'"),
        (["keys", "revoke", "declared-bob"], "The inventory declares this key"),
        (["delete-user", "nobody"], "There is no user 'nobody'"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(
    on_sqlite: Configuration, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    declared = (User(name="bob", digest=digest(b"p" * 40, "sk-bob")),)
    assert words in command_on(msgspec.structs.replace(on_sqlite, users=declared), capsys)(*arguments, status=1)


def test_a_configuration_that_cannot_be_read_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["--configuration", str(tmp_path / "no.json"), "keys", "list"]) == 1
    assert capsys.readouterr().err == f"paddock-gateway: {tmp_path}/no.json: No such file or directory\n"


def test_check_says_every_problem(on_sqlite: Configuration, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no problem found" in command_on(on_sqlite, capsys)("check")
    (tmp_path / "pepper").chmod(0o644)
    (tmp_path / "empty").touch()
    wrong = msgspec.structs.replace(
        on_sqlite, database=f"sqlite:{tmp_path}/no/gateway.db", master_key_file=f"{tmp_path}/empty", state=str(tmp_path)
    )
    path = tmp_path / "gateway.json"
    path.write_bytes(msgspec.json.encode(wrong))
    assert command(["check", "--configuration", str(path)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert "open to every user" in lines[0] and "there is no directory" in lines[1] and "is empty: write the key" in lines[2]


def test_help_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        command(["--help"])
    assert done.value.code == 0 and "paddock-gateway keys create --user ann --label laptop --expires 30d" in capsys.readouterr().out


@pytest.mark.skipif(os.geteuid() != 0, reason="a command that root runs: only root can")
def test_a_command_that_root_runs_leaves_no_file_of_root_s(migrated_sqlite: Path, server: Any) -> None:
    """In a directory that the service's user owns; here that of Postgres, which every machine with these tests has."""
    place = Path(server.home) / "gateway"
    place.mkdir()
    try:
        shutil.copyfile(migrated_sqlite, place / "gateway.db")
        (place / "pepper").write_text("p" * 40)
        (place / "pepper").chmod(0o600)  # root's, as the configuration
        (place / "gateway.json").write_text(
            json.dumps(
                {
                    "listen": ["127.0.0.1:8001"],
                    "database": f"sqlite:{place}/gateway.db",
                    "pepper_file": f"{place}/pepper",
                    "state": str(place),
                    "backends": {"one": {"url": "http://127.0.0.1:8080"}},
                    "models": {"qwen": {"targets": [{"backend": "one", "model": "qwen-3b"}]}},
                }
            )
        )
        (place / "gateway.json").chmod(0o600)
        for path in (place, place / "gateway.db"):
            shutil.chown(path, server.user, server.user)
        child = os.fork()
        if child == 0:
            status = 99
            try:
                status = command(["--configuration", f"{place}/gateway.json", "create-user", "--username", "ann"])
                owners = {path.stat().st_uid for path in place.glob("gateway.db*")}
                status = status or (98 if 0 in owners or os.geteuid() == 0 else 0)
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert {path.stat().st_uid for path in place.glob("gateway.db*")} == {place.stat().st_uid}
        assert stat.S_IMODE((place / "pepper").stat().st_mode) == 0o600
    finally:
        shutil.rmtree(place)
