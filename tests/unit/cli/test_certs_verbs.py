"""`paddock certs`, as far as it goes without a host: what is kept, what is said, and what is refused in one line."""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import pkcs12

from cli import main
from cli.certs.admission import clients
from cli.certs.renew import holders
from control.lifecycle.history import History
from control.pki.authority import Authority
from control.state.fleet import FleetState
from control.state.lineage import told_hosts
from control.state.secrets import Vault
from inventory.errors import PaddockError
from inventory.load import load

ROOT = Path(__file__).parents[3]

INVENTORY = """\
fleet: home
domain: home.example
hosts:
  door:
    address: 127.0.0.1
    port: 1                     # nobody answers here
    roles:
      llama_cpp: {source: {sdist: "llama-cpp-python==0.3.36"}}
      models:
      llama_server: {models: [chat]}
      caddy: {sites: {ai.home.example: {upstream: door}}}
models:
  chat:
clients:
  laptop:                       # Ann's
  phone: {days: 30}
"""

Certs = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def certs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Certs:
    """`certs("list")`, called in a directory with an inventory; nobody is at the terminal."""
    (tmp_path / "home.yml").write_text(INVENTORY)
    for name in [name for name in os.environ if name.startswith("PADDOCK_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    progress = logging.getLogger("paddock.progress")  # the command speaks through it, to an output that is gone after the test
    for name in ("handlers", "propagate", "level"):
        monkeypatch.setattr(progress, name, getattr(progress, name))

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        capsys.readouterr()
        code = main(["certs", *arguments, "-i", "home.yml"])
        out, err = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, code, out, err)

    return call


@pytest.fixture
def issued(certs: Certs) -> Certs:
    assert certs("renew", "--no-push").returncode == 0
    return certs


def told(done: subprocess.CompletedProcess[str]) -> str:
    """The one line of an error."""
    assert done.returncode in (1, 2) and "Traceback" not in done.stderr, done.stderr
    return done.stderr.strip().splitlines()[-1]


def rows(certs: Certs) -> dict[str, str]:
    """The status by name, of a client with several certificates that of the one in use."""
    return {each["name"]: each["status"] for each in reversed(json.loads(certs("list", "--json").stdout))}


def test_the_list_says_who_holds_what_until_when_and_where_it_is(issued: Certs) -> None:
    ca, server, laptop, phone = json.loads(issued("list", "--json").stdout)
    assert (ca["kind"], ca["status"], ca["days_left"]) == ("CA", "signs", 3651)
    assert (server["name"], server["where"], server["days_left"]) == ("ai.home.example", ["door"], 89)
    assert (laptop["name"], laptop["where"], laptop["days_left"]) == ("laptop", ["ai.home.example"], 179)
    assert (phone["name"], phone["status"], phone["days_left"]) == ("phone", "in use", 29)
    assert phone["issuer"] == ca["name"] and re.fullmatch(r"[0-9a-f]{32}", phone["serial"])
    text = issued("list").stdout
    assert phone["serial"] in text and text.splitlines()[0].split() == [
        "kind",
        "name",
        "serial",
        "valid",
        "until",
        "days",
        "status",
        "where",
    ]


def test_before_anything_is_issued_the_list_says_what_will_be(certs: Certs, tmp_path: Path) -> None:
    assert set(rows(certs).values()) == {"to be issued"}
    assert not (tmp_path / ".paddock").exists()


def test_issue_puts_a_new_client_into_the_inventory_and_keeps_its_comments(issued: Certs, tmp_path: Path) -> None:
    before = (tmp_path / "home.yml").read_text()
    refused = issued("issue", "tablet", "--no-push")
    assert "`--yes` writes it into the inventory" in told(refused) and refused.returncode == 2
    assert (tmp_path / "home.yml").read_text() == before
    done = issued("issue", "tablet", "--days", "60", "--admin", "--yes", "--no-push")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "home.yml").read_text() == before + "  tablet: {days: 60, admin: true}\n"
    assert rows(issued)["tablet"] == "in use"
    assert "client tablet: is already admitted" in issued("issue", "tablet", "--no-push").stdout


@pytest.mark.parametrize(
    ("arguments", "words"), [(("Ann",), "Ann"), (("tablet", "--days", "900"), "days"), (("tablet", "--days", "x"), "days")]
)
def test_issue_refuses_what_the_inventory_would(issued: Certs, tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    done = issued("issue", *arguments, "--yes", "--no-push")
    assert words in told(done) and done.returncode == 2
    assert (tmp_path / "home.yml").read_text() == INVENTORY


def test_a_revoked_client_stays_out_until_it_is_issued_one_again(issued: Certs) -> None:
    assert "client phone: revoked" in issued("revoke", "phone", "--no-push").stdout
    assert "was revoked already" in issued("revoke", "phone", "--no-push").stdout
    issued("renew", "--all", "--no-push")
    assert rows(issued)["phone"].startswith("revoked on")
    assert "is revoked: `paddock certs issue phone`" in told(issued("renew", "phone", "--no-push"))
    assert "`paddock certs issue phone` admits it again" in told(issued("export", "phone"))
    assert issued("issue", "phone", "--no-push").returncode == 0
    assert rows(issued)["phone"] == "in use"


def test_who_was_thrown_out_is_in_the_history_once_hosts_know_the_state(issued: Certs, tmp_path: Path) -> None:
    state = FleetState.of(tmp_path / "home.yml", "home")
    issued("revoke", "laptop", "--no-push")
    assert not History(state).numbers(), "no host knows the state yet"
    told_hosts(state)
    issued("revoke", "phone", "--no-push")
    issued("revoke", "phone", "--no-push")
    issued("renew", "--no-push")
    (found,) = History(state).newest(pytest.fail)
    assert (found.verb, found.outcome, found.hosts) == ("certs revoke", "done", {})
    assert found.words == ("client phone: revoked, and stays so until `paddock certs issue phone`",)


def test_a_renewal_leaves_the_one_before_good_until_that_is_thrown_out(issued: Certs) -> None:
    issued("renew", "laptop", "--no-push")
    statuses = [each["status"] for each in json.loads(issued("list", "--json").stdout) if each["name"] == "laptop"]
    assert statuses == ["in use", "earlier, still let in"]
    issued("revoke", "laptop", "--earlier", "--no-push")
    assert rows(issued)["laptop"] == "in use"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("revoke", "fone"), 'client fone: has no certificate that could be revoked (did you mean "phone"?)'),
        (
            ("renew", "fone"),
            'fone: no client, site or host of home.yml that the fleet signs for has that name (did you mean "phone"?)',
        ),
        (("revoke", "../client/phone"), '"../client/phone" cannot be the name of a client'),
        (("issue", ""), '"" cannot be the name of a client'),
        (("export", "fone"), 'no client of home.yml is called fone (did you mean "phone"?)'),
        (("renew", "--all", "phone"), "--all is every client, site and host: leave the names out"),
        (("export", "phone", "--archive", "x.tar.gz", "--p12"), "--archive contains all formats: leave --to, --p12 and --legacy out"),
        (("export", "phone", "--site", "ai.home.example"), "--site works only with --archive"),
        (
            ("export", "phone", "--archive", "x.tar.gz", "--site", "no.home.example"),
            "no.home.example does not admit phone: ai.home.example does",
        ),
        (("export", "phone", "--qr"), "--qr shows the password of a PKCS#12 file: give --p12 too"),
        (("import", "--ca", "nowhere.pem"), "nowhere.pem: there is no such file"),
        (("import", "--ca", "home.yml"), "home.yml: is not a CA certificate in PEM"),
        (("import", "--ca", "home.yml", "--client", "laptop"), "--client laptop: is not NAME=FILE, such as laptop=client.crt"),
        (("import", "--ca", "home.yml", "--ca-key", "home.yml"), "home.yml: is not an RSA or elliptic-curve private key in PEM"),
        (("roll-over", "begin", "--force"), "--force works only with `finish`"),
        (("roll-over", "switch", "--clock-is-right"), "--clock-is-right works only with `begin`"),
        (("roll-over", "switch"), "there is no next CA: `paddock certs roll-over begin` makes one"),
    ],
)
def test_a_mistake_is_told_in_one_line(issued: Certs, arguments: tuple[str, ...], words: str) -> None:
    assert words in told(issued(*arguments))


def test_who_cannot_be_reached_is_named_and_the_state_says_it_all_the_same(issued: Certs) -> None:
    command = [sys.executable, "-m", "cli", "certs", "revoke", "phone", "-i", "home.yml"]  # a process of its own: pyinfra drives one run
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "door: " in done.stderr and "not on door: the next `paddock up` does it there" in done.stderr
    assert rows(issued)["phone"].startswith("revoked on")


def test_what_was_made_under_a_clock_that_was_ahead_stops_every_issue_until_the_clock_is_said_to_be_right(
    issued: Certs, tmp_path: Path
) -> None:
    """To this machine, its own clock is now 200 days behind."""
    fleet = load(tmp_path / "home.yml")
    state = FleetState.of(tmp_path / "home.yml", fleet.name)
    Authority(state, Vault(state)).renew(fleet, ["laptop"], datetime.now(UTC) + timedelta(days=200))
    before = {path: path.read_bytes() for path in state.path.rglob("*") if path.is_file() and path.name != "lock"}
    for verb in (("renew",), ("renew", "--all"), ("renew", "phone"), ("issue", "tablet", "--yes")):
        done = issued(*verb, "--no-push")
        assert done.returncode == 1 and "the newest certificate, of client laptop, begins on" in told(done)
        assert "`paddock certs renew --clock-is-right`" in told(done) and "the hosts are not updated yet" not in done.stdout
    assert "nothing was signed" in told(issued("roll-over", "begin"))
    assert {path: path.read_bytes() for path in before} == before and (tmp_path / "home.yml").read_text() == INVENTORY
    done = issued("renew", "--clock-is-right", "--no-push")
    assert done.returncode == 0 and "client laptop: not valid before" in done.stdout
    statuses = [each["status"] for each in json.loads(issued("list", "--json").stdout) if each["name"] == "laptop"]
    assert statuses == ["in use", "earlier, still let in"]
    assert issued("renew", "phone", "--no-push").returncode == 0


def test_hosts_that_say_another_time_are_heard_before_a_roll_over_begins(
    issued: Certs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def another(*_: object, **__: object) -> None:
        raise PaddockError("hosts say another time than this machine")

    monkeypatch.setattr("control.deployment.admission.require_time", another)
    assert told(issued("roll-over", "begin")) == "hosts say another time than this machine"
    assert [each["kind"] for each in json.loads(issued("list", "--json").stdout)].count("CA") == 1


def test_a_roll_over_says_what_comes_next(issued: Certs) -> None:
    for step, words in (("begin", "paddock certs roll-over switch"), ("switch", "paddock certs roll-over finish")):
        done = issued("roll-over", step)
        assert done.returncode == 0 and words in done.stdout
        assert f"`{words}`" in issued("list").stdout
    assert "`paddock up` issues new ones" in told(issued("roll-over", "finish"))
    issued("renew", "--no-push")
    refused = issued("roll-over", "finish")
    assert refused.returncode == 2 and "client phone: " in refused.stdout and "`--yes` shuts them out" in refused.stderr
    done = issued("roll-over", "finish", "--yes")
    assert done.returncode == 0 and "paddock up" in done.stdout
    assert len([each for each in json.loads(issued("list", "--json").stdout) if each["kind"] == "CA"]) == 1


def test_an_export_of_pem_files_shows_how_to_call(issued: Certs, tmp_path: Path) -> None:
    done = issued("export", "laptop", "--to", "out")
    assert done.returncode == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["ca.pem", "cert.pem", "key.pem"]
    assert "--cert " in done.stdout and "https://ai.home.example/v1/models" in done.stdout


@pytest.mark.parametrize("option", ["--p12", "--legacy"])
def test_a_sealed_export_shows_its_password_once_and_leaves_no_key_in_the_clear(issued: Certs, tmp_path: Path, option: str) -> None:
    passwords = set()
    for _ in range(2):
        done = issued("export", "laptop", option, "--to", "out")
        found = re.search(r"^  ([a-z0-9-]{34})$", done.stdout, re.MULTILINE)
        assert found, done.stdout + done.stderr
        passwords.add(found[1])
        sealed = tmp_path / "out" / "laptop.p12"
        assert sealed.stat().st_mode & 0o777 == 0o600 and sealed.parent.stat().st_mode & 0o777 == 0o700
        assert pkcs12.load_pkcs12(sealed.read_bytes(), found[1].encode()).key
    assert len(passwords) == 2
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["ca.pem", "laptop.p12"]
    assert not any(found[1].encode() in path.read_bytes() for path in (tmp_path / ".paddock").rglob("*") if path.is_file())


def test_an_archive_is_for_its_owner_alone(issued: Certs, tmp_path: Path) -> None:
    done = issued("export", "laptop", "--archive", "laptop.tar.gz")
    assert done.returncode == 0, done.stderr
    archive = tmp_path / "laptop.tar.gz"
    assert archive.stat().st_mode & 0o777 == 0o600
    with tarfile.open(archive) as tar:
        assert {"paddock-laptop/install.sh", "paddock-laptop/README.html"} <= set(tar.getnames())


def test_the_password_can_be_shown_to_a_camera(issued: Certs) -> None:
    done = issued("export", "laptop", "--p12", "--qr")
    assert done.returncode == 0 and "█" in done.stdout


def test_an_existing_ca_is_imported_with_its_client_and_a_warning(issued: Certs, tmp_path: Path) -> None:
    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=tmp_path, check=True, capture_output=True)

    openssl(
        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "root-ca.key", "-out", "root-ca.pem", "-subj", "/CN=Root", "-days", "99"
    )
    openssl("req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", "client.key", "-out", "client.csr", "-subj", "/CN=old")
    openssl("x509", "-req", "-in", "client.csr", "-CA", "root-ca.pem", "-CAkey", "root-ca.key", "-CAcreateserial", "-out", "client.crt")
    done = issued("import", "--ca", "root-ca.pem", "--client", "old-laptop=client.crt", "--yes", "--no-push")
    assert done.returncode == 0, done.stderr
    assert "has no name constraints" in done.stdout
    assert "old-laptop:" in (tmp_path / "home.yml").read_text()
    issued("renew", "--no-push")
    found = [(each["status"], each["issuer"]) for each in json.loads(issued("list", "--json").stdout) if each["name"] == "old-laptop"]
    assert [status for status, _ in found] == ["in use", "earlier, still let in"] and found[1][1] == "Root"
    encrypted = ["pkey", "-in", "root-ca.key", "-aes256", "-passout", "pass:secret", "-out", "sealed.key"]
    openssl(*encrypted)
    words = "sealed.key: has a password, and there is no terminal to ask for it"
    assert words in told(issued("import", "--ca", "root-ca.pem", "--ca-key", "sealed.key"))
    assert "signs from now on" in issued("import", "--ca", "root-ca.pem", "--ca-key", "root-ca.key", "--no-push").stdout
    assert rows(issued)["Root"] == "signs, without name constraints"


def test_names_are_completed(issued: Certs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options = argparse.Namespace(inventory=Path("home.yml"))
    assert clients("", options) == ["laptop", "phone"]
    assert clients("p", options) == ["phone"]
    assert holders("", options) == ["ai.home.example", "laptop", "phone"]
