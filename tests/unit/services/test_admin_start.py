"""The admin endpoint as a host starts it: a directory, the machine's own Python, and a configuration that fits its schema or is refused."""

from __future__ import annotations

import ast
import http.client
import json
import shutil
import socket
import subprocess
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies
from jsonschema import Draft202012Validator

from services.admin import __file__ as package
from services.admin.configuration import SCHEMA, misfits

KEY = "sk-of-the-endpoint-and-nobody-else"
PRESETS = "[*]\nctx-size = 512\n"
PACKAGE = Path(package).parent
BARE = ("/usr/bin/env", "-i", "python3", "-I", "-B")
GIVEN = ("/bin/sh", "-c", 'exec 3<&0 </dev/null; exec env -i LISTEN_FDS=1 LISTEN_PID=$$ python3 -I -B "$@"', "sh")
"""The same with a socket, as systemd hands it over (sd_listen_fds(3)): the one that is its standard input here."""
SERVER = {"unit": "llama-server.service", "url": "http://127.0.0.1:8080", "models": ["chat"], "router": True, "account": ""}


def configured(directory: Path) -> dict[str, Any]:
    """A configuration that fits."""
    return {"key": f"{directory}/key", "presets": f"{directory}/presets.ini", "servers": [{**SERVER, "models": ["chat"]}]}


def test_it_needs_no_newer_python_than_the_oldest_host_has() -> None:
    for path in PACKAGE.glob("*.py"):
        ast.parse(path.read_text(), str(path), feature_version=(3, 10))
    with pytest.raises(SyntaxError):
        ast.parse("try:\n    pass\nexcept* OSError:\n    pass\n", feature_version=(3, 10))


def test_it_starts_with_the_python_of_this_machine_alone() -> None:
    done = subprocess.run([*BARE, str(PACKAGE)], capture_output=True, text=True, check=False)
    assert "IndexError" in done.stderr and "ModuleNotFoundError" not in done.stderr


def test_its_directory_runs_wherever_it_lies_and_answers(tmp_path: Path) -> None:
    """As on a host: the files of the package alone, under another name, and started from somewhere else."""
    shutil.copytree(PACKAGE, tmp_path / "program", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "presets.ini").write_text(PRESETS)
    (tmp_path / "key").write_text(f"{KEY}\n")
    (tmp_path / "admin.json").write_text(json.dumps(configured(tmp_path)))
    command = [*GIVEN, str(tmp_path / "program"), str(tmp_path / "admin.json")]
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        subprocess.Popen(command, cwd="/", stdin=listener.fileno(), stdout=subprocess.DEVNULL) as process,
    ):
        try:
            assert _asked_until_it_answers(listener.getsockname()[1]) == (200, PRESETS)
        finally:
            process.terminate()
    assert not list(tmp_path.rglob("__pycache__"))


def _asked_until_it_answers(port: int) -> tuple[int, str]:
    for _ in range(200):
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection, suppress(ConnectionRefusedError):
            connection.request("GET", "/paddock/admin/preset", headers={"Authorization": f"Bearer {KEY}"})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        time.sleep(0.05)
    raise AssertionError("it does not answer")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"presets": 8079}, "presets: should be of type string"),
        ({"port": 8079}, "'port' is not known"),
        ({"key": "key"}, "key: should match ^/"),
        ({"keys": "/key"}, "'keys' is not known"),
        ({"servers": []}, "servers: should not be empty"),
        ({"servers": [{**SERVER, "models": ["chat", 2]}]}, "servers/0/models/1: should be of type string"),
        ({"servers": [SERVER, {"unit": "a.service"}]}, "servers/1: url is missing; servers/1: models is missing"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused_in_one_line(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    path = tmp_path / "admin.json"
    path.write_text(json.dumps({**configured(tmp_path), **changes}))
    done = subprocess.run([*BARE, str(PACKAGE), str(path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.startswith(f"{path}: {words}")) == (1, True), done.stderr
    assert done.stderr.endswith("`paddock up` writes this file anew\n") and done.stderr.count("\n") == 1


@pytest.mark.parametrize("lacking", ["admin.json", "key"])
def test_a_file_that_is_missing_or_no_json_is_told_in_one_line(tmp_path: Path, lacking: str) -> None:
    (tmp_path / "admin.json").write_text(json.dumps(configured(tmp_path)))
    (tmp_path / "key").write_text(f"{KEY}\n")
    (tmp_path / lacking).unlink()
    command = [*BARE, str(PACKAGE), str(tmp_path / "admin.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr == f"{tmp_path / lacking}: No such file or directory\n"
    (tmp_path / "admin.json").write_text("{")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr.startswith(f"{tmp_path / 'admin.json'}: this is no JSON: ") and done.stderr.count("\n") == 1


def test_without_a_socket_of_systemds_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "presets.ini").write_text(PRESETS)
    (tmp_path / "key").write_text(f"{KEY}\n")
    (tmp_path / "admin.json").write_text(json.dumps(configured(tmp_path)))
    done = subprocess.run([*BARE, str(PACKAGE), str(tmp_path / "admin.json")], capture_output=True, text=True, check=False)
    assert (done.returncode, "`systemctl start paddock-admin.socket`" in done.stderr, done.stderr.count("\n")) == (1, True, 1)


ANY_JSON = strategies.recursive(
    strategies.none()
    | strategies.booleans()
    | strategies.integers(-2, 70000)
    | strategies.sampled_from(["", "/a", "a.service", "::1", "http://a"]),
    lambda inner: (
        strategies.lists(inner, max_size=2) | strategies.dictionaries(strategies.sampled_from(["unit", "url", "x"]), inner, max_size=2)
    ),
    max_leaves=4,
)
PLACES: tuple[tuple[str | int, ...], ...] = (
    *(("key",), ("presets",), ("servers",), ("more",)),
    *(("servers", 0), ("servers", 0, "models", 0), ("servers", 0, "more")),
    *(("servers", 0, name) for name in SERVER),
)


@given(strategies.sampled_from(PLACES), ANY_JSON)
def test_what_the_service_refuses_is_what_the_schema_refuses(place: tuple[str | int, ...], value: Any) -> None:
    said = inner = configured(Path("/etc"))
    for step in place[:-1]:
        inner = inner[step]  # type: ignore[index]
    inner[place[-1]] = value  # type: ignore[index]
    schema = json.loads(SCHEMA.read_text())
    assert bool(list(misfits(said, schema))) is not Draft202012Validator(schema).is_valid(said)
