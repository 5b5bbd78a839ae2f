"""Connections by every way that there is to a host: SSH servers in this process, a real agent, real key files."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import pytest

from control.ssh.run import Run, connected  # isort: skip - first of all, for gevent
from control.ssh.failures import LOST
from control.ssh.host_keys import pin_all
from control.ssh.links import Links
from control.state.fleet import FleetState
from inventory.errors import PaddockError
from inventory.fleet import Host
from tests.unit.control.loopback import Served, served

Serve = Callable[..., Served]

RELAY = """
import socket, sys, threading
there = socket.create_connection((sys.argv[1], int(sys.argv[2])))
def carry(read, write):
    while data := read():
        write(data)
threading.Thread(target=carry, args=(lambda: sys.stdin.buffer.raw.read(65536), there.sendall), daemon=True).start()
carry(lambda: there.recv(65536), lambda data: (sys.stdout.buffer.write(data), sys.stdout.buffer.flush()))
"""


@pytest.fixture
def serve() -> Iterator[Serve]:
    with ExitStack() as stack:
        yield lambda *keys, **options: stack.enter_context(served(*keys, **options))


@pytest.fixture
def config(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """~/.ssh/config, and a ~/.ssh without keys."""
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    (home / ".ssh").mkdir()
    return home / ".ssh" / "config"


@pytest.fixture
def agent(tmp_path: Path, config: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], None]]:
    """A real ssh-agent; what is called with a key hands it over."""
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(tmp_path / "agent")], stdout=subprocess.DEVNULL)
    while not (tmp_path / "agent").exists():
        time.sleep(0.01)
    yield lambda key: subprocess.run(["ssh-add", "-q", str(key)], check=True) and None
    process.terminate()
    process.wait()


def new_key(path: Path, passphrase: str = "") -> str:
    """Makes a key pair, and gives the public half in base64."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", str(path)], check=True)
    return path.with_name(f"{path.name}.pub").read_text().split()[1]


def fleet(**hosts: Mapping[str, Any]) -> dict[str, Host]:
    return {name: Host.model_validate({"name": name, **said}) for name, said in hosts.items()}


def at(host: Served, **more: Any) -> dict[str, Any]:
    return {"address": host.address, "port": host.port, "host_key": host.key, **more}


def reached(hosts: dict[str, Host], state: FleetState, *, of: tuple[str, ...] = (), script: str = "echo $((6 * 7))") -> Run:
    """A run that has connected to the hosts and asked them; those that answered have said 42."""
    links = Links(hosts, state)
    run = Run({name: host for name, host in hosts.items() if not of or name in of}, links)
    run.failures.update(pin_all(run.hosts.values(), links, lambda question: True))
    run.connect()
    said = run.said(dict.fromkeys(set(run.hosts) - set(run.failures), ""))
    answers = run.of_each([name for name in run.hosts if name not in run.failures], lambda target: target.run_shell_command(script))
    run.disconnect()
    assert said.keys() == answers.keys(), run.failures
    assert {name: output.stdout_lines for name, (_, output) in answers.items()} == {name: ["42"] for name in said}
    assert not said.keys() & run.failures.keys() and said.keys() | run.failures.keys() == run.hosts.keys()
    return run


def test_a_host_is_reached_through_another_of_the_fleet_and_both_are_pinned(config: Path, state: FleetState, serve: Serve) -> None:
    gate, ai = serve(), serve()
    hosts = fleet(gate=at(gate), ai=at(ai, via="gate"))
    assert reached(hosts, state, of=("ai",)).failures == {}
    assert set(gate.host.forwarded.values()) == {("127.0.0.1", ai.port)}
    assert (state.pinned("gate"), state.pinned("ai")) == (gate.key, ai.key)


def test_hosts_behind_one_bastion_share_a_connection_to_it(config: Path, state: FleetState, serve: Serve) -> None:
    gate, behind = serve(), [serve() for _ in range(5)]
    hosts = fleet(gate=at(gate), **{f"pea{number}": at(each, via="gate") for number, each in enumerate(behind)})
    assert reached(hosts, state, of=tuple(hosts)[1:]).failures == {}
    assert len(gate.connections) == 1 and len(gate.host.forwarded) == 5


def test_a_bastion_that_is_no_host_of_the_fleet_is_met_and_pinned_as_hosts_are(config: Path, state: FleetState, serve: Serve) -> None:
    outer, inner, ai = serve(), serve(), serve()
    config.write_text(f"Host inner\n HostName 127.0.0.1\n Port {inner.port}\n ProxyJump 127.0.0.1:{outer.port}\n")
    hosts = fleet(ai={"address": "127.0.0.1", "port": ai.port, "via": "admin@inner"})
    asked: list[str] = []
    links = Links(hosts, state)
    assert pin_all(hosts.values(), links, lambda question: bool(asked.append(question)) or True) == {}
    links.close()
    assert [question.partition(" shows the key ecdsa-sha2-nistp256 SHA256:")[0] for question in asked] == [
        f"root@127.0.0.1:{outer.port}, a bastion,",
        f"admin@127.0.0.1:{inner.port}, a bastion,",
        "ai: 127.0.0.1",
    ]
    pinned = {line.split()[0]: " ".join(line.split()[1:3]) for line in state.known_hosts.read_text().splitlines()}
    assert pinned == {f"[127.0.0.1]:{outer.port}": outer.key, f"[127.0.0.1]:{inner.port}": inner.key, "ai": ai.key}
    assert reached(hosts, state).failures == {}


def test_who_does_not_accept_a_bastions_key_meets_nobody_behind_it(config: Path, state: FleetState, serve: Serve) -> None:
    outer, ai = serve(), serve()
    hosts = fleet(ai={"address": "127.0.0.1", "port": ai.port, "via": f"admin@127.0.0.1:{outer.port}"})
    failures = pin_all(hosts.values(), Links(hosts, state), lambda question: False)
    assert failures["ai"].startswith(f"the way there ends at admin@127.0.0.1:{outer.port}: its host key was not accepted (SHA256:")
    assert ai.connections == [] and not state.known_hosts.exists()


def test_another_key_of_a_host_behind_a_bastion_stops_before_anything_is_sent(config: Path, state: FleetState, serve: Serve) -> None:
    key = new_key(config.parent / "id_ed25519")
    gate, ai, impostor = serve(key), serve(key), serve(key)
    hosts = fleet(gate=at(gate), ai=at(ai, via="gate", port=impostor.port))
    failures = reached(hosts, state, of=("ai",)).failures
    assert failures["ai"].startswith(f"root@127.0.0.1:{impostor.port} does not present the pinned host key, so nothing was sent")
    assert gate.host.offered and not impostor.host.offered


def test_another_key_of_the_bastion_stops_before_anything_is_sent_to_either(config: Path, state: FleetState, serve: Serve) -> None:
    key = new_key(config.parent / "id_ed25519")
    gate, ai, impostor = serve(key), serve(key), serve(key)
    hosts = fleet(gate=at(gate, port=impostor.port), ai=at(ai, via="gate"))
    failures = reached(hosts, state, of=("ai",)).failures
    where = f"root@127.0.0.1:{impostor.port}"
    assert failures["ai"].startswith(f"the way there ends at {where}: {where} does not present the pinned host key")
    assert not impostor.host.offered and not ai.connections


def test_a_bastion_that_forwards_nothing_is_told_in_words(config: Path, state: FleetState, serve: Serve) -> None:
    hosts = fleet(gate=at(serve(forwards=False)), ai=at(serve(), via="gate"))
    failures = reached(hosts, state, of=("ai",)).failures
    assert failures["ai"].endswith("cannot be reached: gate, its bastion, forwards nothing: allow it there with `AllowTcpForwarding local`")


def test_what_a_host_sends_through_a_bastion_is_bounded_before_anybody_knows_it(config: Path, state: FleetState, serve: Serve) -> None:
    gate, sent = serve(), [0]

    def babble(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with closing(connection), suppress(OSError):
            while sent[0] < 256 << 20:
                connection.sendall(bytes(1 << 16))
                sent[0] += 1 << 16

    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        threading.Thread(target=babble, args=(listener,), daemon=True).start()
        hosts = fleet(gate=at(gate), ai={"address": "127.0.0.1", "port": listener.getsockname()[1], "via": "gate"})
        failures = pin_all([hosts["ai"]], Links(hosts, state), lambda question: pytest.fail(question))
    assert "its greeting is longer than 64 KiB" in failures["ai"] and sent[0] < 32 << 20


def test_a_proxycommand_of_ssh_config_carries_the_connection(config: Path, state: FleetState, serve: Serve, tmp_path: Path) -> None:
    ai, impostor = serve(), serve()
    (tmp_path / "relay.py").write_text(RELAY)
    config.write_text(f"Host ai\n HostName 192.0.2.10\n ProxyCommand {sys.executable} {tmp_path}/relay.py 127.0.0.1 {ai.port}\n")
    assert reached(fleet(ai={"address": "ai"}), state).failures == {}
    config.write_text(config.read_text().replace(str(ai.port), str(impostor.port)))
    assert "does not present the pinned host key" in reached(fleet(ai={"address": "ai"}), state).failures["ai"]


def test_a_proxycommand_that_fails_is_told_with_its_last_words(config: Path, state: FleetState) -> None:
    config.write_text("Host ai\n HostName 192.0.2.10\n ProxyCommand echo no token for %h >&2\n")
    failures = reached(fleet(ai={"address": "ai"}), state).failures
    told = "cannot be reached: its ProxyCommand, `echo no token for 192.0.2.10 >&2`, ended: no token for 192.0.2.10"
    assert failures["ai"] == f"root@192.0.2.10:22 {told}"


def test_who_falls_silent_behind_a_proxycommand_is_given_up(
    config: Path, state: FleetState, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel knows nothing of it: what carries the bytes is there."""
    for name, seconds in (("KEEPALIVE_S", 0.2), ("DEAD_AFTER_S", 1)):
        monkeypatch.setattr(f"control.ssh.links.{name}", seconds)
    (tmp_path / "relay.py").write_text(RELAY)
    config.write_text(f"Host ai\n ProxyCommand {sys.executable} {tmp_path}/relay.py 127.0.0.1 {serve().port}\n")
    hosts = fleet(ai={"address": "ai"})
    links = Links(hosts, state)
    run = Run(hosts, links)
    assert pin_all(hosts.values(), links, lambda question: True) == {}
    run.connect()
    carrying = links._commands[-1].pid
    threading.Timer(1, lambda: os.kill(carrying, signal.SIGSTOP)).start()
    began = time.monotonic()
    assert run.of_each(hosts, lambda target: (target.run_shell_command("sleep 60")[0], connected(target))) == {"ai": (False, False)}
    assert time.monotonic() - began < 20
    os.kill(carrying, signal.SIGCONT)
    run.disconnect()


def test_an_address_of_a_link_is_reached_by_its_interface(config: Path, state: FleetState, serve: Serve) -> None:
    """Link-local addresses lead nowhere without one; loopback has none, and takes the number of its interface."""
    zone = f"::1%{socket.if_nametoindex('lo')}"
    ai = serve(address="::1")
    assert reached(fleet(gate=at(ai, address=zone), ai=at(serve(), via="gate")), state).failures == {}
    assert state.known_hosts.read_text().splitlines()[0].split()[0] == f"[{zone}]:{ai.port}"


# Keys


def test_the_agent_has_the_key(config: Path, state: FleetState, serve: Serve, agent: Callable[[Path], None], tmp_path: Path) -> None:
    key = new_key(tmp_path / "key")
    agent(tmp_path / "key")
    assert reached(fleet(ai=at(serve(key))), state).failures == {}


def test_of_many_keys_of_the_agent_the_one_that_is_meant_goes_first(
    config: Path, state: FleetState, serve: Serve, agent: Callable[[Path], None], tmp_path: Path
) -> None:
    keys = [new_key(tmp_path / f"key{number}") for number in range(4)]
    for number in range(4):
        agent(tmp_path / f"key{number}")
    config.write_text(f"Host *\n IdentityFile {tmp_path}/key2\n")
    ai = serve(keys[2])
    assert reached(fleet(ai=at(ai)), state).failures == {}
    assert ai.host.offered[0] == f"root {keys[2]}"
    bean = serve(keys[3])
    assert reached(fleet(bean=at(bean)), state).failures == {}
    config.write_text(f"Host *\n IdentityFile {tmp_path}/key2\n IdentitiesOnly yes\n")
    assert "refused the keys of your agent and ~/.ssh" in reached(fleet(bean=at(bean)), state).failures["bean"]


def test_a_host_that_ends_the_connection_after_some_keys_is_offered_the_others(
    config: Path, state: FleetState, serve: Serve, agent: Callable[[Path], None], tmp_path: Path
) -> None:
    keys = [new_key(tmp_path / f"key{number}") for number in range(14)]
    for number in range(14):
        agent(tmp_path / f"key{number}")
    ai = serve(keys[-1])  # paramiko's server ends it after ten
    assert reached(fleet(ai=at(ai)), state).failures == {}
    assert len(ai.connections) == 2 and len(ai.host.offered) == len(set(ai.host.offered))


def test_a_named_key_with_a_passphrase_is_the_agents_business_and_no_other_is_tried(
    config: Path, state: FleetState, serve: Serve, tmp_path: Path, agent: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    new_key(config.parent / "id_ed25519")
    locked = new_key(tmp_path / "locked", "a passphrase")
    ai = serve(locked)
    hosts = fleet(ai=at(ai, ssh_key=str(tmp_path / "locked")))
    assert reached(hosts, state).failures["ai"].endswith(f"with `ssh-add {tmp_path}/locked`") and not ai.connections
    behind = fleet(gate=hosts["ai"].model_dump(exclude={"name", "groups"}, exclude_unset=True), bean=at(serve(locked), via="gate"))
    where = f"root@127.0.0.1:{ai.port}"
    assert reached(behind, state, of=("bean",)).failures["bean"].startswith(f"the way there ends at {where}: the key {tmp_path}/locked has")
    asks = tmp_path / "asks"
    asks.write_text("#!/bin/sh\necho a passphrase\n")
    asks.chmod(0o700)
    environment = {**os.environ, "SSH_ASKPASS": str(asks), "SSH_ASKPASS_REQUIRE": "force"}
    subprocess.run(["ssh-add", "-q", str(tmp_path / "locked")], env=environment, check=True, stdin=subprocess.DEVNULL)
    assert reached(hosts, state).failures == {}
    assert set(ai.host.offered) == {f"root {locked}"}


def test_a_key_of_a_token_is_the_agents_business(config: Path, state: FleetState, serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n")
    (tmp_path / "token.pub").write_text("sk-ssh-ed25519@openssh.com AAAA me\n")
    failures = reached(fleet(ai=at(serve("none"), ssh_key=str(tmp_path / "token"))), state).failures
    assert (
        failures["ai"] == f"the key {tmp_path}/token lies in a FIDO token: hand it to your SSH agent first, with `ssh-add {tmp_path}/token`"
    )


def test_an_agent_that_ssh_config_names_is_asked(
    config: Path, state: FleetState, serve: Serve, agent: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = new_key(tmp_path / "key")
    agent(tmp_path / "key")
    config.write_text(f"Host *\n IdentityAgent {os.environ['SSH_AUTH_SOCK']}\n")
    monkeypatch.delenv("SSH_AUTH_SOCK")
    assert reached(fleet(ai=at(serve(key))), state).failures == {}


# A host that goes away in the middle of a run

DEPLOY = """
from pyinfra import host
from pyinfra.operations import server

from deploys.applying import stage

stage(name="first")
server.shell(name="work", commands=[host.data.work])
stage(name="done")
server.shell(name="after", commands=["echo after"])
"""


@pytest.mark.parametrize("behind", [False, True], ids=["directly", "behind a bastion"])
def test_a_host_that_goes_away_fails_and_the_one_beside_it_is_finished(
    config: Path, state: FleetState, serve: Serve, tmp_path: Path, behind: bool
) -> None:
    gate, one, two = serve(), serve(), serve()
    via = {"via": "gate"} if behind else {}
    hosts = fleet(gate=at(gate), one=at(one, **via), two=at(two, **via))
    links = Links(hosts, state)
    run = Run({name: hosts[name] for name in ("one", "two")}, links)
    assert pin_all(run.hosts.values(), links, lambda question: False) == {}
    run.connect()
    (tmp_path / "deploy.py").write_text(DEPLOY)
    threading.Timer(1, one.die).start()
    run.carry_out(tmp_path / "deploy.py", {"one": "sleep 20", "two": f"sleep 2; touch {tmp_path}/finished"})
    assert run.failures == {"one": f"work: {LOST}"}
    assert (tmp_path / "finished").exists()
    assert run.said({"one": "", "two": ""}).keys() == {"two"}
    run.disconnect()


def test_a_host_that_goes_away_between_two_commands_fails_in_words(config: Path, state: FleetState, serve: Serve) -> None:
    one, two = serve(), serve()
    hosts = fleet(one=at(one), two=at(two))
    links = Links(hosts, state)
    run = Run(hosts, links)
    assert pin_all(hosts.values(), links, lambda question: False) == {}
    run.connect()
    one.die()
    assert run.said(dict.fromkeys(hosts, "")).keys() == {"two"}
    run.disconnect()


def test_what_ends_a_command_early_is_no_end_of_the_run(
    config: Path, state: FleetState, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """paramiko raises EOFError where it cannot send any more of a file."""
    from pyinfra.connectors.ssh import SSHConnector

    def ends(*arguments: Any, **options: Any) -> None:
        raise EOFError

    hosts = fleet(one=at(serve()))
    links = Links(hosts, state)
    run = Run(hosts, links)
    assert pin_all(hosts.values(), links, lambda question: False) == {}
    run.connect()
    for act in ("run_shell_command", "put_file", "get_file"):
        monkeypatch.setattr(SSHConnector, act, ends)
        with pytest.raises(Exception, match="the connection was lost") as raised:
            getattr(next(iter(run.pyinfra.inventory)), act)("x", "y")
        assert not isinstance(raised.value, EOFError | PaddockError)
    run.disconnect()
