"""Which state this is, and how one that was put back from an older backup is told from the newest."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from control.pki import roll_over
from control.pki.authority import Authority
from control.state import lineage
from control.state.fleet import FleetState
from control.state.lineage import TOLD_MOST, Lineage, lineage_of, note_admission, note_change, told_hosts
from control.state.secrets import Vault
from inventory.errors import PaddockError
from inventory.fleet import Fleet


def current(state: FleetState) -> Lineage:
    found = lineage_of(state)
    assert found
    return found


@pytest.fixture
def restored(state: FleetState, tmp_path: Path) -> Callable[[], FleetState]:
    """Makes a copy of the state, as a backup would."""

    def copy() -> FleetState:
        backup = FleetState(state.inventory, state.fleet, tmp_path / "backup" / state.fleet)
        shutil.copytree(state.path, backup.path)
        return backup

    return copy


def test_a_state_is_named_when_hosts_are_told_and_not_before(
    state: FleetState, vault: Vault, authority: Authority, fleet: Fleet, now: datetime
) -> None:
    vault.set("token", "hidden")
    authority.issue(fleet, now)
    authority.revoke("phone", now)
    assert lineage_of(state) is None
    owner = told_hosts(state)
    assert (owner.fleet, owner.id, owner.changed) == ("home", current(state).id, current(state).changed)
    assert told_hosts(state) == owner
    assert current(state).has_told(owner.changed)


def test_each_state_has_an_id_of_its_own(state: FleetState, tmp_path: Path) -> None:
    other = FleetState.of(tmp_path / "other" / "home.yml", "home")
    assert told_hosts(state).id != told_hosts(other).id


Change = Callable[[Authority, Vault, Fleet, datetime], object]


@pytest.mark.parametrize(
    "change",
    [
        lambda authority, vault, fleet, now: vault.set("token", "another"),
        lambda authority, vault, fleet, now: vault.reseal(),
        lambda authority, vault, fleet, now: authority.renew(fleet, ["laptop"], now),
        lambda authority, vault, fleet, now: authority.revoke("phone", now),
        lambda authority, vault, fleet, now: authority.revoke_earlier("laptop"),
        lambda authority, vault, fleet, now: authority.leaves.retire("client", "phone"),
        lambda authority, vault, fleet, now: roll_over.begin(authority, fleet, now),
    ],
    ids=["a secret", "all secrets", "a renewal", "a revocation", "earlier ones", "a client that has left", "another CA"],
)
def test_whatever_changes_of_certificates_and_secrets_makes_another_state_of_it(
    change: Change, state: FleetState, vault: Vault, authority: Authority, fleet: Fleet, now: datetime
) -> None:
    authority.issue(fleet, now)
    authority.renew(fleet, ["laptop"], now)
    told = told_hosts(state)
    change(authority, vault, fleet, now)
    assert current(state).changed > told.changed
    assert current(state).id == told.id
    assert current(state).has_told(told.changed), "hosts that have not been to since are its own"
    assert not current(state).has_told(current(state).changed), "no host has that yet"


def test_to_look_and_to_issue_nothing_change_nothing(
    state: FleetState, vault: Vault, authority: Authority, fleet: Fleet, now: datetime
) -> None:
    authority.issue(fleet, now)
    before = told_hosts(state)
    vault.names()
    assert authority.issue(fleet, now) == [] and authority.due(fleet, now) == []
    assert told_hosts(state) == before


def test_an_older_copy_is_found_out_also_after_it_was_changed_itself(state: FleetState, restored: Callable[[], FleetState]) -> None:
    told_hosts(state)
    backup = restored()
    note_change(state)
    newest = told_hosts(state)
    assert not current(backup).has_told(newest.changed)
    note_change(backup)
    told_hosts(backup)
    assert current(backup).changed > newest.changed
    assert not current(backup).has_told(newest.changed)
    assert not current(state).has_told(current(backup).changed), "nor does the newest know what was done with the older one since"


def test_a_change_is_later_than_the_one_before_whatever_the_clock_says(state: FleetState, monkeypatch: pytest.MonkeyPatch) -> None:
    ahead = told_hosts(state).changed + timedelta(days=400)

    class Clock(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return ahead

    monkeypatch.setattr(lineage, "datetime", Clock)
    note_change(state)
    assert current(state).changed == ahead
    monkeypatch.undo()
    note_change(state)
    assert current(state).changed > ahead


def test_of_many_changes_the_last_are_kept_and_what_is_older_than_they_are_is_no_newer_copys(state: FleetState) -> None:
    first = told_hosts(state)
    for _ in range(TOLD_MOST):
        note_change(state)
        told_hosts(state)
    found = current(state)
    assert len(found.told) == TOLD_MOST and first.changed not in found.told
    assert found.has_told(first.changed)
    assert not found.has_told(found.told[-1] - (found.told[-1] - found.told[-2]) / 2)


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"id": "x", "changed": "2026", "told": []}', '{"id": 7}', "[" * 100_000, "\x00"])
def test_a_damaged_file_is_named_with_what_to_do(state: FleetState, text: str) -> None:
    told_hosts(state)
    path = state.path / "fleet.json"
    path.write_text(text)
    for use in (lineage_of, told_hosts, note_change):
        with pytest.raises(PaddockError, match=r"fleet\.json: is damaged: put it back from a backup or from git, or delete it") as refused:
            use(state)
        assert str(refused.value).startswith(str(path))


@pytest.fixture
def _older_gitignore(state: FleetState) -> Iterator[None]:
    ignored = state.directory() / ".gitignore"
    ignored.write_text(ignored.read_text().replace("!/fleet.json\n", "") + "# my own\n")
    yield


@pytest.mark.usefixtures("_older_gitignore")
def test_git_takes_it_also_of_a_state_that_is_older_than_the_file(state: FleetState) -> None:
    told_hosts(state)
    told_hosts(state)
    subprocess.run(["git", "init", "-q", str(state.path)], check=True)
    ignored = subprocess.run(["git", "-C", str(state.path), "check-ignore", "-q", "fleet.json"])
    assert ignored.returncode == 1
    lines = (state.path / ".gitignore").read_text().splitlines()
    assert lines.count("!/fleet.json") == 1 and "# my own" in lines


def test_nobody_but_its_owner_reads_it(state: FleetState) -> None:
    told_hosts(state)
    assert (state.path / "fleet.json").stat().st_mode & 0o777 == 0o600
    assert current(state).changed <= datetime.now(UTC)


def test_a_change_of_who_is_let_in_makes_the_state_another_and_the_same_again_does_not(state: FleetState) -> None:
    told_hosts(state)
    first = current(state).changed
    note_admission(state, {"door": "a" * 16, "rig": "b" * 16}, {"door"})
    second = current(state).changed
    assert second > first
    note_admission(state, {"door": "a" * 16}, {"door"})
    assert current(state).changed == second
    note_admission(state, {"door": "c" * 16}, {"door"})
    assert current(state).changed > second
    assert current(state).admits == {"door": "c" * 16, "rig": "b" * 16}


def test_a_host_that_lets_in_already_who_it_is_to_makes_the_state_no_other(state: FleetState) -> None:
    """Another machine's copy comes to a host where `certs issue` has been: it may go on being used beside this one."""
    told_hosts(state)
    first = current(state).changed
    note_admission(state, {"door": "a" * 16}, ())
    assert current(state).changed == first
    assert current(state).admits == {"door": "a" * 16}
