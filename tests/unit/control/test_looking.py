"""To look needs no identity: what secrets are in is not compared, and all else is."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pyrage
import pytest

from cli.views.looking import ids, not_compared
from control.deployment.knowledge import knowledge_for
from control.deployment.work import Work
from control.pki.authority import Authority
from control.ssh.privilege import password_for
from control.state import api_keys
from control.state.fleet import FleetState, make_private
from control.state.secrets import Secrets, Vault
from inventory.errors import PaddockError
from inventory.fleet import Fleet
from inventory.knowledge import KEY
from resources import UNOPENED, File, Resource, Service
from resources.drift import drift
from resources.probe import Actual
from roles.host_plan import HostPlan, host_plan
from tests.unit.roles import everything
from tests.unit.roles.small_fleet import HARDWARE, pem

Plans = dict[str, HostPlan]


@pytest.fixture
def whole(state: FleetState, vault: Vault, authority: Authority, now: datetime) -> Fleet:
    """A fleet with every role, and all that is to be issued for it."""
    fleet = everything.fleet()
    (state.inventory.parent / everything.ROOT).write_text(pem("the root"))
    for name in fleet.hosts.keys() - {"rig"}:  # which has cards that nobody has looked at
        state.save_hardware(name, HARDWARE)
    authority.issue(fleet, now)
    api_keys.issue(fleet, vault)
    vault.set("own", "of the inventory")
    return fleet


def plans(fleet: Fleet, state: FleetState, vault: Vault, now: datetime) -> Plans:
    knowledge = knowledge_for(fleet, state, now=now, vault=vault)
    return {name: host_plan(host, fleet, knowledge) for name, host in fleet.hosts.items()}


def every(plan: HostPlan) -> dict[str, Resource]:
    return {each.id: each for part in plan.values() for each in part}


def as_declared(plan: HostPlan, *, but: Iterable[str] = ()) -> Actual:
    """A host that is to the letter what the plan says; the content of some of its files is another."""
    found = {name: dict(each.desired) for name, each in every(plan).items()}
    for name in but:
        found[name]["sha256"] = "another"
    noted = {name: each.noted_as(Actual()) or "put" for name, each in every(plan).items() if each.noted}
    return Actual(found, manifest=noted)


@pytest.fixture(params=["none", "another's"])
def _no_identity(request: pytest.FixtureRequest, whole: Fleet, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / ".config" / "paddock" / "identity.txt").unlink()
    if request.param != "none":
        monkeypatch.setenv("PADDOCK_AGE_IDENTITY", str(pyrage.x25519.Identity.generate()))


@pytest.fixture
def opened(whole: Fleet, state: FleetState, vault: Vault, now: datetime) -> Plans:
    """As whoever can open everything makes them."""
    return plans(whole, state, vault, now)


@pytest.fixture
def looked(opened: Plans, _no_identity: None, whole: Fleet, state: FleetState, now: datetime) -> Plans:
    return plans(whole, state, Vault(state, looks=True), now)


def test_of_hosts_that_are_as_declared_nothing_differs(opened: Plans, looked: Plans) -> None:
    for host, plan in looked.items():
        assert list(every(plan)) == list(every(opened[host]))
        assert not drift(plan, as_declared(opened[host]))


def test_only_what_hangs_on_a_secret_is_not_compared(opened: Plans, looked: Plans) -> None:
    left_out = {}
    for host, plan in looked.items():
        for name, each in every(plan).items():
            whole = every(opened[host])[name]
            missing = whole.desired.keys() - each.desired.keys()
            assert {key: value for key, value in whole.desired.items() if key not in missing} == each.desired
            if missing:
                left_out[host, name] = missing
    secrets = {
        (host, name) for host, plan in opened.items() for name, each in every(plan).items() if isinstance(each, File) and each.secret
    }
    stamps = {key for key in left_out if key[1].endswith("/50-paddock.conf")}
    services = {key for key in left_out if key[1].startswith("service:")}
    stacks = {key for key in left_out if key[1].startswith("stack:")}
    digests = {key for key in left_out if key[1].startswith("file:/etc/paddock/stacks/")} - secrets
    assert left_out.keys() == secrets | stamps | services | stacks | digests
    assert stacks and all(each.endswith(" made of") for key in stacks for each in left_out[key])
    assert len(secrets) > 6 and len(stamps) == len(services) > 3
    assert all(missing == {"sha256"} for key, missing in left_out.items() if key not in services | stacks)
    assert all(left_out[key] <= {"started", "loaded"} for key in services)
    assert ("box", "service:paddock-watchdog.timer") not in services and ("door", "service:caddy.service") in services


def test_another_file_of_the_same_service_is_found_changed(opened: Plans, looked: Plans) -> None:
    name = "file:/etc/caddy/paddock/sites.caddy"
    found = drift(looked["door"], as_declared(opened["door"], but=[name]))
    assert [change.id for change in found.changes if change.attributes] == [name]


def test_so_is_what_a_secret_file_is_besides_its_content(opened: Plans, looked: Plans) -> None:
    name = "file:/etc/caddy/paddock/ai.home.example.key"
    actual = as_declared(opened["door"])
    there = {**actual.resources, name: {**actual.resources[name], "mode": "644"}}
    (change,) = (each for each in drift(looked["door"], replace(actual, resources=there)).changes if each.attributes)
    assert (change.id, dict(change.attributes)) == (name, {"mode": ("644", "640")})
    del there[name]
    assert name in [each.id for each in drift(looked["door"], replace(actual, resources=there)).changes if each.sign == "+"]


def test_no_identity_is_made_and_nothing_is_written(
    whole: Fleet, state: FleetState, home: Path, now: datetime, said: list[str], _no_identity: None
) -> None:
    before, told = {path: path.stat().st_mtime_ns for path in state.path.rglob("*")}, list(said)
    plans(whole, state, Vault(state, looks=True), now)
    assert not (home / ".config" / "paddock" / "identity.txt").exists()
    assert {path: path.stat().st_mtime_ns for path in state.path.rglob("*")} == before
    assert said == told


def test_a_state_that_is_not_there_is_looked_at_too(fleet: Fleet, state: FleetState, home: Path, now: datetime) -> None:
    looking = Vault(state, looks=True)
    knowledge_for(fleet, state, now=now, vault=looking)
    assert "CA: new" in Authority(state, looking).due(fleet, now)
    assert not state.path.parent.exists() and not (home / ".config").exists()


def test_nothing_is_due_because_it_cannot_be_opened(whole: Fleet, state: FleetState, now: datetime, _no_identity: None) -> None:
    assert Authority(state, Vault(state, looks=True)).due(whole, now) == []
    with pytest.raises(PaddockError, match="encrypted for other recipients than you"):
        Authority(state, Vault(state)).due(whole, now)


@pytest.mark.parametrize("keep", [0, 30, 60])
def test_a_damaged_file_is_an_error_all_the_same(
    keep: int, whole: Fleet, state: FleetState, vault: Vault, now: datetime, _no_identity: None
) -> None:
    path = next((state.path / "certs" / "server").rglob("*.key.age"))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(PaddockError) as damaged:
        plans(whole, state, Vault(state, looks=True), now)
    assert str(damaged.value).startswith(f"{path}: damaged (")


def test_what_can_be_opened_is_compared(whole: Fleet, state: FleetState, vault: Vault, now: datetime, opened: Plans) -> None:
    """Some secrets are sealed to others, say by somebody who has not let us in yet."""
    sealed = pyrage.encrypt(b"of others", [pyrage.x25519.Identity.generate().to_public()])
    vault.path("secrets/admin.box").write_bytes(sealed)
    looking = Vault(state, looks=True)
    found = plans(whole, state, looking, now)
    unopened = {name for name, each in every(found["box"]).items() if each.desired != every(opened["box"])[name].desired}
    assert "file:/etc/paddock/admin/key" in unopened and "file:/etc/paddock/llama-server/key" not in unopened
    assert list(looking.unopened) == ["secrets/admin.box"]


def test_a_line_says_what_was_not_compared_and_why(
    whole: Fleet, state: FleetState, now: datetime, opened: Plans, _no_identity: None
) -> None:
    looking = Vault(state, looks=True)
    found = plans(whole, state, looking, now)
    works = {name: Work(plan, actual := as_declared(opened[name]), drift(plan, actual)) for name, plan in found.items()}
    files = [each for work in works.values() for each in work.unopened if isinstance(each, File)]
    services = [each for work in works.values() for each in work.unopened if isinstance(each, Service)]
    line = not_compared(looking.unopened, works.values())
    assert line.startswith("no identity here opens secrets/admin.box, secrets/")
    assert f" and {len(looking.unopened) - 3} more: not compared: " in line
    assert f"the content of {len(files)} files, nor what {len(services)} services were started with" in line
    assert "50-paddock.conf" not in str(ids(works))
    assert ids(works)["door"] == [
        "file:/etc/caddy/paddock/ai.home.example.key",
        "file:/etc/caddy/paddock/box.admin",
        "file:/etc/paddock/caddy-tunnel/host.pem.key",
        "service:paddock-caddy-tunnel-box.8079.service",
        "service:caddy.service",
    ]


def test_a_host_without_secrets_is_compared_whole(looked: Plans, opened: Plans) -> None:
    plan = looked["rig"]
    assert not_compared({"secrets/admin.box": None}, [Work(plan, actual := as_declared(opened["rig"]), drift(plan, actual))]) == ""


def test_where_all_was_opened_there_is_no_such_line(whole: Fleet, state: FleetState, now: datetime) -> None:
    looking = Vault(state, looks=True)
    found = plans(whole, state, looking, now)
    works = {name: Work(plan, actual := as_declared(plan), drift(plan, actual)) for name, plan in found.items()}
    assert not_compared(looking.unopened, works.values()) == "" and ids(works) == {}


def test_a_password_that_cannot_be_opened_is_not_tried(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    vault.set("sudo", "correct-horse")
    assert password_for("pea", Secrets(vault)) == "correct-horse"
    monkeypatch.setenv("PADDOCK_AGE_IDENTITY", str(pyrage.x25519.Identity.generate()))
    assert password_for("pea", Secrets(Vault(vault._state, looks=True))) is None


def test_an_ssh_key_with_a_passphrase_keeps_nobody_from_looking(whole: Fleet, state: FleetState, home: Path, now: datetime) -> None:
    key = make_private(home / ".ssh") / "id_ed25519"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "a passphrase", "-f", str(key)], check=True)
    (home / ".config" / "paddock" / "identity.txt").unlink()
    (state.path / "recipients.txt").write_text(key.with_suffix(".pub").read_text())
    assert plans(whole, state, Vault(state, looks=True), now)
    with pytest.raises(PaddockError, match="name one without a passphrase"):
        plans(whole, state, Vault(state), now)


def test_what_stands_in_place_of_a_secret_is_no_key_that_a_header_would_carry() -> None:
    assert not KEY.fullmatch(UNOPENED)
