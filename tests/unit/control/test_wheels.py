"""Which wheels a host takes, and where they come from: the gateway's own lock, and an index on loopback."""

from __future__ import annotations

import hashlib
import json
import os
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from packaging.pylock import Pylock

from cli.plan import wheel_lines
from control.deployment.knowledge import knowledge_for
from control.fetching import wheels
from control.fetching.project import project_wheel
from control.fetching.wheels import Machine, locked_wheels, missing, program_of, wheels_here, wheels_of
from control.state.fleet import FleetState
from inventory.errors import PaddockError
from inventory.fleet import Fleet
from inventory.hardware import PYTHONS, Hardware, python_of
from inventory.knowledge import TO_BE_CHOSEN, Knowledge
from resources import Wheel
from roles.role import RoleSettings

LIBC = {"debian 12": "2.36", "debian 13": "2.41", "ubuntu 22.04": "2.35", "ubuntu 24.04": "2.39", "ubuntu 26.04": "2.43"}
PEA = Hardware("x86_64", "", frozenset(), 4, 8192, "debian 12", libc="2.36")


@pytest.mark.parametrize("architecture", ["x86_64", "aarch64"])
@pytest.mark.parametrize("distribution", LIBC)
def test_every_supported_host_can_run_the_gateway(distribution: str, architecture: str) -> None:
    host = replace(PEA, architecture=architecture, distribution=distribution, libc=LIBC[distribution])
    own, *others = wheels_of("gateway", host)
    assert own.name.startswith("paddock_gateway-")
    python = f"cp{PYTHONS[distribution].replace('.', '')}"
    compiled = [each.name for each in others if not each.name.endswith("-none-any.whl")]
    assert len(compiled) > 8 and all(f"-{python}-{python}-manylinux" in name and architecture in name for name in compiled)
    assert {"aiohttp", "uvloop", "sqlalchemy", "alembic", "asyncpg"} <= {each.name.split("-")[0] for each in others}
    assert all(len(each.sha256) == 64 and each.size for each in others)


def test_what_only_older_pythons_need_comes_only_with_them() -> None:
    named = {name: {each.name.split("-")[0] for each in wheels_of("gateway", replace(PEA, distribution=name))} for name in LIBC}
    assert named["ubuntu 22.04"] - named["debian 12"] == {"async_timeout", "tomli"}


def test_the_python_that_a_host_has_goes_before_its_distributions() -> None:
    assert python_of(replace(PEA, python="3.13")) == "3.13"
    assert python_of(PEA) == "3.11"
    assert python_of(replace(PEA, distribution="debian forky")) == ""


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"distribution": "debian forky"}, "gateway needs to know which python3 it is to run with, and debian forky has none yet"),
        ({"python": "3.9"}, "gateway needs Python >=3.10, and this host has 3.9"),
        ({"architecture": "armhf"}, "asyncpg 0.32.0"),
        ({"architecture": "armhf"}, "without a wheel for Python 3.11 on armhf with glibc 2.36"),
        ({"libc": "2.12"}, "without a wheel for Python 3.11 on x86_64 with glibc 2.12: give gateway to another host"),
        ({"libc": ""}, "with glibc of an unknown version"),
    ],
)
def test_why_a_host_cannot_have_it_names_package_python_and_processor(change: dict[str, str], words: str) -> None:
    with pytest.raises(PaddockError) as refused:
        wheels_of("gateway", replace(PEA, **change))  # type: ignore[arg-type]
    assert words in str(refused.value)


def test_of_several_wheels_the_newest_that_the_c_library_carries_is_taken() -> None:
    names = [f"quick-1.0-cp311-cp311-manylinux_2_{each}_x86_64.whl" for each in (17, 28, 38)]
    packages = [
        {
            "name": "quick",
            "version": "1.0",
            "wheels": [{"url": f"https://home.example/{name}", "hashes": {"sha256": "0" * 64}} for name in names],
        }
    ]
    lock = Pylock.from_dict({"lock-version": "1.0", "created-by": "hand", "packages": packages})
    assert [each.name for each in locked_wheels(lock, "quick", Machine("3.11", "x86_64", "2.36"))] == [names[1]]


def test_the_locks_have_the_same_packages() -> None:
    project = Path(__file__).parents[3] / "services" / "gateway"
    pinned = {line.split(" ")[0] for line in (project / "requirements.lock").read_text().splitlines() if "==" in line and line[0].isalpha()}
    assert {f"{each.name}=={each.version}" for each in wheels.lock_of("gateway").packages} == pinned


def test_our_own_wheel_is_the_same_whenever_and_by_whomever_it_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel, data = project_wheel("gateway")
    project = Path(__file__).parents[3] / "services" / "gateway"
    for path in project.rglob("*.py"):
        copy = tmp_path / "gateway" / path.relative_to(project)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
        copy.chmod(0o600)
        os.utime(copy, (time.time() - 1e6,) * 2)
    for name in ("pyproject.toml", "paddock_gateway/configuration.schema.json"):
        (tmp_path / "gateway" / name).write_bytes((project / name).read_bytes())
    monkeypatch.setattr("control.fetching.project.files", lambda package: tmp_path)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    assert project_wheel.__wrapped__("gateway") == (wheel, data)


def test_our_own_wheel_has_the_program_and_what_it_needs() -> None:
    wheel, data = project_wheel("gateway")
    assert hashlib.sha256(data).hexdigest() == wheel.sha256
    assert program_of((wheel,)) == "paddock-gateway 0.1.0"


class Index:
    """A package index with one wheel, on loopback."""

    def __init__(self, wheel: Wheel, data: bytes) -> None:
        self.wheel, self.data, self.asked = wheel, data, list[str]()
        self.says = wheel.sha256

    def answer(self, path: str, host: str) -> tuple[str, bytes]:
        self.asked.append(path)
        if path.endswith(".whl"):
            return "application/octet-stream", self.data
        file = {"filename": self.wheel.name, "url": f"http://{host}/files/{self.wheel.name}", "hashes": {"sha256": self.says}}
        page = {"meta": {"api-version": "1.0"}, "name": "quick", "files": [file]}
        return "application/vnd.pypi.simple.v1+json", json.dumps(page).encode()


class Answers(BaseHTTPRequestHandler):
    def __init__(self, index: Index, *arguments: object) -> None:
        self.index = index
        super().__init__(*arguments)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        kind, body = self.index.answer(self.path, self.headers["Host"])
        self.send_response(200 if self.path.split("/")[-1] == self.index.wheel.name or "quick" in self.path else 404)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Nobody reads it."""


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    data = b"PK quick"
    found = Index(Wheel("quick-1.0-py3-none-any.whl", hashlib.sha256(data).hexdigest(), len(data)), data)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Answers, found))
    Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(wheels, "CACHE", tmp_path / "wheels")
    monkeypatch.setattr(
        "control.fetching.package_index.pip_configuration", lambda: {"index-url": f"http://127.0.0.1:{server.server_port}/simple"}
    )
    yield found
    server.shutdown()
    server.server_close()


def silent(name: str, done: int, total: int) -> None:
    pass


def test_a_wheel_is_fetched_once_from_the_index_that_pip_is_configured_for(index: Index) -> None:
    assert missing([index.wheel]) == [index.wheel]
    for _ in range(2):
        directory = wheels_here([index.wheel], (), silent)
        assert (directory / index.wheel.sha256 / index.wheel.name).read_bytes() == index.data
    assert index.asked == ["/simple/quick/", f"/files/{index.wheel.name}"]
    assert missing([index.wheel]) == []


def test_an_index_with_another_file_of_that_name_is_not_taken_at_its_word(index: Index) -> None:
    index.says = "0" * 64
    with pytest.raises(PaddockError, match=r"quick-1\.0-py3-none-any\.whl: .* has another file of this name; the index is pip's"):
        wheels_here([index.wheel], (), silent)
    index.says, index.data = index.wheel.sha256, b"PK other"
    with pytest.raises(PaddockError, match=r"its sha256 is .*, so it was not used"):
        wheels_here([index.wheel], (), silent)
    assert missing([index.wheel]) == [index.wheel]


def test_our_own_wheel_is_asked_of_nobody(index: Index) -> None:
    wheel, data = project_wheel("gateway")
    directory = wheels_here([wheel], ["gateway"], silent)
    assert (directory / wheel.sha256 / wheel.name).read_bytes() == data and not index.asked
    assert zipfile.is_zipfile(directory / wheel.sha256 / wheel.name)


def test_a_plan_without_a_connection_says_what_is_still_to_be_fetched(index: Index) -> None:
    others = wheels_of("gateway", PEA)[1:]
    known = Knowledge(
        hardware={"pea": PEA},
        wheels={("pea", "gateway"): (project_wheel("gateway")[0], index.wheel), ("old", "gateway"): PaddockError("too old")},
    )
    said = "  paddock-gateway 0.1.0 with 1 packages for Python 3.11 on x86_64, "
    assert list(wheel_lines("pea", known))[1:] == [f"{said}1 of them are still to be fetched (0.0 MiB)"]
    wheels_here([index.wheel], (), silent)
    assert list(wheel_lines("pea", known))[1:] == [f"{said}all of them here"]
    assert list(wheel_lines("old", known)) == list(wheel_lines("nobody", known)) == []
    assert missing(others) == list(others)


def test_a_plan_knows_the_wheels_of_the_hosts_that_run_a_program(
    fleet_of: Callable[..., Fleet], state: FleetState, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = fleet_of(hosts={name: {"name": name, "address": "192.0.2.7", "roles": {"base": {}}} for name in ("pea", "bean", "old")})
    monkeypatch.setattr(RoleSettings, "program", lambda self: "gateway")
    state.save_hardware("pea", PEA)
    state.save_hardware("old", replace(PEA, python="3.9"))
    known = knowledge_for(fleet, state, now=now)
    assert known.wheels_for("pea", "gateway") == wheels_of("gateway", PEA)
    assert known.wheels_for("bean", "gateway") == TO_BE_CHOSEN, "nobody has looked at it yet"
    with pytest.raises(PaddockError, match=r"this host has 3\.9"):
        known.wheels_for("old", "gateway")
