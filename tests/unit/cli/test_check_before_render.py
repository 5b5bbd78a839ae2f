"""What can be known without a host, `check` knows: all at once, each at its place. What it accepts, `render` accepts."""

from __future__ import annotations

import control.ssh.cooperative  # isort: skip - first of all
import copy
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cli import main
from tests.share import WHOLE
from tests.unit.roles import everything
from tests.unit.roles.small_fleet import pem
from tests.unit.roles.test_text_of_a_person import drawn

assert control.ssh.cooperative

Path_ = tuple[str | int, ...]

FILES = """fleet: home
domain: home.example
hosts:
  ai:
    address: 192.0.2.10
    ssh_key: keys/id
    roles:
      llama_cpp: {source: {path: src}}
      models: {directory: /etc/paddock/firewall}
      llama_server: {models: [m], listen: "0.0.0.0:8080"}
      firewall: {allow: {"22": [192.0.2.9], "9999": [192.0.2.9], "443": [192.0.2.9]}, addresses: {nobody: [192.0.2.9]}}
      caddy:
        package: {path: caddy.deb, version: 2.11.4-1, sha256: "1111111111111111111111111111111111111111111111111111111111111111"}
        sites:
          ai.home.example: {upstream: ai, acme: {email: ann@home.example, directory: "https://acme.home.example/d", root: root.pem}}
models:
  m: {source: {local: m.gguf}}
"""

MISSING = [
    "6:14: hosts.ai.ssh_key: there is no file {0}/keys/id on this machine",
    "8:34: hosts.ai.roles.llama_cpp.source.path: there is no directory {0}/src on this machine",
    "11:26: hosts.ai.roles.firewall.allow.22: 22 is SSH's port, which the firewall never restricts: leave it out",
    "11:45: hosts.ai.roles.firewall.allow.9999: nothing in the inventory listens on port 9999 of ai: leave it out",
    '11:99: hosts.ai.roles.firewall.addresses.nobody: no host is called "nobody": addresses takes hosts of the fleet',
    "13:25: hosts.ai.roles.caddy.package.path: there is no file {0}/caddy.deb on this machine",
    "15:123: hosts.ai.roles.caddy.sites.ai.home.example.acme.root: there is no file {0}/root.pem on this machine",
    "17:7: models.m.source: nothing says which file it is, neither a sha256 here nor the lock: run `paddock models pull --lock m`",
]

THEN = [
    "8:34: hosts.ai.roles.llama_cpp.source.path: {0}/src has no CMakeLists.txt and no include/llama.h: name the top of a source tree of"
    " llama.cpp",
    "13:25: hosts.ai.roles.caddy.package.path: {0}/caddy.deb is no file: name the file itself",
    "15:123: hosts.ai.roles.caddy.sites.ai.home.example.acme.root: root.pem",
]


@pytest.fixture(autouse=True)
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("PADDOCK_STATE", raising=False)


def told(path: Path, capsys: pytest.CaptureFixture[str], *verb: str) -> list[str]:
    assert main(["-i", str(path), *verb]) == 2
    return [line.removeprefix(f"{path}:") for line in capsys.readouterr().err.splitlines()]


def test_files_ports_and_names_are_told_at_once_each_with_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "home.yml"
    path.write_text(FILES)
    assert told(path, capsys, "check") == [line.format(tmp_path) for line in MISSING]


def test_what_lies_there_has_to_be_what_is_meant(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "home.yml"
    path.write_text(FILES.replace("local: m.gguf", f'local: m.gguf, sha256: "{"1" * 64}"').replace("      firewall: {allow", "      #"))
    for directory in ("src", "caddy.deb", "keys"):
        (tmp_path / directory).mkdir()
    (tmp_path / "keys" / "id").touch()
    (tmp_path / "root.pem").write_text("no certificate")
    lines = told(path, capsys, "check")
    assert [line.partition(": ")[0] for line in lines] == [line.partition(": ")[0] for line in THEN]
    assert lines[:2] == [line.format(tmp_path) for line in THEN[:2]]
    assert "root.pem" in lines[2] and "expected the root certificate of that ACME authority" in lines[2]


@pytest.mark.parametrize("verb", [("plan",), ("plan", "--offline"), ("up", "--yes"), ("render",)])
def test_every_verb_that_plans_tells_it_so_before_it_connects(
    verb: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "home.yml"
    path.write_text(
        "fleet: home\ndomain: home.example\nhosts:\n"
        '  ai: {address: 192.0.2.1, roles: {firewall: {allow: {"22": [192.0.2.9], "80": [192.0.2.9]}}}}\n'
        "  pi: {address: 192.0.2.2, roles: {firewall: {addresses: {ali: [192.0.2.9]}}}}\n"
    )
    assert told(path, capsys, *verb) == [
        "4:55: hosts.ai.roles.firewall.allow.22: 22 is SSH's port, which the firewall never restricts: leave it out",
        "4:74: hosts.ai.roles.firewall.allow.80: nothing in the inventory listens on port 80 of ai: leave it out",
        '5:59: hosts.pi.roles.firewall.addresses.ali: no host is called "ali" (did you mean "ai"?): addresses takes hosts of the fleet',
    ]


def test_render_needs_no_file_that_only_a_deployment_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "home.yml"
    path.write_text("fleet: home\ndomain: home.example\nhosts:\n  ai: {address: 192.0.2.1, ssh_key: nowhere, roles: {base: }}\n")
    assert main(["-i", str(path), "render"]) == 0
    assert told(path, capsys, "check") == [f"4:37: hosts.ai.ssh_key: there is no file {tmp_path}/nowhere on this machine"]


@pytest.mark.parametrize("in_lock", [2, 3])
def test_a_lock_of_more_files_than_the_source_has_is_none(in_lock: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As a merge of two branches may leave it."""
    path, url = tmp_path / "home.yml", "https://models.home.example/m.gguf"
    path.write_text(
        "fleet: home\ndomain: home.example\n"
        "hosts: {ai: {address: 192.0.2.1, roles: {llama_cpp: , models: , llama_server: {models: [m]}}}}\n"
        f"models: {{m: {{source: {{url: {url}}}}}}}\n"
    )
    files = [{"name": f"m{number}.gguf", "sha256": "1" * 64} for number in range(in_lock)]
    lock = {"version": 1, "models": {"m": {"source": {"url": url}, "files": files}}}
    path.with_name("home.models.lock").write_text(json.dumps(lock))
    words = "4:14: models.m.source: the lock is of another source than this: run `paddock models pull --lock m`"
    assert told(path, capsys, "check") == [words]


@pytest.mark.parametrize("where", ["models", "role"])
def test_a_time_to_sleep_that_is_no_number_is_told_at_its_value(where: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The watchdog asks for it, of a version whose options nobody has seen too."""
    path = tmp_path / "home.yml"
    preset = "{sleep-idle-seconds: never}"
    of_role, of_model = (f", preset: {preset}", "") if where == "role" else ("", f"preset: {preset}")
    source = f'{{source: {{sdist: llama-cpp-python==0.3.99, sha256: "{"1" * 64}"}}}}'
    path.write_text(
        "fleet: home\ndomain: home.example\n"
        f"hosts: {{ai: {{address: 192.0.2.1, roles: {{llama_cpp: {source}, models: , watchdog: ,\n"
        f"  llama_server: {{models: [m]{of_role}}}}}}}}}\n"
        f"models: {{m: {{{of_model}}}}}\n"
    )
    (problem,) = told(path, capsys, "check")
    line = path.read_text().splitlines()[int(problem.partition(":")[0]) - 1]
    assert line[int(problem.split(":")[1]) - 1 :].startswith("never}")
    assert problem.endswith("preset.sleep-idle-seconds: never is no number of seconds: -1 is never")


ODD: tuple[Any, ...] = (
    *(None, True, False, 0, 1, 22, 80, 443, 2019, 8079, 8080, 8090, 65536, -1, 1.5, "", "no", "22", "80", "8080", "9999", [], {}, ["x"]),
    *("127.0.0.1:8080", "0.0.0.0:8080", "[::]:443", "0.0.0.0:80", "0.0.0.0:22", "192.0.2.1", "door.home.example", "fe80::1%eth0"),
    *("/etc/paddock/firewall", "/etc/caddy/paddock/x", "/opt/paddock", "/opt/paddock/llama.cpp/releases", "/var/lib/paddock/build"),
    *("box", "rig", "door", "desk", "nobody", "box/far", "chat", "never", "on", "q9", "~/x", "nowhere", "llama-cpp-python==0.3.35"),
)
"""What a value may be changed to: of every kind, and what means something somewhere in the fleet."""


def places(value: Any, here: Path_ = ()) -> Iterator[Path_]:
    """The path of every value in a document, the whole not among them."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield (*here, key)
        yield from places(each, (*here, key))


def at(document: Any, path: Path_) -> Any:
    for key in path:
        document = document[key]
    return document


def changed(document: dict[str, Any], data: st.DataObject) -> dict[str, Any]:
    """With a value taken away, or another in its place: an odd one, or that of somewhere else; or a key called otherwise."""
    document = copy.deepcopy(document)
    for _ in range(data.draw(st.integers(0, 3))):
        found = list(places(document))
        path = data.draw(st.sampled_from(found))
        holder = at(document, path[:-1])
        match data.draw(st.sampled_from(("odd", "odd", "moved", "renamed", "gone"))):
            case "odd":
                holder[path[-1]] = copy.deepcopy(data.draw(st.sampled_from(ODD)))
            case "moved":
                holder[path[-1]] = copy.deepcopy(at(document, data.draw(st.sampled_from(found))))
            case "renamed" if isinstance(holder, dict):
                holder[str(data.draw(st.sampled_from(ODD)))] = holder.pop(path[-1])
            case _:
                holder.pop(path[-1])
    return document


@settings(max_examples=1000 if WHOLE else 60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_what_check_accepts_render_accepts(data: st.DataObject) -> None:
    """Of a fleet that uses every role, with a text of a person drawn from what its field takes, and with values changed."""
    name = data.draw(st.sampled_from(sorted(everything.HARMLESS)))
    text = {**everything.HARMLESS, name: data.draw(st.one_of(st.just(everything.HARMLESS[name]), drawn(name)))}
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "home.yml"
        (path.parent / everything.ROOT).write_text(pem("the root"))
        (path.parent / "caddy.deb").touch()
        path.write_text(json.dumps(changed(everything.document(text), data), ensure_ascii=False))
        code = main(["-i", str(path), "check"])
        assert code in (0, 2)
        if code == 0:
            assert main(["-i", str(path), "render", "--to", str(path.parent / "rendered")]) == 0


def test_the_fleet_that_it_begins_with_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "home.yml"
    (tmp_path / everything.ROOT).write_text(pem("the root"))
    (tmp_path / "caddy.deb").touch()
    path.write_text(json.dumps(everything.document()))
    assert main(["-i", str(path), "check"]) == 0
