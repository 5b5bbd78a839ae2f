"""`paddock keys`: users whom the inventory declares."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from control.state.secrets import Vault
from tests.unit.cli.keys.gateway_of_pi import KEY, Paddock, asked, declare


def test_a_declared_users_key_is_in_the_state_and_no_host_is_asked(paddock: Paddock, inventory: Path, vault: Vault, kept: Path) -> None:
    declare(inventory, "alice: ")
    assert paddock("show", "alice", "--key") == (1, "", "alice: has no key yet: `paddock up` makes it\n")
    vault.set("user.alice", key := "sk-" + "a" * 43)
    assert paddock("show", "alice", "--key") == (0, f"{key}\n", "")
    code, out, _ = paddock("show", "alice")
    assert code == 0 and "sk-aa…aaaa" in out and key not in out
    assert asked(kept) == ""


def test_a_declared_user_is_given_another_key_which_up_lands(paddock: Paddock, inventory: Path, vault: Vault, kept: Path) -> None:
    declare(inventory, "alice: ")
    vault.set("user.alice", "sk-" + "a" * 43)
    code, out, err = paddock("rotate", "alice", "--yes")
    assert code == 0 and KEY.fullmatch(out.strip()) and vault.get("user.alice") == out.strip()
    assert err == "alice: has a new key; the one before works until `paddock up` lands this:\n" and asked(kept) == ""


@pytest.mark.parametrize(("verb", "says"), [("create", "`paddock up` makes its key"), ("revoke", "take it out of `users`")])
def test_a_declared_user_is_changed_in_the_inventory(paddock: Paddock, inventory: Path, kept: Path, verb: str, says: str) -> None:
    declare(inventory, "alice: ")
    code, out, err = paddock(verb, "alice")
    assert (code, out) == (2, "") and f"alice: is declared in {inventory}: " in err and says in err
    assert asked(kept) == ""


def test_the_key_of_who_has_left_the_inventory_is_listed_until_it_is_revoked(paddock: Paddock, inventory: Path, vault: Vault) -> None:
    vault.set("user.alice", "sk-" + "a" * 43)
    assert "left the inventory" in paddock("list")[1]
    code, out, _ = paddock("revoke", "alice", "--yes")
    assert code == 0 and out.startswith("alice: its key is removed from the state")
    assert not vault.is_named("user.alice") and "left the inventory" not in paddock("list")[1]


def test_the_list_says_whom_a_gateway_does_not_know_yet_or_still(paddock: Paddock, inventory: Path, vault: Vault, kept: Path) -> None:
    said = json.loads(kept.read_text())
    kept.write_text(json.dumps({**said, "users": [{"name": name, "digest": "5" * 64} for name in ("alice", "gone")]}))
    declare(inventory, "alice: ", "bob: ")
    for name in ("alice", "bob"):
        vault.set(f"user.{name}", "sk-" + "a" * 43)
    found = {each["user"]: each for each in json.loads(paddock("list", "--json")[1]) if each["declared"]}
    assert {name: each["state"] for name, each in found.items()} == {"alice": "valid", "bob": "to be landed", "gone": "left the inventory"}
    assert found["gone"]["where"] == ["pi"]
