"""The admin endpoint as it is planned: who may ask it, what it may touch, and where no key stands."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from small_fleet import Small

from control.deployment.knowledge import services
from inventory.errors import PaddockError
from resources import Directory, File, Package, Port, Resource, Service
from roles.admin.checks import check_is_out_of_reach_from_outside
from roles.admin.plan import CONFIGURATION, DIRECTORY, KEY_FILE, LISTENER, PRESETS, PROGRAM, UNIT, plan
from roles.admin.settings import AdminSettings, admin_key_name
from roles.outside import Refused
from roles.server import KEY_FILE as API_KEY_FILE
from services.admin.configuration import SCHEMA, configuration
from services.admin.presets import CHANGED
from services.admin.server import PREFIX, SHORTEST_KEY
from verification.outside import Answered

KEY = "sk-of-the-endpoint-and-nobody-else"
Services = Mapping[str, Mapping[str, str]]
SERVICES: Services = services("admin")
FILES = {f"{PROGRAM}/{name}" for name in SERVICES["admin"]}
FIXED = {"instances": {"chat": {"model": "demo", "listen": "127.0.0.1:8090", "count": 2}}}
DROPIN = "/etc/systemd/system/llama-server.service.d/60-paddock-admin.conf"


def planned(settings: dict[str, Any] | None = None, *, key: str = KEY, known: Services = SERVICES, **server: Any) -> dict[str, Resource]:
    """The admin endpoint's own part of a host."""
    small = Small()
    small.roles["one"]["admin"] = settings or {}
    small.roles["one"]["llama_server"] |= server
    context = replace(small.context, secrets={admin_key_name("one"): key, "api-key.one": "sk-of-llama-server"}, services=known)
    host = small.fleet.hosts["one"]
    return {each.id: each for each in plan(host, AdminSettings.model_validate(settings or {}), small.fleet, context)}


def text(resources: dict[str, Resource], path: str) -> str:
    file = resources[f"file:{path}"]
    assert isinstance(file, File)
    return file.data.decode()


def unit(resources: dict[str, Resource]) -> list[str]:
    return text(resources, f"/etc/systemd/system/{UNIT}").splitlines()


def test_the_key_is_roots_alone_and_stands_in_no_other_file() -> None:
    resources = planned(api_key=True)
    key = resources[f"file:{KEY_FILE}"]
    assert isinstance(key, File)
    assert (key.data, key.mode, key.owner, key.secret) == (f"{KEY}\n".encode(), 0o600, "root", True)
    others = [each for each in resources.values() if isinstance(each, File) and each is not key]
    assert len(others) == len(FILES) + 4 and not any(
        secret in each.data for each in others for secret in (KEY.encode(), b"sk-of-llama-server")
    )


@pytest.mark.parametrize("key", ["", "short", "sixteen letters and more", "sk-of-the-endpoint\nX: y"])
def test_a_secret_that_is_no_key_is_told(key: str) -> None:
    with pytest.raises(PaddockError) as caught:
        planned(key=key)
    assert str(caught.value).startswith("the secret admin.one is no key: ") and "`paddock secrets set admin.one`" in str(caught.value)
    assert len("short") < SHORTEST_KEY


def test_what_it_is_told_of_the_servers_is_what_the_program_takes(tmp_path: Path) -> None:
    (tmp_path / "admin.json").write_text(text(planned(**FIXED, models=["demo", "code"]), CONFIGURATION))
    taken = configuration(tmp_path / "admin.json")
    servers = taken.servers
    assert [(each.unit, each.url, each.router, each.account) for each in servers] == [
        ("llama-server.service", "unix:/run/paddock/llama-server.sock", True, ""),
        ("llama-server-chat-1.service", "unix:/run/paddock/llama-server-chat-1.sock", False, ""),
        ("llama-server-chat-2.service", "unix:/run/paddock/llama-server-chat-2.sock", False, ""),
    ]
    assert [each.models for each in servers] == [("demo", "code"), ("demo",), ("demo",)]
    assert (str(taken.key), str(taken.presets)) == (KEY_FILE, PRESETS)


@pytest.mark.parametrize("server", [{}, FIXED, {"user": "halo", "api_key": True}, {"listen": "192.0.2.12:8080"}, {"listen": "[::1]:8080"}])
def test_its_configuration_fits_the_schema_of_the_service(server: dict[str, Any]) -> None:
    for listen in ("127.0.0.1:8079", "[::]:8079"):
        said = json.loads(text(planned({"listen": listen}, **server), CONFIGURATION))
        Draft202012Validator(json.loads(SCHEMA.read_text())).validate(said)


def test_all_files_of_the_program_lie_in_one_directory_and_nothing_else_does() -> None:
    resources = planned()
    assert {f"{PROGRAM}/__main__.py", f"{PROGRAM}/server.py", f"{PROGRAM}/{SCHEMA.name}"} <= FILES
    assert {path: text(resources, path) for path in FILES} == {f"{PROGRAM}/{name}": each for name, each in SERVICES["admin"].items()}
    assert {each.path for each in resources.values() if isinstance(each, File) and each.path.startswith(f"{PROGRAM}/")} == FILES
    assert Directory(PROGRAM, exclusive=True) in resources.values()
    assert f"ExecStart=/usr/bin/python3 -I -B {PROGRAM} {CONFIGURATION}" in unit(resources)


def test_where_nobody_has_read_the_program_a_placeholder_stands_for_it() -> None:
    program = [each for each in planned(known={}).values() if isinstance(each, File) and each.path.startswith(PROGRAM)]
    assert [(each.path, each.data) for each in program] == [(f"{PROGRAM}/__main__.py", b"# <to be read from the services' package>\n")]


def test_an_accounts_own_servers_are_named_with_it_and_no_drop_in_of_the_systems_is_made_for_them() -> None:
    resources = planned(user="halo", api_key=True)
    assert json.loads(text(resources, CONFIGURATION))["servers"][0]["account"] == "halo"
    assert f"file:{DROPIN}" not in resources
    assert f"EnvironmentFile={API_KEY_FILE}" in unit(resources)


def test_the_presets_are_those_that_llama_server_reads() -> None:
    small = Small()
    small.roles["one"]["admin"] = {}
    assert f"file:{PRESETS}" in small.plan("one")
    assert f"ReadWritePaths={PRESETS.rpartition('/')[0]} -/run/paddock" in unit(planned())


def test_it_is_restarted_for_whatever_it_has_read() -> None:
    resources = planned(api_key=True)
    service = resources[f"service:{UNIT}"]
    assert isinstance(service, Service)
    assert {each.id for each in service.restarts} == {
        f"file:{path}" for path in (*FILES, CONFIGURATION, KEY_FILE, f"/etc/systemd/system/{UNIT}", DROPIN)
    }
    assert service.runs == (f"file:{API_KEY_FILE}",)
    assert planned()[f"service:{UNIT}"].runs == ()
    assert {Package("python3"), Directory(DIRECTORY, exclusive=True)} <= set(resources.values())


@pytest.mark.parametrize(
    ("listen", "address"),
    [
        ("127.0.0.1:8079", "127.0.0.1"),
        ("[::1]:8079", "::1"),
        ("0.0.0.0:79", "0.0.0.0"),
        ("[::]:8079", "*"),
        ("192.0.2.12:8079", "192.0.2.12"),
    ],
)
def test_systemd_has_its_port_and_it_is_in_no_network_itself(listen: str, address: str) -> None:
    resources = planned({"listen": listen})
    service, listener = resources[f"service:{UNIT}"], resources[f"service:{LISTENER}"]
    assert isinstance(service, Service) and isinstance(listener, Service)
    assert listener.ports == (Port(int(listen.rpartition(":")[2]), (address,), LISTENER, reachable_from=()),) and service.ports == ()
    lines = text(resources, f"/etc/systemd/system/{LISTENER}").splitlines()
    assert {f"ListenStream={listen}", "ListenStream=/run/paddock/admin.sock", "SocketMode=0660", "FreeBind=yes"} <= set(lines)
    assert {"PrivateNetwork=yes", "CapabilityBoundingSet=", f"Requires={LISTENER}", f"After={LISTENER}"} <= set(unit(resources))


def test_an_accounts_own_servers_are_asked_over_tcp() -> None:
    resources = planned(user="halo", listen="192.0.2.12:8080")
    assert json.loads(text(resources, CONFIGURATION))["servers"][0]["url"] == "http://192.0.2.12:8080"
    assert not {"PrivateNetwork=yes", "PrivateUsers=yes"} & set(unit(resources)), "it has to see whose a port is"
    assert {"IPAddressDeny=any", "IPAddressAllow=localhost 192.0.2.12"} <= set(unit(resources))


def test_the_drop_in_looks_for_what_the_program_writes() -> None:
    pattern = re.search(r'grep -qs "\^(.*?)"', text(planned(), DROPIN))
    assert pattern and pattern[1] == CHANGED


def test_the_program_answers_where_the_documentation_says() -> None:
    program = text(planned(), f"{PROGRAM}/__init__.py")
    for path in ("preset", "ctx", "restart"):
        assert re.search(rf"^    (GET |POST) {PREFIX}/{path}\b", program, re.MULTILINE)


def test_a_host_without_a_server_has_nothing_to_change() -> None:
    small = Small()
    with pytest.raises(PaddockError) as caught:
        list(plan(small.fleet.hosts["door"], AdminSettings(), small.fleet, small.context))
    assert str(caught.value) == "hosts.door.roles.admin: there is no llama-server here to change: remove the role from this host"


@dataclass
class Caller:
    """A caller from outside, to whom the same happens whatever he asks."""

    found: Any
    clients: frozenset[str] = frozenset()

    def ask(self, url: str, *, at: str, client: str | None = None, body: Any = None, headers: Any = None) -> Any:
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


def test_the_check_tells_one_that_is_reached_from_outside_although_it_is_not_to_be() -> None:
    host, listening = Small().fleet.hosts["one"], Caller(Answered(401, "", {}))
    check_is_out_of_reach_from_outside(AdminSettings(), host, Caller(ConnectionRefusedError()))
    check_is_out_of_reach_from_outside(AdminSettings(), host, Caller(Refused("the connection was reset")))
    check_is_out_of_reach_from_outside(AdminSettings(listen="0.0.0.0:8079"), host, listening)
    check_is_out_of_reach_from_outside(AdminSettings(), host.model_copy(update={"address": "127.0.0.1"}), listening)
    with pytest.raises(AssertionError, match="answers 401 from outside"):
        check_is_out_of_reach_from_outside(AdminSettings(), host, listening)
