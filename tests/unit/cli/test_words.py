"""What the command says helps who reads it: no traceback, no advice that is refused next, nothing that means something else."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cli import main
from cli.views.chat_line import chat_line
from cli.views.terminal import Shown
from control.fetching.download import fetched
from control.llama_cpp.artifacts import Artifacts
from control.state.fleet import FleetState
from control.state.secrets import Vault
from inventory.errors import PaddockError
from inventory.load import load
from lab.overlay import name_in_lab
from tests.slow_server import answering
from tests.unit.cli.test_certs_verbs import INVENTORY
from tests.unit.control.test_artifacts import RELEASE, packed

ROOT = Path(__file__).parents[3]

Paddock = Callable[..., tuple[int, str, str]]


@pytest.fixture
def paddock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Paddock:
    """`paddock("secrets", "list")` for its code, its output and its errors; nobody is at the terminal."""
    (tmp_path / "home.yml").write_text(INVENTORY)
    for name in [name for name in os.environ if name.startswith("PADDOCK_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str, stdin: str = "") -> tuple[int, str, str]:
        capsys.readouterr()
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        code = main([*arguments, "-i", "home.yml"])
        return (code, *capsys.readouterr())

    return call


@pytest.mark.parametrize(
    ("named", "lab", "command"),
    [
        ((), False, "paddock secrets show api-key.door | "),
        (("-i", "my home.yml"), False, "paddock -i 'my home.yml' secrets show api-key.door | "),
        (("-i", "home.yml"), True, "paddock -i home.yml secrets show api-key.door --lab | "),
    ],
)
def test_the_line_to_chat_with_asks_for_the_key_of_the_fleet_that_was_meant(
    named: tuple[str, ...], lab: bool, command: str, tmp_path: Path
) -> None:
    path = tmp_path / "home.yml"
    path.write_text(INVENTORY.replace("{models: [chat]}", "{models: [chat], api_key: true}"))
    fleet = load(path)
    line = chat_line(fleet.entrances()[0], fleet.servers("door")[0], Path("/c"), fleet, named, lab=lab)
    assert line.startswith(f"\nchat:\n  {command}")


def test_a_client_that_is_admitted_again_is_said_to_have_a_certificate(paddock: Paddock) -> None:
    assert paddock("certs", "issue", "phone", "--yes", "--no-push")[0] == 0
    assert paddock("certs", "revoke", "phone", "--yes", "--no-push")[0] == 0
    code, told, _ = paddock("certs", "issue", "phone", "--yes", "--no-push")
    assert code == 0 and told.startswith("client phone: a certificate was issued (before: revoked on ")


@pytest.mark.parametrize("name", ["no", "on", "yes", "0", "12", "null"])
def test_a_client_may_be_called_what_yaml_takes_for_something_else(paddock: Paddock, name: str, tmp_path: Path) -> None:
    assert paddock("certs", "issue", name, "--yes", "--no-push")[0] == 0
    assert name in load(tmp_path / "home.yml").clients
    assert f'"{name}"' in (tmp_path / "home.yml").read_text()


@pytest.mark.parametrize(("verb", "words"), [("secrets", "no secrets, but in the lab there are 1: `paddock secrets list --lab`\n")])
def test_what_only_the_lab_has_is_said_to_be_there(paddock: Paddock, verb: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "home.yml"
    Vault(FleetState.of(path, name_in_lab("home"))).set("token", "abc")
    assert paddock(verb, "list") == (0, "", words)
    assert paddock("artifacts", "list")[2].startswith("there are no artifacts yet: ")


def test_artifacts_that_only_the_lab_has_are_said_to_be_there(paddock: Paddock, tmp_path: Path) -> None:
    lab = Artifacts(FleetState.of(tmp_path / "home.yml", name_in_lab("home")))
    lab.add(packed(tmp_path / "built.tar.gz"), RELEASE, "debian 13")
    words = "there are no artifacts, but in the lab there are 1: `paddock artifacts list --lab`\n"
    assert paddock("artifacts", "list") == (0, "", words)


def test_an_identity_that_names_no_file_is_told_with_how_to_make_one(paddock: Paddock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PADDOCK_AGE_IDENTITY", "/nowhere/id")
    words = "there is no such file: `age-keygen -o FILE` makes an identity, and without the variable Paddock makes one\n"
    assert paddock("secrets", "set", "token", stdin="abc") == (1, "", f"PADDOCK_AGE_IDENTITY: /nowhere/id: {words}")


@pytest.mark.parametrize("stdin", ["", "a\0b", "a\nb", "\udcff", "a\x1b[2J"])
def test_what_is_no_secret_is_refused_in_words(paddock: Paddock, stdin: str) -> None:
    code, _, told = paddock("secrets", "set", "token", stdin=stdin)
    assert code == 2 and told.startswith("token: the value ") and told.endswith("nothing was stored\n")


def test_a_secret_that_the_terminal_cannot_show_is_not_shown_otherwise(paddock: Paddock, monkeypatch: pytest.MonkeyPatch) -> None:
    assert paddock("secrets", "set", "token", stdin="clé")[0] == 0
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    code, _, told = paddock("secrets", "show", "token")
    words = "has a character that ascii has not: set LC_ALL=C.UTF-8, or PYTHONUTF8=1, so that it is shown as it is"
    assert (code, told) == (2, f"token: {words}\n")


def test_what_a_terminal_has_no_letters_for_is_shown_in_its_own() -> None:
    raw = io.BytesIO()
    stream = Shown(io.TextIOWrapper(raw, encoding="ascii", write_through=True))  # type: ignore[arg-type]
    stream.write("clé …")
    assert raw.getvalue() == b"cl\\xe9 \\u2026"


def test_a_context_of_five_thousand_digits_is_none(paddock: Paddock) -> None:
    code, _, told = paddock("models", "ctx", "chat", "9" * 5000, "--yes")
    assert (code, told) == (2, f"{'9' * 60}…: is no context size: it has 5,000 digits\n")


def test_an_account_without_a_home_is_told_so(paddock: Paddock, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", nobody)
    code, _, told = paddock("check")
    words = f"user {os.geteuid()} has no name on this machine, and HOME is not set"
    assert (code, told) == (2, f"no home directory is known: {words}: set HOME to a directory of yours\n")


@pytest.mark.parametrize("part", ["secrets", "certs"])
def test_what_the_account_may_not_do_is_told_with_the_path(
    paddock: Paddock, monkeypatch: pytest.MonkeyPatch, part: str, tmp_path: Path
) -> None:
    def refused(path: object, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    assert paddock("secrets", "set", "token", stdin="abc")[0] == 0
    monkeypatch.setattr("os.scandir" if part == "secrets" else "pathlib.Path.glob", refused)
    code, _, told = paddock("secrets", "list")
    assert code == 1 and told.startswith(str(tmp_path)) and told.endswith("Permission denied\n") and told.count("\n") == 1


def test_a_revocation_that_leaves_a_file_behind_is_told_to_hold(paddock: Paddock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    really = {name: getattr(Path, name) for name in ("replace", "unlink")}

    def refused(name: str) -> Callable[..., object]:
        def call(path: Path, *arguments: object, **named: object) -> object:
            if path.suffix in (".tmp", ".edited"):
                return really[name](path, *arguments, **named)
            raise PermissionError(13, "Permission denied", str(path))

        return call

    assert paddock("certs", "issue", "phone", "--yes", "--no-push")[0] == 0
    with monkeypatch.context() as closed:
        for name in really:
            closed.setattr(Path, name, refused(name))
        code, _, told = paddock("certs", "revoke", "phone", "--yes", "--no-push")
    assert code == 1 and "client phone: is noted, but an earlier file of it cannot be taken away: Permission denied" in told
    assert "revoked on" in paddock("certs", "list")[1]


@pytest.mark.parametrize("address", ["http://a..b/", "https://[x/", f"http://{'a' * 64}/"])
def test_a_server_that_sends_on_to_no_address_is_told_in_words(address: str, tmp_path: Path) -> None:
    answer = f"HTTP/1.1 302 Found\r\nLocation: {address}\r\nContent-Length: 0\r\n\r\n".encode()
    with answering(lambda connection: connection.sendall(answer)) as url, pytest.raises(PaddockError) as told:
        fetched(f"{url}/m.gguf", None, tmp_path, aside=tmp_path)
    assert str(told.value).startswith(f"{url}/m.gguf: ") and "\n" not in str(told.value)
