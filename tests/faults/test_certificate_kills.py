"""kill -9 at every step of what changes certificates: no key is half-written, no CA is lost, nobody is shut out who was not thrown out, and
the same again makes it whole. Needs no host.

A step is a call that changes the disk: a process that does the work is killed before its n-th such call, in a soak for every n that there
is, else for a share of them with each call among them.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from control.pki import certificates, roll_over
from control.pki.authority import Authority
from control.pki.imported import ca_of, import_client, trust
from control.state.fleet import FleetState
from control.state.lineage import lineage_of, told_hosts
from control.state.secrets import Vault
from inventory.errors import PaddockError
from inventory.fleet import Fleet
from tests.older_state import older_state
from tests.share import each_kind, spread, turn

pytestmark = turn(2, of=3)

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
LATER = NOW + timedelta(days=21)
"""When phone's certificate is due."""

CHANGES = ("replace", "rename", "link", "unlink", "rmdir", "mkdir", "fsync")
"""The calls of `os` that change the disk, or make it sure."""

FLEET = Fleet.model_validate(
    {
        "name": "home",
        "domain": "home.example",
        "networks": ["192.0.2.0/24"],
        "hosts": {"pea": {"name": "pea", "address": "192.0.2.7", "roles": {"caddy": {"sites": {"ai.home.example": {"upstream": "pea"}}}}}},
        "clients": {"laptop": {}, "phone": {"days": 30}},
    }
)
FEWER = FLEET.model_copy(update={"clients": {"phone": FLEET.clients["phone"]}})


@dataclass(frozen=True)
class Case:
    """`work` is what is killed, on a state that `before` has made; `out` are the clients that it throws out, with `earlier` the certificates
    before those in use.
    """

    before: Callable[[Authority], None]
    work: Callable[[Authority], object]
    fleet: Fleet = FLEET
    now: datetime = NOW
    out: tuple[str, ...] = ()
    earlier: bool = False
    first: bool = False
    """Whether nobody was let in before."""


def nothing(authority: Authority) -> None:
    pass


def issued(authority: Authority) -> None:
    authority.issue(FLEET, NOW)


def older(authority: Authority) -> None:
    older_state(authority, authority.leaves._state, FLEET, NOW)


def renewed(authority: Authority) -> None:
    issued(authority)
    authority.renew(FLEET, ["phone"], NOW)


def revoked(authority: Authority) -> None:
    renewed(authority)
    authority.revoke("phone", NOW)


def begun(authority: Authority) -> None:
    issued(authority)
    roll_over.begin(authority, FLEET, NOW)


def switched(authority: Authority) -> None:
    begun(authority)
    roll_over.switch(authority, NOW)


def anew(authority: Authority) -> None:
    switched(authority)
    authority.issue(FLEET, NOW)


def step(do: Callable[[], object]) -> None:
    """A step of a roll-over, or that it has been done already."""
    try:
        do()
    except PaddockError as error:
        assert any(words in str(error) for words in ("is under way already", "there is no next CA", "only one CA is trusted")), error


FOREIGN_KEY = certificates.new_key()
FOREIGN = certificates.make_ca(FOREIGN_KEY, "elsewhere", "home.example", ("192.0.2.0/24",), NOW)
HELD = certificates.sign(FOREIGN, FOREIGN_KEY, "client", certificates.new_key(), "laptop", (), (), NOW, NOW + timedelta(days=300))


def imported(authority: Authority, key: str | None) -> None:
    issuer = ca_of(FLEET, FOREIGN, key, NOW, Path("ca.pem"))
    trust(authority, issuer, key)
    import_client(authority, issuer, "laptop", HELD, NOW, Path("client.crt"))


CASES = {
    "first issue": Case(nothing, lambda authority: authority.issue(FLEET, NOW), first=True),
    "renewal by up": Case(issued, lambda authority: authority.issue(FLEET, LATER), now=LATER),
    "renewal by hand": Case(renewed, lambda authority: authority.renew(FLEET, ["phone"], NOW)),
    "a client leaves the inventory": Case(renewed, lambda authority: authority.issue(FEWER, NOW), fleet=FEWER, out=("laptop",)),
    "revoke": Case(renewed, lambda authority: authority.revoke("phone", NOW), out=("phone",)),
    "revoke what is earlier": Case(renewed, lambda authority: authority.revoke_earlier("phone"), earlier=True),
    "issue after revoke": Case(revoked, lambda authority: authority.admit(FLEET, "phone", NOW)),
    "roll-over begin": Case(issued, lambda authority: step(lambda: roll_over.begin(authority, FLEET, NOW))),
    "roll-over switch": Case(begun, lambda authority: step(lambda: roll_over.switch(authority, NOW))),
    "issue after switch": Case(switched, lambda authority: authority.issue(FLEET, NOW)),
    "roll-over finish": Case(anew, lambda authority: step(lambda: roll_over.finish(authority)), earlier=True),
    "take-over by renewal": Case(older, lambda authority: authority.renew(FLEET, ["phone"], NOW)),
    "take-over by roll-over": Case(older, lambda authority: step(lambda: roll_over.begin(authority, FLEET, NOW))),
    "import": Case(issued, lambda authority: imported(authority, None)),
    "import of a CA that signs": Case(issued, lambda authority: imported(authority, FOREIGN_KEY)),
}


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("PADDOCK_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(os, "fsync", lambda _: None)  # what a killed process has written stays written


@pytest.mark.parametrize("name", CASES)
def test_killed_at_any_step_it_loses_nothing_and_is_made_whole_by_the_next_run(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    ready = authority_in(tmp_path / "ready")
    ready.cas._vault.seal("warm", b"")  # the identity, which is made only once
    case.before(ready)
    told, before = told_hosts(ready.leaves._state), records(ready)
    let_in = admitted(ready, case) - (earlier(ready, case) if case.earlier else set())
    shutil.copytree(tmp_path / "ready", tmp_path / "counted")
    counted = authority_in(tmp_path / "counted")
    steps = list(enumerate(calls_of(lambda: case.work(counted)), 1))
    assert len(steps) > 2  # every case writes a file, moves it into place and makes sure of it
    chosen = sorted({*spread(name, steps, 5), *each_kind(name, steps, lambda step: [step[1]])})
    print(f"{name}: killed before {len(chosen)} of {len(steps)} steps", flush=True)
    for at, _ in chosen:
        shutil.rmtree(tmp_path / "tried", ignore_errors=True)
        shutil.copytree(tmp_path / "ready", tmp_path / "tried")
        authority = authority_in(tmp_path / "tried")
        assert killed_at(at, lambda authority=authority: case.work(authority))  # type: ignore[misc]
        nothing_is_lost(authority, case, let_in)
        found = lineage_of(authority.leaves._state)
        assert found and (found.changed > told.changed or records(authority) == before), "hosts would take it for what they know"
        case.work(authority)
        authority.issue(case.fleet, case.now)
        is_whole(authority, case, let_in)


def records(authority: Authority) -> dict[str, bytes]:
    """What says who is let in and who signs, by the file's name."""
    certs = authority.leaves._state.path / "certs"
    return {str(path.relative_to(certs)): path.read_bytes() for pattern in ("authorities.json", "*/*.json") for path in certs.glob(pattern)}


def nothing_is_lost(authority: Authority, case: Case, let_in: set[str]) -> None:
    """Whatever is there is whole, and who was let in before still is, but for whom the work throws out."""
    state, vault = authority.leaves._state, authority.cas._vault
    for path in state.path.rglob("*.age"):
        assert vault.unseal(path.relative_to(state.path).as_posix().removesuffix(".age")) is not None
    signing = authority.cas.signing()
    assert signing is not None or case.first
    for issuer in authority.cas.trusted():
        if authority.cas.has_key(issuer):
            assert certificates.belongs(issuer.pem, authority.cas.key(issuer))
        else:
            assert issuer.pem == FOREIGN
    if signing:
        assert authority.cas.has_key(signing)
    _, servers, clients = authority.current(case.fleet, case.now)
    for leaf in (*servers.values(), *clients.values()):
        assert any(certificates.is_issued_by(leaf.chain, issuer.pem) for issuer in authority.cas.trusted())
        assert not leaf.key or certificates.belongs(leaf.chain, leaf.key)
    assert still_in(let_in, case) <= admitted(authority, case)


def is_whole(authority: Authority, case: Case, let_in: set[str]) -> None:
    """Everybody who is to have a certificate has one, with its key and no key besides; who was thrown out has none."""
    assert authority.due(case.fleet, case.now) == []
    _, servers, clients = authority.current(case.fleet, case.now)
    assert sorted(servers) == ["ai.home.example"]
    assert sorted(clients) == sorted(set(case.fleet.clients) - set(case.out))
    assert {each.split()[0] for each in admitted(authority, case)} == set(clients)
    assert still_in(let_in, case) <= admitted(authority, case)
    assert not case.earlier or earlier(authority, case) == set()
    certs = authority.leaves._state.path / "certs"
    for kind, holders in (("server", servers), ("client", clients)):
        in_use = [leaf for name in holders if (leaf := authority.leaves.record(kind, name).current)]
        assert sorted((certs / kind).rglob("*.key.age")) == sorted(certs / kind / f"{leaf.files}.key.age" for leaf in in_use)


def still_in(let_in: set[str], case: Case) -> set[str]:
    return {each for each in let_in if each.split()[0] not in case.out}


def admitted(authority: Authority, case: Case) -> set[str]:
    """`phone <serial>` of every certificate that a reverse proxy lets in."""
    chains = {(name, leaf.chain) for name, leaf in authority.current(case.fleet, case.now)[2].items()}
    return {f"{name} {certificates.serial_of(chain)}" for name, chain in chains} | earlier(authority, case)


def earlier(authority: Authority, case: Case) -> set[str]:
    found = authority.earlier(case.fleet, case.now)
    return {f"{name} {certificates.serial_of(chain)}" for name, chains in found.items() for chain in chains}


def authority_in(directory: Path) -> Authority:
    state = FleetState.of(directory / "home.yml", "home", lambda _: None)
    return Authority(state, Vault(state))


def killed_at(step: int, work: Callable[[], object]) -> bool:
    """Does `work` in a process that is killed before its `step`-th change of the disk. False where it got through."""
    left = step

    def count(name: str) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    return in_a_child(work, count) != 0


def calls_of(work: Callable[[], object]) -> list[str]:
    """The changes of the disk that `work` makes, by the names of their calls, when nobody kills it."""
    reader, writer = os.pipe()
    assert in_a_child(work, lambda name: os.write(writer, f"{name}\n".encode())) == 0
    os.close(writer)
    with os.fdopen(reader) as told:
        return told.read().split()


def in_a_child(work: Callable[[], object], before: Callable[[str], object]) -> int:
    """How a process ended that does `work`, and before each change of the disk what `before` says with the call's name."""
    child = os.fork()
    if not child:
        for name in CHANGES:
            setattr(os, name, _announced(name, getattr(os, name), before))
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL)
    return status


def _announced(name: str, real: Callable[..., object], before: Callable[[str], object]) -> Callable[..., object]:
    def announced(*arguments: object, **named: object) -> object:
        before(name)
        return real(*arguments, **named)

    return announced
