"""Somebody who can write to the repository adds their key to recipients.txt: nothing is sealed to it before it was agreed to."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyrage
import pytest

from control.pki.authority import Authority
from control.state.fleet import FleetState
from control.state.secrets import Vault
from inventory.errors import PaddockError
from inventory.fleet import Fleet


@dataclass
class Person:
    """Who is at the terminal, and answers yes or no."""

    says: bool
    asked: list[str] = field(default_factory=list)

    def __call__(self, question: str) -> bool:
        self.asked.append(question)
        return self.says


def add(vault: Vault, line: str) -> None:
    vault.recipients.file.write_text(f"{vault.recipients.file.read_text()}{line}\n")


def opens(identity: pyrage.x25519.Identity, path: Path) -> bool:
    try:
        pyrage.decrypt(path.read_bytes(), [identity])
    except pyrage.DecryptError:
        return False
    return True


@pytest.fixture
def mallory() -> pyrage.x25519.Identity:
    return pyrage.x25519.Identity.generate()


SEALS: dict[str, Callable[[Vault], object]] = {
    "set": lambda vault: vault.set("token", "new"),
    "rotate": lambda vault: vault.reseal(),
    "seal": lambda vault: vault.seal("certs/client/laptop.key", b"key"),
}


@pytest.mark.parametrize("seal", SEALS.values(), ids=SEALS)
@pytest.mark.parametrize("terminal", [False, True])
def test_nothing_is_sealed_to_a_new_line_that_nobody_agreed_to(
    state: FleetState, mallory: pyrage.x25519.Identity, seal: Callable[[Vault], object], terminal: bool
) -> None:
    Vault(state).set("token", "old")
    add(Vault(state), f"{mallory.to_public()}  # ann's new laptop")
    before = {path: path.read_bytes() for path in state.path.rglob("*.age")}
    person = Person(says=False)
    vault = Vault(replace(state, ask=person) if terminal else state)
    with pytest.raises(PaddockError) as refused:
        seal(vault)
    assert str(mallory.to_public()) in str(refused.value) and "`paddock secrets recipients --accept`" in str(refused.value)
    assert {path: path.read_bytes() for path in state.path.rglob("*.age")} == before
    assert len(person.asked) == terminal and all(f"{mallory.to_public()} (# ann's new laptop)" in each for each in person.asked)


def test_one_that_was_agreed_to_is_asked_about_once(state: FleetState, mallory: pyrage.x25519.Identity) -> None:
    Vault(state).set("token", "old")
    add(Vault(state), str(mallory.to_public()))
    person = Person(says=True)
    Vault(replace(state, ask=person)).set("token", "new")
    Vault(replace(state, ask=person)).set("other", "new")
    Vault(state).set("third", "new")
    assert len(person.asked) == 1 and opens(mallory, state.path / "secrets" / "third.age")


def test_who_had_left_is_new_when_the_line_comes_back(state: FleetState, mallory: pyrage.x25519.Identity) -> None:
    Vault(state).set("token", "old")
    alone = Vault(state).recipients.file.read_text()
    add(Vault(state), str(mallory.to_public()))
    Vault(replace(state, ask=Person(says=True))).set("token", "shared")
    Vault(state).recipients.file.write_text(alone)
    Vault(state).set("token", "no longer")
    add(Vault(state), str(mallory.to_public()))
    with pytest.raises(PaddockError, match="nobody has accepted"):
        Vault(state).set("token", "again")


def test_who_is_known_to_one_fleet_is_new_to_another(state: FleetState, tmp_path: Path, mallory: pyrage.x25519.Identity) -> None:
    office = FleetState.of(tmp_path / "office.yml", "office", state.say)
    for each in (state, office):
        Vault(each).set("token", "old")
        add(Vault(each), str(mallory.to_public()))
    Vault(replace(state, ask=Person(says=True))).set("token", "new")
    with pytest.raises(PaddockError, match="nobody has accepted"):
        Vault(office).set("token", "new")
    Vault(replace(office, ask=Person(says=True))).set("token", "new")
    Vault(state).set("token", "newer")


def test_another_comment_makes_no_new_recipient_and_another_key_does(state: FleetState, tmp_path: Path) -> None:
    lines = []
    for name in ("ann", "eve"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "ann@desk", "-f", tmp_path / name], check=True)
        lines.append((tmp_path / f"{name}.pub").read_text().strip())
    ann, eve = lines
    Vault(state).set("token", "old")
    own = Vault(state).recipients.file.read_text()
    person = Person(says=True)
    add(Vault(state), ann)
    Vault(replace(state, ask=person)).set("token", "new")
    fingerprint = subprocess.run(["ssh-keygen", "-lf", tmp_path / "ann.pub"], capture_output=True, text=True, check=True).stdout.split()[1]
    assert f"ssh-ed25519 {fingerprint} (ann@desk)" in person.asked[0]
    Vault(state).recipients.file.write_text(f"{own}{ann.replace('ann@desk', 'ann@work')}\n")
    Vault(state).set("token", "newer")
    Vault(state).recipients.file.write_text(f"{own}{eve}\n")
    with pytest.raises(PaddockError, match="nobody has accepted"):
        Vault(state).set("token", "newest")


def test_a_state_of_ones_own_leaves_nothing_at_home(state: FleetState, home: Path) -> None:
    Vault(state).set("token", "old")
    assert [path.name for path in (home / ".config" / "paddock").iterdir()] == ["identity.txt"]


def test_what_is_remembered_is_the_owners_alone(state: FleetState, mallory: pyrage.x25519.Identity) -> None:
    Vault(state).set("token", "old")
    add(Vault(state), str(mallory.to_public()))
    vault = Vault(replace(state, ask=Person(says=True)))
    vault.set("token", "new")
    assert vault.recipients.known_file.stat().st_mode & 0o777 == 0o600
    assert vault.recipients.known_file.read_text() == f"home {mallory.to_public()}\n"


def test_nothing_is_begun_with_a_recipient_that_is_new(
    state: FleetState, authority: Authority, fleet_of: Callable[..., Fleet], now: object, mallory: pyrage.x25519.Identity
) -> None:
    """A client that has left the inventory stays in the books until all of it can be done."""
    authority.issue(fleet_of(), now)  # type: ignore[arg-type]
    add(Vault(state), str(mallory.to_public()))
    before = {path: path.read_bytes() for path in state.path.rglob("*") if path.is_file()}
    with pytest.raises(PaddockError, match="nobody has accepted"):
        authority.issue(fleet_of(clients={"tablet": {}}), now)  # type: ignore[arg-type]
    with pytest.raises(PaddockError, match="nobody has accepted"):
        authority.require_signing(fleet_of(), now)  # type: ignore[arg-type]
    assert {path: path.read_bytes() for path in state.path.rglob("*") if path.is_file()} == before
