from __future__ import annotations

import dataclasses
import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from control.state.fleet import GITIGNORE, FleetState, write_atomically
from inventory.errors import PaddockError
from inventory.hardware import Hardware

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHkp9Y2VvZXhhbXBsZWV4YW1wbGVleGFtcGxlZXhh"
PEA = Hardware("x86_64", "Ryzen", frozenset({"avx2", "fma"}), 16, 65536, "debian 13", "abc")


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_looking_at_a_state_that_is_not_there_makes_nothing(state: FleetState) -> None:
    assert state.pinned("pea") is None
    assert state.hardware("pea") is None
    assert not state.path.parent.exists()


@pytest.mark.parametrize("umask", [0o000, 0o027, 0o777])
def test_everything_is_private_whatever_the_umask(state: FleetState, umask: int) -> None:
    before = os.umask(umask)
    try:
        state.save_hardware("pea", PEA)
        state.pin("pea", "192.0.2.7", KEY)
    finally:
        os.umask(before)
    found = {path: mode(path) for path in [state.path.parent, *state.path.parent.rglob("*")]}
    assert {mode for path, mode in found.items() if path.is_dir()} == {0o700}
    assert {mode for path, mode in found.items() if path.is_file()} == {0o600}


def test_a_directory_that_others_can_read_is_closed_to_them_with_a_word(tmp_path: Path, state: FleetState, said: list[str]) -> None:
    state.directory().chmod(0o755)
    FleetState.of(tmp_path / "home.yml", "home", said.append)
    assert mode(state.path) == 0o700
    assert said == [f"{state.path}: others could read it (mode 0755), it is 0700 now"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_somebody_elses_directory_is_refused(tmp_path: Path, state: FleetState) -> None:
    os.chown(state.directory(), 4711, -1)
    with pytest.raises(PaddockError, match=r"belongs to user 4711, you are 0: .*chown"):
        FleetState.of(tmp_path / "home.yml", "home")


PLANTED = ("certs", "export", "secrets/token.age", "certs/client/laptop", "hardware/pea.json", "history", "artifacts")


@pytest.mark.parametrize("name", PLANTED)
def test_a_link_that_somebody_put_into_the_state_is_refused(tmp_path: Path, state: FleetState, name: str) -> None:
    """By way of the git repository, for instance: a private key would be written where the link leads, and files there deleted."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "id_ed25519").write_text("mine")
    link = state.directory(*name.split("/")[:-1]) / name.rpartition("/")[2]
    link.symlink_to(elsewhere)
    with pytest.raises(PaddockError, match=f"^{link}: is a link, and Paddock keeps nothing behind links"):
        FleetState.of(tmp_path / "home.yml", "home")
    assert (elsewhere / "id_ed25519").read_text() == "mine"


def test_the_whole_state_may_lie_behind_a_link_of_ones_own(tmp_path: Path, state: FleetState) -> None:
    state.directory()
    state.path.parent.rename(tmp_path / "vault")
    state.path.parent.symlink_to(tmp_path / "vault")
    FleetState.of(tmp_path / "home.yml", "home").pin("pea", "192.0.2.7", KEY)
    assert (tmp_path / "vault" / "home" / "known_hosts").is_file()


def test_paddock_state_moves_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PADDOCK_STATE", str(tmp_path / "else" / "where"))
    state = FleetState.of(tmp_path / "home.yml", "home")
    assert state.directory() == tmp_path / "else" / "where" / "home"
    assert mode(state.path) == 0o700


def test_git_takes_what_is_sealed_or_public_and_nothing_else(state: FleetState) -> None:
    committed = [
        "recipients.txt",
        "fleet.json",
        "known_hosts",
        "ca.pem",
        "ca.json",
        "ca.key.age",
        "secrets/token.age",
        "hardware/pea.json",
        "artifacts/a.json",
        "history/000001.json",
        "history/000001.plans.json.gz",
    ]
    committed += ["certs/client/laptop.pem", "certs/client/laptop.json", "certs/client/laptop.key.age", "certs/revoked/client/phone-1.pem"]
    kept_out = [
        "lock",
        "export/laptop/key.pem",
        "history/notes.txt",
        "artifacts/a.tar",
        "artifacts/b.age",
        "ca.key",
        "certs/client/laptop.key",
    ]
    kept_out += ["secrets/token", "secrets/.x.tmp", "identity.txt", "something-new"]
    for name in (*committed, *kept_out):
        state.directory(*Path(name).parts[:-1]).joinpath(Path(name).name).touch()
    subprocess.run(["git", "init", "-q", str(state.path)], check=True)
    subprocess.run(["git", "-C", str(state.path), "add", "."], check=True)
    listed = subprocess.run(["git", "-C", str(state.path), "ls-files"], check=True, capture_output=True, text=True).stdout.split()
    assert sorted(listed) == sorted([".gitignore", *committed])


EARLIER = """*
!/.gitignore
!/recipients.txt
!/ca.pem
!/ca.json
!/certs/
!/certs/**/
!/certs/**/*.pem
!/certs/**/*.json
!/secrets/
!/hardware/
!/hardware/*.json
!/known_hosts
!*.age
"""
"""As the first version wrote it."""

WITHOUT_HISTORY = GITIGNORE.partition("!/history/")[0]


@pytest.mark.parametrize(("found", "becomes"), [(EARLIER, GITIGNORE), (WITHOUT_HISTORY, GITIGNORE), ("*\n", "*\n")])
def test_a_list_of_what_git_takes_is_renewed_unless_somebody_wrote_it(state: FleetState, found: str, becomes: str) -> None:
    (state.directory() / ".gitignore").write_text(found)
    state.directory("hardware")
    assert (state.path / ".gitignore").read_text() == becomes


def test_ssh_finds_a_pinned_key_where_the_host_answers(state: FleetState) -> None:
    state.pin("pea", "192.0.2.7", f"{KEY} root@pea")
    state.pin("bean", "[192.0.2.8]:2222", KEY)
    for where in ("192.0.2.7", "[192.0.2.8]:2222"):
        found = subprocess.run(["ssh-keygen", "-F", where, "-f", str(state.known_hosts)], capture_output=True, text=True)
        assert KEY in found.stdout


def test_a_pin_replaces_the_hosts_own_and_no_other(state: FleetState) -> None:
    state.pin("pea", "192.0.2.7", "ssh-ed25519 OLD")
    state.pin("bean", "192.0.2.8", "ssh-ed25519 BEAN")
    state.pin("pea", "192.0.2.9", "ssh-ed25519 NEW")
    assert state.pinned("pea") == "ssh-ed25519 NEW"
    assert state.pinned("bean") == "ssh-ed25519 BEAN"
    assert "OLD" not in state.known_hosts.read_text()


@pytest.mark.parametrize("key", ["", "AAAA", "ssh-ed25519", "ssh-ed25519\nAAAA x"])
def test_what_is_no_host_key_is_not_pinned(state: FleetState, key: str) -> None:
    with pytest.raises(PaddockError, match=r"pea: .* is not an SSH host key"):
        state.pin("pea", "192.0.2.7", key)


def test_hardware_comes_back_as_it_was(state: FleetState) -> None:
    state.save_hardware("pea", PEA)
    assert state.hardware("pea") == PEA


WRONG_TYPE = json.dumps({**dataclasses.asdict(PEA), "cpu_flags": [], "memory_mib": "many"})


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", WRONG_TYPE, '{"cpu_flags": 3}', '{"cpu_flags": [], "of_a_later_version": 1}'])
def test_hardware_that_cannot_be_understood_is_unknown(state: FleetState, text: str) -> None:
    (state.directory("hardware") / "pea.json").write_text(text)
    assert state.hardware("pea") is None


@pytest.mark.parametrize("call", ["fsync", "fchmod"])
def test_a_write_that_fails_leaves_the_old_file_and_no_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "kept"
    path.write_text("old")
    before = sorted(tmp_path.iterdir())
    monkeypatch.setattr(os, call, full)
    with pytest.raises(PaddockError, match="kept: cannot be written: No space left on device"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert sorted(tmp_path.iterdir()) == before


def test_an_exclusive_write_never_replaces(tmp_path: Path) -> None:
    write_atomically(tmp_path / "ca.pem", "first", exclusive=True)
    with pytest.raises(FileExistsError):
        write_atomically(tmp_path / "ca.pem", "second", exclusive=True)
    assert (tmp_path / "ca.pem").read_text() == "first"


def test_the_state_is_read_without_loading_what_only_issuing_needs() -> None:
    script = "import control.state.fleet, control.state.lock, control.deployment.knowledge, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3])
    loaded = set(done.stdout.split())
    assert "control.deployment.knowledge" in loaded
    assert not loaded & {"cryptography", "pyrage", "pyinfra", "requests"}
