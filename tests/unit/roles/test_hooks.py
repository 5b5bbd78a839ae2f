"""What a role answers when it is asked, whichever it is: here the role base says what it never said before."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from control.deployment.accounts import missing_sh, required_accounts
from control.deployment.payload import payload_for
from control.deployment.work import Work
from control.pki.authority import seats
from control.pki.leaves import subjects_of
from control.state import api_keys
from control.state.fleet import FleetState
from inventory.errors import PaddockError
from inventory.fleet import Fleet
from inventory.knowledge import Knowledge
from lab.lab_host import LabHost, accounts
from lab.overlay import overlay
from resources import Package
from resources.drift import drift
from resources.probe import Actual
from roles import ROLES, host_plan, plan_of
from roles.base.settings import BaseSettings
from roles.package_file import PackageFile
from roles.rehearsal import Rehearsal
from roles.role import RequiredAccount


class Talkative(BaseSettings):
    file: PackageFile | None = None
    domain: str = "home.example"

    def secrets(self, host: str) -> Iterator[tuple[str, str]]:
        yield f"words.{host}", f"password of {host}"

    def required_accounts(self) -> Iterator[RequiredAccount]:
        yield RequiredAccount("ann", "owner")
        yield RequiredAccount("bob", "readers.bob", own_group=True)

    def server_names(self) -> Iterator[tuple[str, str]]:
        yield f"base.{self.domain}", "names"

    def identities(self) -> Iterator[tuple[str, str]]:
        yield "ann", "laptop"

    def package_files(self) -> Iterator[tuple[str, str, PackageFile]]:
        if self.file:
            yield "nginx", "newer", self.file

    def rehearsed(self, here: Rehearsal) -> tuple[None, list[str]]:
        return None, [f"{here.host}: {here.role} stays at home."]


def fleet(settings: BaseSettings) -> Fleet:
    host = {"name": "ai", "address": "192.0.2.10", "roles": {"base": {}}}
    found = Fleet.model_validate({"name": "home", "domain": "home.example", "hosts": {"ai": host}, "clients": {"laptop": {}}})
    ai = found.hosts["ai"]
    return found.model_copy(update={"hosts": {"ai": ai.model_copy(update={"roles": ai.roles.model_copy(update={"base": settings})})}})


def test_its_keys_are_made() -> None:
    class Empty:
        def names(self) -> tuple[str, ...]:
            return ()

    assert api_keys.due(fleet(Talkative()), Empty()) == ["password of ai: there is none yet"]  # type: ignore[arg-type]


def test_its_names_are_given_certificates_and_one_outside_the_domain_is_refused_by_its_key() -> None:
    assert [str(each) for each in subjects_of(fleet(Talkative()))] == ["server base.home.example", "client laptop"]
    with pytest.raises(PaddockError, match=r"^hosts\.ai\.roles\.base\.names: base\.example\.org is outside the fleet's domain"):
        subjects_of(fleet(Talkative(domain="example.org")))


def test_the_accounts_that_keep_a_clients_key_are_known() -> None:
    assert seats(fleet(Talkative()), "ai") == {"ann": "laptop"}


def test_its_accounts_are_asked_for_and_made_in_a_lab() -> None:
    host = fleet(Talkative()).hosts["ai"]
    found = dict(required_accounts(host))
    assert {name: each.key for name, each in found.items()} == {"ann": "base.owner", "bob": "base.readers.bob"}
    asked = ["{ id -u ann; } >/dev/null 2>&1 || echo ann", "{ id -u bob && getent group bob; } >/dev/null 2>&1 || echo bob"]
    assert missing_sh(found).splitlines() == asked
    assert accounts(host) == ("ann", "bob")


def test_a_package_file_is_found_by_its_packages_name_and_blamed_by_its_roles_key(tmp_path: Path) -> None:
    path = tmp_path / "nginx.deb"
    path.write_bytes(b"a package")
    file = PackageFile(path=str(path), sha256=hashlib.sha256(b"a package").hexdigest(), version="1.26.0-1")
    package = Package("nginx", file.version, file.sha256)
    plan = {"base": (package,)}
    work, state = Work(plan, Actual(), drift(plan, Actual())), FleetState.of(tmp_path / "home.yml", "home")
    assert payload_for(work, "ai", fleet(Talkative(file=file)), state) == {package.id: path}
    path.unlink()
    with pytest.raises(PaddockError, match=r"^base\.newer\.path: there is no file"):
        payload_for(work, "ai", fleet(Talkative(file=file)), state)


def test_a_plan_module_may_say_why_a_host_is_unfit(monkeypatch: pytest.MonkeyPatch) -> None:
    this = fleet(BaseSettings())
    assert list(host_plan.refusals_of(this.hosts["ai"], this, Knowledge())) == []
    unfit = SimpleNamespace(refusals=lambda host, settings, fleet, knowledge: iter([f"{host.name} is too small"]))
    monkeypatch.setattr(host_plan, "plan_of", lambda role: unfit)
    assert list(host_plan.refusals_of(this.hosts["ai"], this, Knowledge())) == ["ai is too small"]


def test_a_plan_module_may_say_what_is_to_be_known_of_a_host(monkeypatch: pytest.MonkeyPatch) -> None:
    this = fleet(BaseSettings())
    assert list(host_plan.remarks_of(this.hosts["ai"], this, Knowledge())) == []
    wordy = SimpleNamespace(remarks=lambda host, settings, fleet, knowledge: iter([f"{host.name} is new"]))
    monkeypatch.setattr(host_plan, "plan_of", lambda role: wordy)
    assert list(host_plan.remarks_of(this.hosts["ai"], this, Knowledge())) == ["ai is new"]


def test_a_role_that_a_lab_cannot_have_is_left_out_and_says_so(tmp_path: Path) -> None:
    lab = LabHost("home", "ai", "paddock-home-ai", "running", "root", tmp_path / "key", "172.17.0.2", "172.17.0.0/16", "ssh-ed25519 AAAA")
    moved, told = overlay(fleet(Talkative()), {"ai": lab})
    assert moved.hosts["ai"].carried == {}
    assert "ai: base stays at home." in told


@pytest.mark.parametrize("role", ROLES)
def test_a_hook_of_a_plan_module_is_its_own(role: str) -> None:
    """A function that it imports under such a name would be called in its place."""
    module, hooks = plan_of(role), ("plan", "plan_beside", "needs", "refusals", "remarks")
    assert [name for name in hooks if hasattr(module, name) and getattr(module, name).__module__ != module.__name__] == []
