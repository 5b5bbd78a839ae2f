from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pyrage
import pytest

from control.state.fleet import FleetState
from control.state.secrets import Secrets, Vault
from inventory.errors import PaddockError

SECRET = "a-token-that-must-not-be-seen"


def other(monkeypatch: pytest.MonkeyPatch) -> str:
    """From here on somebody else is at the terminal. Gives their public key."""
    identity = pyrage.x25519.Identity.generate()
    monkeypatch.setenv("PADDOCK_AGE_IDENTITY", str(identity))
    return str(identity.to_public())


def lines_of(vault: Vault) -> list[str]:
    """The public keys in recipients.txt, with their comments."""
    return [each.line for each in vault.recipients.listed()]


def ssh_key(path: Path, passphrase: str = "") -> Path:
    path.parent.mkdir(exist_ok=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", "ann@desk", "-f", str(path)], check=True)
    return path


def test_what_was_sealed_comes_back(vault: Vault) -> None:
    vault.seal("ca.key", bytes(range(256)))
    assert vault.unseal("ca.key") == bytes(range(256))


def test_the_first_seal_makes_an_identity_and_says_where(vault: Vault, home: Path, said: list[str]) -> None:
    vault.set("token", SECRET)
    made = home / ".config" / "paddock" / "identity.txt"
    assert made.stat().st_mode & 0o777 == 0o600
    assert made.parent.stat().st_mode & 0o777 == 0o700
    assert len(said) == 1
    assert str(made) in said[0]
    assert "keep a copy" in said[0]
    assert "AGE-SECRET-KEY" not in said[0]


def test_an_identity_is_made_once(state: FleetState, tmp_path: Path, said: list[str]) -> None:
    Vault(state).set("token", SECRET)
    other_fleet = FleetState.of(tmp_path / "office.yml", "office", said.append)
    Vault(other_fleet).set("token", SECRET)
    assert len(said) == 1
    assert Vault(state).recipients.listed() == Vault(other_fleet).recipients.listed()


def test_the_state_directory_never_holds_a_secret_in_the_clear(state: FleetState, vault: Vault, home: Path) -> None:
    vault.set("token", SECRET)
    identity = (home / ".config" / "paddock" / "identity.txt").read_text().split()[-1]
    for path in state.path.parent.rglob("*"):
        if path.is_file():
            assert SECRET.encode() not in path.read_bytes()
            assert identity.encode() not in path.read_bytes()


def test_secrets_show_their_names_only(vault: Vault) -> None:
    vault.set("token", SECRET)
    secrets = Secrets(vault)
    assert secrets["token"] == SECRET
    for shown in (repr(secrets), str(secrets), f"{secrets}", repr(vault), repr(vault.__dict__)):
        assert SECRET not in shown
        assert "AGE-SECRET-KEY" not in shown
    assert "token" in repr(secrets)


def test_a_secret_is_opened_only_when_asked_for(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    vault.set("token", SECRET)
    other(monkeypatch)
    secrets = Secrets(Vault(vault._state))
    assert list(secrets) == ["token"]
    assert secrets.get("absent") is None
    with pytest.raises(PaddockError):
        secrets["token"]


def test_somebody_else_learns_whom_to_ask(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    vault.set("token", SECRET)
    theirs = vault.recipients.listed()[0].line
    mine = other(monkeypatch)
    with pytest.raises(PaddockError) as refused:
        Vault(vault._state).get("token")
    assert f"{vault.path('secrets/token')}: encrypted for other recipients than you ({mine}). It was encrypted for: {theirs}." in str(
        refused.value
    )


def test_a_newcomer_to_a_shared_state_gets_an_identity_to_be_let_in_with(vault: Vault, home: Path, said: list[str]) -> None:
    vault.set("token", SECRET)
    (home / ".config" / "paddock" / "identity.txt").unlink()
    with pytest.raises(PaddockError, match=r"encrypted for other recipients than you \(age1"):
        Vault(vault._state).get("token")
    assert len(said) == 2


def test_every_recipient_can_open_once_all_is_sealed_anew(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    vault.set("token", SECRET)
    vault.seal("certs/client/laptop.key", b"key")
    second = pyrage.x25519.Identity.generate()
    vault.recipients.file.write_text(f"{vault.own[0]}  # ann\n\n# the build server\n{second.to_public()}\n")
    vault = Vault(replace(vault._state, ask=lambda question: True))
    assert vault.reseal() == ["certs/client/laptop.key", "secrets/token"]
    assert Vault(vault._state).get("token") == SECRET
    monkeypatch.setenv("PADDOCK_AGE_IDENTITY", str(second))
    assert Vault(vault._state).get("token") == SECRET
    assert Vault(vault._state).unseal("certs/client/laptop.key") == b"key"


def test_an_identity_may_be_named_as_a_file(
    vault: Vault, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    identity = pyrage.x25519.Identity.generate()
    (tmp_path / "ci.txt").touch(0o600)
    (tmp_path / "ci.txt").write_text(f"# created by age-keygen\n# public key: {identity.to_public()}\n{identity}\n")
    monkeypatch.setenv("PADDOCK_AGE_IDENTITY", str(tmp_path / "ci.txt"))
    vault.set("token", SECRET)
    assert lines_of(vault) == [str(identity.to_public())]
    assert said == []
    assert not (home / ".config").exists()


def test_an_ssh_key_that_the_recipients_name_opens(state: FleetState, home: Path, said: list[str]) -> None:
    key = ssh_key(home / ".ssh" / "id_ed25519")
    (state.directory() / "recipients.txt").write_text(key.with_suffix(".pub").read_text())
    Vault(state).set("token", SECRET)
    assert Vault(state).get("token") == SECRET
    assert said == []


def test_a_named_ssh_key_becomes_the_first_recipient(state: FleetState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = ssh_key(tmp_path / "ssh" / "ci")
    monkeypatch.setenv("PADDOCK_AGE_IDENTITY", str(key))
    Vault(state).set("token", SECRET)
    assert lines_of(Vault(state)) == [key.with_suffix(".pub").read_text().strip()]
    assert Vault(state).get("token") == SECRET


def test_an_ssh_key_that_nobody_named_is_left_alone(vault: Vault, home: Path) -> None:
    ssh_key(home / ".ssh" / "id_ed25519")
    vault.set("token", SECRET)
    assert [line[:4] for line in lines_of(vault)] == ["age1"]


def test_an_ssh_key_with_a_passphrase_is_refused_in_words(state: FleetState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PADDOCK_AGE_IDENTITY", str(ssh_key(tmp_path / "ssh" / "ci", "words")))
    with pytest.raises(PaddockError, match="name one without a passphrase"):
        Vault(state).set("token", SECRET)


@pytest.mark.parametrize("keep", [0, 1, 30, 120, -1])
def test_a_truncated_file_is_named(vault: Vault, keep: int) -> None:
    vault.set("token", SECRET)
    path = vault.path("secrets/token")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(PaddockError) as damaged:
        vault.get("token")
    assert str(damaged.value).startswith(f"{path}: damaged (")


def test_a_changed_byte_is_noticed(vault: Vault) -> None:
    vault.set("token", SECRET)
    path = vault.path("secrets/token")
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(data)
    with pytest.raises(PaddockError, match="damaged"):
        vault.get("token")


@pytest.mark.parametrize("name", ["", "..", "../up", "a/b", "/etc/passwd", "Token", "-x", ".hidden", "a b", "a\n"])
def test_a_name_leads_nowhere_else(vault: Vault, state: FleetState, name: str) -> None:
    with pytest.raises(PaddockError, match="is not a name for a secret"):
        vault.set(name, SECRET)
    assert not state.path.exists()


def test_a_secret_is_found_without_a_list_of_all(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    vault.set("token", SECRET)
    monkeypatch.delattr(Vault, "names")
    assert Secrets(vault)["token"] == SECRET
    assert not [name for name in ("tokens", "../secrets/token", "x" * 300) if name in Secrets(vault)]


def test_a_missing_secret_says_how_to_set_it(vault: Vault) -> None:
    with pytest.raises(PaddockError, match="`paddock secrets set token` makes one"):
        vault.get("token")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "has no recipients"),
        ("# nobody\n", "has no recipients"),
        ("age1nonsense\n", "'age1nonsense' is neither"),
        ("ssh-ed25519 AAAA\n", "is neither"),
    ],
)
def test_recipients_that_make_no_sense_stop_the_seal(state: FleetState, text: str, complaint: str) -> None:
    (state.directory() / "recipients.txt").write_text(text)
    with pytest.raises(PaddockError, match=complaint):
        Vault(state).set("token", SECRET)
    assert Vault(state).names() == []


@pytest.mark.parametrize("value", ["/nowhere/identity.txt", "AGE-SECRET-KEY-1TORN", "age-secret-key-1lower"])
def test_an_identity_that_is_none_is_told_without_showing_it(state: FleetState, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("PADDOCK_AGE_IDENTITY", value)
    with pytest.raises(PaddockError, match="PADDOCK_AGE_IDENTITY") as refused:
        Vault(state).set("token", SECRET)
    assert "TORN" not in str(refused.value)
    assert "lower" not in str(refused.value)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o601])
@pytest.mark.parametrize("kind", ["own", "age", "ssh", "own ssh"])
def test_an_identity_that_others_can_read_is_refused(
    state: FleetState, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, mode: int
) -> None:
    identity = home / ".config" / "paddock" / "identity.txt"
    if kind == "age":
        identity = tmp_path / "ci.txt"
        identity.touch(0o600)
        identity.write_text(str(pyrage.x25519.Identity.generate()))
    elif kind != "own":
        identity = ssh_key((home if kind == "own ssh" else tmp_path) / ".ssh" / "id_ed25519")
    if kind in ("age", "ssh"):
        monkeypatch.setenv("PADDOCK_AGE_IDENTITY", str(identity))
    if kind == "own ssh":
        (state.directory() / "recipients.txt").write_text(identity.with_suffix(".pub").read_text())
    Vault(state).set("token", SECRET)
    identity.chmod(mode)
    for use in (lambda: Vault(state).get("token"), lambda: Vault(state).set("other", SECRET)):
        with pytest.raises(PaddockError, match=f"other accounts can read it .*{mode:04o}.*chmod 600 {identity}"):
            use()
    identity.chmod(0o400)
    assert Vault(state).get("token") == SECRET


def test_an_identity_may_come_through_a_pipe(vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a shell gives one: PADDOCK_AGE_IDENTITY=<(pass show paddock)"""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o644)
    monkeypatch.setenv("PADDOCK_AGE_IDENTITY", str(pipe))
    with subprocess.Popen(["sh", "-c", 'echo "$1" >"$2"', "sh", str(pyrage.x25519.Identity.generate()), str(pipe)]):
        vault.set("token", SECRET)
    assert vault.get("token") == SECRET


def test_an_identity_made_at_the_same_moment_by_two_is_one(state: FleetState, home: Path) -> None:
    """Both runs saw no identity; whoever comes second must use the first one's, or what it seals is lost."""
    ours = Vault(state)
    Vault(state).set("token", SECRET)
    first = (home / ".config" / "paddock" / "identity.txt").read_text()
    ours._make_identity(home / ".config" / "paddock" / "identity.txt")
    assert (home / ".config" / "paddock" / "identity.txt").read_text() == first
    assert ours.get("token") == SECRET
    assert [path.name for path in (home / ".config" / "paddock").iterdir()] == ["identity.txt"]
