"""Whose a host is: two fleets, `alpha` and `beta`, whose inventories name the same lab host.

Each test begins with the host as alpha's, and with alpha's newest state: they can run alone and in any order. The site's server is a host that
is never reached: no test here is of what answers.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from subprocess import CompletedProcess

import pyrage
import pytest

from tests.lab_fleet import LabFleet, lab_fleet
from tests.share import turn

pytestmark = turn(2, of=5)

ADMITTED = "/etc/caddy/paddock/clients"
MANIFEST = "/var/lib/paddock/manifest"

EVERYTHING = """
find /etc /opt/paddock /var/lib/paddock -xdev -printf '%p %y %u:%g %m %T@ %l\\n' | sort
find /etc/caddy /etc/systemd /var/lib/paddock -xdev -type f -exec sha256sum {} + | sort
systemctl show -P InvocationID caddy
"""
"""All that Paddock could have changed, when it was changed, and the Caddy that runs."""


@dataclass(frozen=True)
class Shared:
    """`lab` made the host, `one`, which `alpha` and `beta` both name. `newest` is alpha's state as it is when a test begins."""

    lab: LabFleet
    alpha: LabFleet
    beta: LabFleet
    newest: Path

    def begin(self) -> None:
        """The host is alpha's, which admits a laptop and a phone; beta has never been to it."""
        shutil.rmtree(self.beta.directory / ".paddock", ignore_errors=True)
        put_back(self.newest, state_of(self.alpha))
        up(self.alpha, "--take-over")
        shutil.rmtree(self.newest, ignore_errors=True)
        shutil.copytree(state_of(self.alpha), self.newest)

    def on(self, script: str) -> str:
        return self.lab.on("one", script)

    def everything(self) -> str:
        return self.on(EVERYTHING)


def state_of(fleet: LabFleet) -> Path:
    return fleet.directory / ".paddock" / fleet.name


def put_back(copy: Path, state: Path) -> None:
    if copy.exists():
        shutil.rmtree(state, ignore_errors=True)
        shutil.copytree(copy, state)


def said(fleet: LabFleet, *arguments: str, code: int = 0) -> str:
    """What a verb prints, and how it complains."""
    done: CompletedProcess[str] = fleet.paddock(*arguments)
    print(f"$ {fleet.name}: paddock {' '.join(arguments)}\n{done.stdout}{done.stderr}", flush=True)
    assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
    assert "Traceback" not in done.stdout + done.stderr
    return done.stdout + done.stderr


def up(fleet: LabFleet, *arguments: str, code: int = 0) -> str:
    return said(fleet, "up", "--limit", "one", "--yes", "--no-verify", *arguments, code=code)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    directory = tmp_path_factory.mktemp("shared")
    bare = {"one": {"address": "192.0.2.10", "roles": {"base": {}}}}
    with lab_fleet("shared", directory, json.dumps({"fleet": "shared", "domain": "home.example", "hosts": bare})) as lab:
        found = Shared(lab, of(lab, "alpha", "laptop", "phone"), of(lab, "beta", "laptop"), directory / "newest")
        up(found.alpha)
        yield found


def of(lab: LabFleet, name: str, *clients: str) -> LabFleet:
    """A fleet that says itself where the lab host is."""
    host = lab.host("one")
    fleet = LabFleet(name, lab.directory / name)
    fleet.directory.mkdir()
    one = {"address": host.address, "ssh_key": str(host.ssh_key), "host_key": host.host_key}
    site = {"ai.home.example": {"upstream": "far"}}
    roles = {"base": {"time": "elsewhere"}, "caddy": {"sites": site}}
    serving = {
        "llama_cpp": None,
        "models": None,
        "llama_server": {"listen": "0.0.0.0:8080", "models": ["demo"]},
        "admin": {"listen": "0.0.0.0:8079"},
    }
    hosts = {"one": {**one, "roles": roles}, "far": {"address": "192.0.2.99", "roles": serving}}
    whole = {"fleet": name, "domain": "home.example", "networks": ["192.0.2.0/24"], "hosts": hosts, "models": {"demo": None}}
    fleet.write(json.dumps({**whole, "clients": dict.fromkeys(clients)}))
    return fleet


def test_a_host_of_another_fleet_is_left_as_it_is_until_somebody_asks_to_take_it_over(shared: Shared) -> None:
    shared.begin()
    before = shared.everything()

    refused = up(shared.beta, code=1)
    assert "one: belongs to fleet alpha, not to fleet beta. Nothing was changed there. " in refused
    assert "`paddock plan --limit one` shows all of it, `paddock up --limit one --take-over` does it" in refused
    assert "(file:/etc/caddy/paddock/ca.pem, " in refused and f"removes 1 resource (file:{ADMITTED}/phone.pem)" in refused
    assert "~ certificate" not in refused, "nothing is to be issued for a host that is refused"
    assert "one: belongs to fleet alpha" in said(shared.beta, "teardown", "--limit", "one", "--yes", code=1)
    assert shared.everything() == before
    assert not (state_of(shared.beta) / "certs").exists() and not (state_of(shared.beta) / "secrets").exists()
    assert not (state_of(shared.beta) / "fleet.json").exists()

    line = "one: belongs to fleet alpha, not to fleet beta: `paddock up` refuses it without --take-over\n"
    planned = said(shared.beta, "plan", "--limit", "one", code=3)
    assert line in planned and f"  - file:{ADMITTED}/phone.pem" in planned and "  ~ certificate CA: new\n" in planned
    assert line in said(shared.beta, "status", "--limit", "one", code=3)
    whose = "belongs to fleet alpha, not to fleet beta"
    assert json.loads(said(shared.beta, "plan", "--limit", "one", "--json", code=3))["strangers"] == {"one": whose}
    assert json.loads(said(shared.beta, "status", "--limit", "one", "--json", code=3))["one"]["stranger"] == whose
    assert shared.everything() == before

    asked = said(shared.beta, "up", "--limit", "one", "--take-over", code=2)
    assert "there is no terminal to ask" in asked and shared.everything() == before
    taken = up(shared.beta, "--take-over")
    for shown in (asked, taken):
        assert f"one: {whose}: it is taken over\n" in shown and f"  - file:{ADMITTED}/phone.pem\n" in shown
    assert shared.on(f"head -n 1 {MANIFEST}").startswith("fleet beta ")
    assert shared.on(f"ls {ADMITTED}").split() == ["laptop.pem"]
    assert " 0 changed" in up(shared.beta)

    assert "one: belongs to fleet beta, not to fleet alpha. " in up(shared.alpha, code=1)
    assert "one: belongs to fleet beta, not to fleet alpha. " in said(shared.alpha, "certs", "revoke", "phone", code=1)
    assert " 0 changed" in up(shared.beta)


def test_no_server_is_stopped_there_and_under_another_time_no_ca_is_made(shared: Shared) -> None:
    shared.begin()
    own = shared.beta.inventory.read_text()
    whole = json.loads(own)
    serving = whole["hosts"]["far"]["roles"]
    whole["hosts"]["one"]["roles"] |= {name: serving[name] for name in ("llama_cpp", "models", "llama_server")}
    shared.beta.write(json.dumps(whole))
    before = shared.everything()
    for verb in ("stop", "start", "restart"):
        assert "one: belongs to fleet alpha, not to fleet beta. Nothing was done there" in said(shared.beta, verb, "one", "--yes", code=1)
    shared.beta.write(own)
    assert shared.everything() == before

    authorities = state_of(shared.alpha) / "certs" / "authorities.json"
    signing = authorities.read_text()
    late = datetime.now(UTC) + timedelta(hours=5)
    shared.on(f"printf '#!/bin/sh\necho {int(late.timestamp())}\n' >/usr/local/bin/date; chmod 755 /usr/local/bin/date")
    try:
        refused = said(shared.alpha, "certs", "roll-over", "begin", code=1)
    finally:
        shared.on("rm /usr/local/bin/date")
    assert "hosts say another time than this machine (one +" in refused and authorities.read_text() == signing


def test_where_the_state_was_lost_nothing_replaces_the_ca(shared: Shared) -> None:
    shared.begin()
    before, state = shared.everything(), state_of(shared.alpha)
    shutil.rmtree(state)

    planned = said(shared.alpha, "plan", "--limit", "one", code=3)
    lost = "one: belongs to another state of fleet alpha: the one here was lost, or made anew"
    assert f"{lost}: `paddock up` refuses it without --take-over\n" in planned and "  ~ certificate CA: new\n" in planned
    assert lost in said(shared.alpha, "status", "--limit", "one", code=3)
    assert {path.name for path in state.iterdir()} == {".gitignore", "known_hosts", "hardware"}, "looking has made more than it looked at"

    refused = up(shared.alpha, code=1)
    assert (
        f"{lost}. Nothing was changed there. Put the newest state back into {state}, from a backup or from git "
        "(`paddock state adopt` where it is lost), or take it over, " in refused
    )
    assert not (state / "certs").exists() and not (state / "fleet.json").exists()
    assert shared.everything() == before

    put_back(shared.newest, state)
    assert " 0 changed" in up(shared.alpha)
    assert shared.everything() == before


def test_with_an_old_state_nobody_who_was_thrown_out_is_let_in_again(shared: Shared) -> None:
    shared.begin()
    state = state_of(shared.alpha)
    said(shared.alpha, "certs", "revoke", "phone")
    assert shared.on(f"ls {ADMITTED}").split() == ["laptop.pem"]
    newer, before = shared.newest.with_name("newer"), shared.everything()
    shutil.copytree(state, newer)

    put_back(shared.newest, state)
    assert "one: was last changed with a newer copy of the state: of " in up(shared.alpha, code=1)
    assert "one: was last changed with a newer copy of the state: of " in said(shared.alpha, "plan", "--limit", "one", code=3)
    # Nor after something has changed in the old one, which makes it the one that was changed last.
    assert "one: was last changed with another copy of the state: of " in said(shared.alpha, "certs", "renew", "--all", code=1)
    assert "one: was last changed with another copy of the state: of " in up(shared.alpha, code=1)
    assert shared.everything() == before

    put_back(newer, state)
    shutil.rmtree(newer)
    assert " 0 changed" in up(shared.alpha)


def test_who_takes_a_host_over_with_an_old_state_has_the_newest_one_refused_in_turn(shared: Shared) -> None:
    shared.begin()
    state, newer = state_of(shared.alpha), shared.newest.with_name("newer")
    said(shared.alpha, "certs", "revoke", "phone")
    shutil.copytree(state, newer)
    put_back(shared.newest, state)
    taken = up(shared.alpha, "--take-over")
    assert f"  + file:{ADMITTED}/phone.pem" in taken and "of the state: of " in taken
    assert " 0 changed" in up(shared.alpha)
    put_back(newer, state)
    shutil.rmtree(newer)
    assert "one: was last changed with a newer copy of the state: of " in up(shared.alpha, code=1)


def test_a_change_in_the_state_that_is_not_for_this_host_changes_nothing_there(shared: Shared) -> None:
    shared.begin()
    before, marked = shared.everything(), json.loads((state_of(shared.alpha) / "fleet.json").read_text())
    said(shared.alpha, "secrets", "rotate")
    assert json.loads((state_of(shared.alpha) / "fleet.json").read_text())["changed"] > marked["changed"]
    assert " 0 changed" in up(shared.alpha)
    assert shared.everything() == before
    shared.on("rm /etc/caddy/paddock/sites.caddy")
    up(shared.alpha)
    assert shared.on(f"head -n 1 {MANIFEST}").split()[-1] > marked["changed"]


def test_a_manifest_that_says_nonsense_of_its_owner_is_not_nobodys(shared: Shared) -> None:
    shared.begin()
    shared.on(f"sed -i '1s,.*,fleet alpha \x1b[2J 0,' {MANIFEST}")
    before = shared.everything()
    refused = up(shared.alpha, code=1)
    assert "one: its manifest says whose it is in words that this version of Paddock cannot read. " in refused and "\x1b" not in refused
    assert shared.everything() == before
    up(shared.alpha, "--take-over")
    assert " 0 changed" in up(shared.alpha)


def test_a_manifest_without_an_owner_is_nobodys_and_no_drift(shared: Shared) -> None:
    shared.begin()
    shared.on(f"sed -i 1d {MANIFEST}")
    before = shared.everything()
    assert " 0 changed" in up(shared.alpha)
    assert shared.everything() == before
    shared.on("rm /etc/caddy/paddock/sites.caddy")
    up(shared.alpha)
    assert shared.on(f"head -n 1 {MANIFEST}").startswith("fleet alpha ")


def test_what_is_torn_down_is_nobodys(shared: Shared) -> None:
    shared.begin()
    taken = said(shared.beta, "teardown", "--limit", "one", "--yes", "--take-over")
    assert "one: belongs to fleet alpha, not to fleet beta: it is taken over\n" in taken
    assert shared.on(f"ls {MANIFEST} /etc/caddy/paddock 2>/dev/null || true") == ""
    up(shared.beta)
    assert " 0 changed" in up(shared.beta)


@pytest.fixture(params=["no identity", "another's identity"])
def stranger(request: pytest.FixtureRequest, shared: Shared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Alpha's inventory and state are on a machine where nobody can decrypt. Gives the home there."""
    shared.begin()
    (tmp_path / ".cache").symlink_to(Path.home() / ".cache")
    identity = {"PADDOCK_AGE_IDENTITY": str(pyrage.x25519.Identity.generate())} if request.param != "no identity" else {}
    for name, value in {"HOME": str(tmp_path), **identity}.items():
        monkeypatch.setitem(shared.alpha.environment, name, value)
    return tmp_path


def test_to_look_needs_no_identity(shared: Shared, stranger: Path) -> None:
    done = shared.alpha.paddock("plan", "--limit", "one", "--json")
    hidden = json.loads(done.stdout)["not_compared"]["one"]
    assert done.returncode == 0
    done = shared.alpha.paddock("status", "--limit", "one", "--json")
    assert (done.returncode, json.loads(done.stdout)["one"]["not_compared"]) == (0, hidden)
    door = {"file:/etc/caddy/paddock/ai.home.example.key", "service:caddy.service"}
    assert door <= set(hidden)
    assert all("/etc/paddock/caddy-tunnel/" in each or each.startswith("service:paddock-caddy-tunnel-far.") for each in set(hidden) - door)
    files, services = (sum(each.startswith(kind) for each in hidden) for kind in ("file:", "service:"))
    for verb in ("plan", "status"):
        shown = said(shared.alpha, verb, "--limit", "one")
        assert "no identity here opens certs/host/far/" in shown
        assert f"not compared: the content of {files} files, nor what {services} services were started with. PADDOCK_AGE_IDENTITY" in shown

    shared.on("echo '# by hand' >>/etc/caddy/paddock/sites.caddy; chmod 644 /etc/caddy/paddock/ai.home.example.key")
    planned = said(shared.alpha, "plan", "--limit", "one", code=3)
    assert (
        "  ~ file:/etc/caddy/paddock/sites.caddy  content\n" in planned
        and "  ~ file:/etc/caddy/paddock/ai.home.example.key  mode 644 → 640\n" in planned
    )
    assert "+ file" not in planned and " ~ service:caddy.service" not in planned
    assert [path.name for path in stranger.iterdir()] == [".cache"], "looking has made an identity"
    refused = up(shared.alpha, code=1)
    assert "encrypted for other recipients than you (" in refused
    shared.on("sed -i '$d' /etc/caddy/paddock/sites.caddy; chmod 640 /etc/caddy/paddock/ai.home.example.key")
