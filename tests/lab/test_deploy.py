"""The demo comes up: it answers whom it is to answer and nobody else, opens nothing undeclared, and a second `up` does nothing."""

from __future__ import annotations

import os
import pty
import re
import socket
import ssl
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from conftest import Story
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from watch import Socket, scan

from tests.lab_fleet import ROOT
from tests.share import turn

pytestmark = turn(2, of=3)

SSHD = [Socket("tcp", "0.0.0.0", 22, 0), Socket("tcp", "::", 22, 0)]


def test_what_up_prints_at_its_end_is_a_completion_through_mtls(story: Story) -> None:
    story.begin()
    printed = story.first.stdout.partition("\nchat:\n")[2]
    answer = subprocess.run(["sh", "-c", printed], capture_output=True, text=True)
    print(answer.stdout, flush=True)
    assert answer.returncode == 0, answer.stderr
    assert '"object":"chat.completion"' in answer.stdout
    assert '"finish_reason"' in answer.stdout


def test_without_a_certificate_the_same_request_is_refused_in_the_handshake(story: Story) -> None:
    story.begin()
    assert_refused(story, None, "certificate.required|bad.certificate")


def test_with_a_certificate_of_another_ca_the_same_request_is_refused_in_the_handshake(story: Story, tmp_path: Path) -> None:
    story.begin()
    assert_refused(story, of_another_ca(tmp_path), "unknown.ca|bad.certificate")


def assert_refused(story: Story, certificate: tuple[Path, Path] | None, reason: str) -> None:
    answer = story.ask("ai.home.example", "demo", at="ai", certificate=certificate)
    assert answer.returncode != 0 and answer.stdout == "", "something was answered"
    # Under TLS 1.2 the handshake itself fails; under 1.3 the client has done its part by then, and hears of it at its first read.
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = ssl.create_default_context(cafile=str(story.ca))
        context.minimum_version = context.maximum_version = version
        if certificate:
            context.load_cert_chain(*certificate)
        with (
            socket.create_connection((story.address("ai"), 443)) as stream,
            pytest.raises(ssl.SSLError) as refused,
            context.wrap_socket(stream, server_hostname="ai.home.example") as secured,
        ):
            assert version is ssl.TLSVersion.TLSv1_3, "the handshake was let through"
            secured.recv(1)
        print(f"{version.name}: {refused.value.reason}", flush=True)
        assert re.search(reason, str(refused.value.reason), re.IGNORECASE), refused.value


def of_another_ca(directory: Path) -> tuple[Path, Path]:
    """A client certificate like the fleet's own, but for who signed it."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "laptop")])
    ca = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "another CA")])
    builder = x509.CertificateBuilder(ca, name, key.public_key(), 1, now - timedelta(minutes=5), now + timedelta(days=1))
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
    certificate = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    cert_path, key_path = directory / "cert.pem", directory / "key.pem"
    cert_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return cert_path, key_path


DECLARED = {
    "ai": {
        ("tcp", "127.0.0.1", 8080),
        ("tcp", "0.0.0.0", 443),
        ("tcp", "0.0.0.0", 80),
    },
    "door": {("tcp", "::", 8081), ("tcp", "127.0.0.1", 2019)},  # both are there before Paddock comes
}
REACHABLE = {"ai": {22, 80, 443}, "door": {22, 8081}}


@pytest.mark.parametrize("host", ["ai", "door"])
def test_while_the_first_up_runs_nothing_listens_but_what_is_declared(story: Story, host: str) -> None:
    watched = story.watched[host]
    workers = int(story.inside(host, "id -u llama-server 2>/dev/null || echo -1"))
    seen = {each for each in watched.listened if each not in SSHD and not (each.is_local and each.uid == workers and each.port > 32767)}
    print(f"{host}: {watched.looks} looks, {watched.scans} scans from outside; listening: {sorted(watched.listened)}", flush=True)
    assert watched.looks > 100
    assert {(each.protocol, each.address, each.port) for each in seen} == DECLARED[host]


@pytest.mark.parametrize("host", ["ai", "door"])
def test_while_the_first_up_runs_nothing_answers_from_outside_but_what_is_declared(story: Story, host: str) -> None:
    watched = story.watched[host]
    print(f"{host}: {watched.scans} scans; answered: {sorted(watched.answered)}", flush=True)
    assert watched.scans > 0
    assert watched.answered == REACHABLE[host] - {22}


@pytest.mark.parametrize("host", ["ai", "door"])
def test_of_all_ports_only_the_declared_ones_answer_from_outside(story: Story, host: str) -> None:
    story.begin()
    assert scan(story.address(host), range(1, 65536)) == REACHABLE[host]


def test_a_second_up_changes_nothing_with_one_connection_and_one_command_a_host(story: Story) -> None:
    story.begin()
    before = {host: (sshd_log(story, host), accepted_connections(story, host)) for host in ("ai", "door")}
    again = story.fleet.up()
    print(again.stdout, flush=True)
    for host, (log, connections) in before.items():
        assert re.search(rf"^{host} +0 changed ", again.stdout, re.MULTILINE), again.stdout
        told = sshd_log(story, host)[len(log) :]
        print(host, *told, sep="\n  ", flush=True)
        assert len([line for line in told if "Accepted publickey for" in line]) == 1
        assert len([line for line in told if "Starting session" in line]) == 1
        assert len([line for line in told if "Starting session: command" in line]) == 1
        assert accepted_connections(story, host) - connections == 1


@pytest.mark.parametrize("answer", ["", "n\n"], ids=["nobody is there", "no"])
def test_up_asks_before_it_changes_anything(story: Story, answer: str) -> None:
    inventory = story.begin()
    before = {host: story.snapshot(host) for host in ("ai", "door")}
    inventory["models"]["demo"]["preset"]["ctx-size"] = 1024
    inventory["models"]["second"] = {"source": "tiny"}
    inventory["hosts"]["ai"]["roles"]["llama_server"]["models"] = ["demo", "second"]
    story.write(inventory)
    ours, theirs = pty.openpty()
    try:
        os.write(ours, answer.encode())
        done = subprocess.run(
            story.fleet.command("up", "--lab"),
            cwd=ROOT,
            stdin=theirs if answer else subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
    finally:
        os.close(ours)
        os.close(theirs)
    print(done.stdout, done.stderr, flush=True)
    assert "  ~ file:/etc/paddock/llama-server/presets.ini  content\n" in done.stdout
    assert "  + model:/var/lib/paddock/models/second.gguf\n" in done.stdout
    if answer:
        assert "Make it so? [y/N] " in done.stdout
        assert (done.returncode, done.stderr) == (1, "nothing was changed\n")
    else:
        refused = "there is no terminal to ask: `paddock plan` shows what would change, `paddock up --yes` does it\n"
        assert (done.returncode, done.stderr) == (2, refused)
    assert {host: story.snapshot(host) for host in ("ai", "door")} == before


def sshd_log(story: Story, host: str) -> list[str]:
    """What the host's sshd has told: who came in, and each session that was started: a command, a shell or a subsystem."""
    return story.inside(
        host, "journalctl --sync; journalctl -q -o cat _COMM=sshd + _COMM=sshd-session + SYSLOG_IDENTIFIER=sshd-session"
    ).splitlines()


def accepted_connections(story: Story, host: str) -> int:
    """How many TCP connections the host's kernel has ever taken, on any port."""
    names, values = (line.split() for line in story.inside(host, "grep ^Tcp: /proc/net/snmp").splitlines())
    return int(values[names.index("PassiveOpens")])
