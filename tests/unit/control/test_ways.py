"""The way to a host: what the inventory says, and for the rest what ssh itself makes of ~/.ssh/config."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from control.ssh.ways import Way, Ways, options
from inventory.errors import PaddockError
from inventory.fleet import Host

Configure = Callable[[str], None]

KEY = "ssh-ed25519 " + "AAAA" + "B" * 64


@pytest.fixture
def configure(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Configure:
    """Writes ~/.ssh/config."""
    (home / ".ssh").mkdir()

    def write(text: str) -> None:
        (home / ".ssh" / "config").write_text(text)

    write("")
    return write


def way(configured: str = "ai", **hosts: Mapping[str, Any]) -> Way:
    made = {name.replace("_", "-"): Host.model_validate({"name": name.replace("_", "-"), **said}) for name, said in hosts.items()}
    return Ways(made).to(configured)


def test_without_a_configuration_the_inventory_is_all(configure: Configure) -> None:
    found = way(ai={"address": "192.0.2.10"})
    assert (found.address, found.port, found.user, found.via, found.command) == ("192.0.2.10", 22, "root", None, "")
    assert not found.becomes_root and found.known_as == "192.0.2.10"


def test_what_the_inventory_does_not_say_ssh_config_says(configure: Configure, home: Path) -> None:
    configure("Host ai.home.example\n HostName 192.0.2.10\n Port 2222\n User pi\n IdentityFile ~/.ssh/ai\n IdentitiesOnly yes\n")
    found = way(ai={"address": "ai.home.example"})
    assert (found.address, found.port, found.user) == ("192.0.2.10", 2222, "pi")
    assert found.keys == (str(home / ".ssh" / "ai"),) and found.only_keys
    assert found.becomes_root and found.known_as == "[192.0.2.10]:2222"


def test_what_the_inventory_says_goes_before(configure: Configure) -> None:
    configure("Host 192.0.2.10\n Port 2222\n User pi\n IdentityFile ~/.ssh/other\n ProxyJump nowhere.home.example\n")
    found = way(ai={"address": "192.0.2.10", "port": 22, "user": "root", "ssh_key": "/a/key", "via": "b@192.0.2.1:22"})
    assert (found.port, found.user, found.keys, found.only_keys) == (22, "root", ("/a/key",), True)
    assert found.via and found.via.where == "b@192.0.2.1:22"


def test_what_a_group_says_is_said(configure: Configure, tmp_path: Path) -> None:
    from inventory.load import load

    configure("Host *\n User pi\n Port 2222\n")
    hosts = "hosts:\n  ai: {address: 192.0.2.10}\n  pea: {address: 192.0.2.11, port: 22}\n"
    (tmp_path / "home.yml").write_text(f"fleet: home\ndomain: home.example\ndefaults: {{user: admin}}\n{hosts}")
    ways = Ways(load(tmp_path / "home.yml").hosts)
    assert [ways.to(name).where for name in ("ai", "pea")] == ["admin@192.0.2.10:2222", "admin@192.0.2.11:22"]


def test_include_and_match_mean_what_they_mean_to_ssh(configure: Configure, home: Path, tmp_path: Path) -> None:
    (tmp_path / "more").write_text("Match host ai.home.example user root\n  Port 2200\n")
    configure(f"Include {tmp_path}/more\nHost *\n  Port 22\n")
    assert way(ai={"address": "ai.home.example"}).port == 2200
    assert way(ai={"address": "ai.home.example", "user": "pi"}).port == 22


def test_proxyjump_names_the_machines_in_the_order_in_which_they_are_passed(configure: Configure) -> None:
    configure("Host ai\n ProxyJump a@outer.home.example:2201,inner\nHost inner\n HostName 192.0.2.2\n User b\n")
    found = way(ai={"address": "ai"})
    assert [each.where for each in found.bastions] == ["a@outer.home.example:2201", "b@192.0.2.2:22"]
    assert [each.name for each in found.bastions] == ["[outer.home.example]:2201", "[192.0.2.2]:22"]
    assert found.known_as == "ai", "two networks may have the same addresses"


def test_a_bastion_that_has_a_bastion_itself_is_reached_through_that(configure: Configure) -> None:
    configure("Host outer\n HostName 192.0.2.1\nHost inner\n HostName 192.0.2.2\n ProxyJump outer\n")
    found = way(ai={"address": "192.0.2.10", "via": "b@inner:22"})
    assert [each.where for each in found.bastions] == ["root@192.0.2.1:22", "b@192.0.2.2:22"]


def test_a_bastion_of_the_fleet_is_reached_as_that_host_is(configure: Configure) -> None:
    found = way(ai={"address": "192.0.2.10", "via": "gate"}, gate={"address": "192.0.2.1", "user": "admin", "port": 2222, "host_key": KEY})
    assert found.via and (found.via.name, found.via.where) == ("gate", "admin@192.0.2.1:2222")


def test_jumps_in_a_circle_are_told(configure: Configure) -> None:
    configure("Host a\n ProxyJump b\nHost b\n ProxyJump a\n")
    with pytest.raises(PaddockError, match=r"~/\.ssh/config: more than 8 machines to pass"):
        way(ai={"address": "a"})


def test_a_proxycommand_knows_where_it_leads(configure: Configure, home: Path) -> None:
    configure("Host ai\n HostName 192.0.2.10\n ProxyCommand connect --to %h:%p --as %r --for %n --100%% %d\n")
    assert way(ai={"address": "ai"}).command == f"connect --to 192.0.2.10:22 --as root --for ai --100% {home}"
    configure("Host *\n ProxyCommand none\n")
    assert way(ai={"address": "ai"}).command == ""


def test_a_configuration_that_ssh_refuses_is_told_in_its_words(configure: Configure, home: Path) -> None:
    configure("Host *\n  Prot 22\n")
    with pytest.raises(
        PaddockError, match=rf"ssh cannot read its configuration: {home}/\.ssh/config: line 2: Bad configuration option: prot"
    ):
        way(ai={"address": "192.0.2.10"})


def test_another_configuration_can_be_named(configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configure("Host *\n  Port 2222\n")
    (tmp_path / "other [1]").write_text("Host *\n  Port 2223\n")
    for named, port in ((str(tmp_path / "other [1]"), 2223), ("none", 22)):
        monkeypatch.setenv("PADDOCK_SSH_CONFIG", named)
        assert way(ai={"address": "192.0.2.10"}).port == port
    monkeypatch.setenv("PADDOCK_SSH_CONFIG", str(tmp_path / "not there"))
    with pytest.raises(PaddockError, match="PADDOCK_SSH_CONFIG: there is no file"):
        way(ai={"address": "192.0.2.10"})


def test_where_there_is_no_ssh_nobody_has_configured_it(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    configure("Host *\n  Port 2222\n")
    monkeypatch.setenv("PATH", "")
    assert way(ai={"address": "192.0.2.10"}).port == 22


def test_an_address_of_a_link_keeps_its_interface(configure: Configure) -> None:
    found = way(ai={"address": "fe80::1%eth0", "via": "root@[fe80::2%hand0]:22"})
    assert found.address == "fe80::1%eth0" and found.via and found.via.address == "fe80::2%hand0"


def test_ssh_reads_the_options_as_they_are_meant(configure: Configure, tmp_path: Path) -> None:
    """The command of the verification, seen by ssh itself: `ssh -G` shows what it would do."""
    known = tmp_path / 'a "b" 100%' / "known_hosts"
    key = str(tmp_path / "my %h key")
    hosts: dict[str, Mapping[str, Any]] = {
        "ai": {"address": "192.0.2.10", "via": "gate", "ssh_key": key, "port": 2200},
        "gate": {"address": "fe80::2%eth0", "user": "admin", "via": "out@192.0.2.1:2222"},
    }
    found = way("ai", **hosts)
    given = [f"-o{name}={value}" for name, value in options(found, known)]
    said = subprocess.run(["ssh", "-F", "none", "-G", *given, "192.0.2.10"], capture_output=True, text=True, check=True).stdout
    seen = dict(line.split(" ", 1) for line in said.splitlines() if " " in line)
    assert (seen["user"], seen["port"], seen["hostkeyalias"], seen["identitiesonly"]) == ("root", "2200", "ai", "yes")
    assert seen["stricthostkeychecking"] in ("yes", "true") and seen["batchmode"] == "yes"
    inner = seen["proxycommand"].replace("%%", "%")  # as ssh expands it
    words = subprocess.run(["sh", "-c", f"printf '%s\\n' {inner}"], capture_output=True, text=True, check=True).stdout.splitlines()
    assert words[-3:] == ["-W", "192.0.2.10:2200", "fe80::2%eth0"] and "-oHostKeyAlias=gate" in words and "-oUser=admin" in words
    outer = next(each for each in words if each.startswith("-oProxyCommand=")).removeprefix("-oProxyCommand=").replace("%%", "%")
    words = subprocess.run(["sh", "-c", f"printf '%s\\n' {outer}"], capture_output=True, text=True, check=True).stdout.splitlines()
    assert words[-3:] == ["-W", "[fe80::2%eth0]:22", "192.0.2.1"] and "-oHostKeyAlias=[192.0.2.1]:2222" in words
    assert "-oProxyCommand=none" in words
