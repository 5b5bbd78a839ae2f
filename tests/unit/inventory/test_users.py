"""Users of the fleet's gateways: what an inventory may say of them, and the key that each of them has."""

from __future__ import annotations

import control.ssh.cooperative  # isort: skip - first of all
import textwrap
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cli import main
from control.state import api_keys
from control.state.fleet import FleetState
from control.state.secrets import Vault
from inventory.errors import InventoryError
from inventory.fleet import Fleet
from inventory.json_schema import document_schema
from inventory.load import load
from inventory.summary import summary
from roles.base.settings import BaseSettings
from roles.users import UserLimits, user_key_name

assert control.ssh.cooperative

HEAD = """\
fleet: demo
domain: home.example
hosts:
  ai: {address: 192.0.2.10, roles: {base: }}
models:
  qwen-3b: {aliases: [qwen]}
"""


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    """A role that lets users in, and calls a model by a name of its own."""
    monkeypatch.setattr(BaseSettings, "admits_users", True)
    monkeypatch.setattr(BaseSettings, "public_models", lambda self: iter(("house/large",)))


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("PADDOCK_STATE", raising=False)
    return tmp_path / "home.yml"


def written(path: Path, users: str) -> Path:
    path.write_text(HEAD + textwrap.dedent(users))
    return path


def fleet(path: Path, users: str) -> Fleet:
    return load(written(path, users))


def told(path: Path, users: str) -> list[str]:
    with pytest.raises(InventoryError) as caught:
        fleet(path, users)
    return [problem.removeprefix(f"{path}:") for problem in caught.value.problems]


@pytest.mark.usefixtures("gateway")
def test_a_user_has_all_that_a_gateway_holds_it_to(path: Path) -> None:
    found = fleet(
        path,
        """\
        users:
          alice:
            models: [qwen, qwen-3b, house/large]
            limits: {requests: 60, tokens: 100000, window_s: 30, parallel: 2}
            weight: 2
            expires: 2027-01-01
            admin: true
        """,
    ).users["alice"]
    assert found.models == ("qwen", "qwen-3b", "house/large")
    assert found.limits == UserLimits(requests=60, tokens=100000, window_s=30, parallel=2)
    assert (found.weight, found.admin) == (2.0, True)
    assert found.expires_at == datetime(2027, 1, 1, tzinfo=UTC).timestamp()


@pytest.mark.usefixtures("gateway")
def test_a_user_of_whom_nothing_is_said_may_ask_for_everything(path: Path) -> None:
    found = fleet(path, "users: {bob: }").users["bob"]
    assert (found.models, found.limits, found.weight, found.expires_at, found.admin) == (None, None, 1.0, None, False)


def test_users_without_a_gateway_are_refused_where_they_stand(path: Path) -> None:
    words = "users: no host has a gateway for them: add the role gateway to one, or leave users out"
    assert told(path, "users: {bob: }") == [f"7:1: {words}"]


def test_no_users_need_no_gateway(path: Path) -> None:
    assert not fleet(path, "users:").users


@pytest.mark.usefixtures("gateway")
@pytest.mark.parametrize(
    ("users", "problem"),
    [
        ("{bob: {models: [^qwne]}}", 'bob.models.0: no model is called "qwne" (did you mean "qwen"?)'),
        ("{bob: {models: ^[]}}", "bob.models: should be a list of 1 or more, this is empty"),
        ("{bob: {models: ^qwen}}", 'bob.models: should be a list, this is "qwen"'),
        ("{^Bob: }", 'Bob: "Bob" cannot be a name'),
        ("{bob: {weight: ^0}}", "bob.weight: should be more than 0"),
        ("{bob: {weight: ^1001}}", "bob.weight: should be 1000"),
        ("{bob: {weight: ^.nan}}", "bob.weight: "),
        ("{bob: {expires: ^2027-02-30}}", 'bob.expires: "2027-02-30" is not a day, such as 2027-01-01'),
        ("{bob: {expires: ^20270101}}", 'bob.expires: "20270101" is not a day, such as 2027-01-01'),
        ("{bob: {expires: ^30d}}", 'bob.expires: "30d" is not a day, such as 2027-01-01'),
        ("{bob: {limits: {^request: 1}}}", 'bob.limits.request: unknown key "request" (did you mean "requests"?)'),
        ("{bob: {limits: {parallel: ^0}}}", "bob.limits.parallel: should be 1 or more, this is 0"),
        ("{bob: {limits: {tokens: ^1.5}}}", "bob.limits.tokens: should be a whole number"),
        ("{bob: {limits: {window_s: ^99999999}}}", "bob.limits.window_s: should be "),
    ],
)
def test_a_mistake_is_told_with_its_place(path: Path, users: str, problem: str) -> None:
    """Which is where the `^` stands."""
    line = f"users: {users}"
    (found,) = told(path, line.replace("^", ""))
    assert found.startswith(f"7:{line.index('^') + 1}: users.{problem}")


@pytest.mark.usefixtures("gateway")
def test_of_a_malformed_gateway_nobody_says_which_models_it_lacks(path: Path) -> None:
    path.write_text(HEAD.replace("{base: }", "{base: {bogus: 1}}") + "users: {bob: {models: [house/larger]}}")
    with pytest.raises(InventoryError) as caught:
        load(path)
    assert [problem for problem in caught.value.problems if "users" in problem] == []


@pytest.mark.usefixtures("gateway")
def test_each_user_has_a_key_of_its_own_which_stays(path: Path) -> None:
    of = fleet(path, "users: {alice: , bob: }")
    vault = Vault(FleetState(path, of.name, path.parent / ".paddock" / of.name))
    assert api_keys.due(of, vault) == ["key of the user alice: there is none yet", "key of the user bob: there is none yet"]
    api_keys.issue(of, vault)
    keys = {name: vault.get(user_key_name(name)) for name in of.users}
    assert all(key.startswith("sk-") for key in keys.values()) and len(set(keys.values())) == 2
    api_keys.issue(of, vault)
    assert {name: vault.get(user_key_name(name)) for name in of.users} == keys
    assert api_keys.due(of, vault) == []


@pytest.mark.usefixtures("gateway")
def test_check_counts_the_users(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "1 model, 0 clients, 2 users" in summary(fleet(path, "users: {alice: , bob: }"))
    assert main(["-i", str(path), "check"]) == 0
    assert "2 users" in capsys.readouterr().out


def test_editors_know_the_keys_of_a_user() -> None:
    schema = document_schema()
    assert schema["properties"]["users"]["additionalProperties"]["anyOf"][0] == {"$ref": "#/$defs/User"}
    assert {"models", "limits", "weight", "expires", "admin"} == schema["$defs"]["User"]["properties"].keys()
    assert all(each["description"] for each in schema["$defs"]["User"]["properties"].values())
