"""The lab itself, for real: containers, systemd, SSH. It needs Linux, and root or a Docker engine that answers."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from inventory.fleet import Fleet
from lab import cache, hosts
from lab.container import LabHost
from lab.engine import LabError, engine, reach, start

NAME = f"labtest{os.getpid()}"


def fleet(*names: str, user: str = "root", image: str | None = None, suite: str | None = None) -> Fleet:
    settings = {"image": image, "suite": suite}
    entries = {name: {"name": name, "address": "192.0.2.1", "user": user, "lab": settings} for name in names}
    return Fleet.model_validate({"name": NAME, "domain": "home.example", "hosts": entries})


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    yield
    hosts.down(NAME)


def over_ssh(host: LabHost, command: str, user: str = "") -> subprocess.CompletedProcess[str]:
    call = [*hosts.ssh_command(host), command]
    return subprocess.run(
        call if not user else [each.replace("root@", f"{user}@") for each in call], capture_output=True, text=True, timeout=60
    )


def until(true: Callable[[], bool], within_s: float = 30) -> bool:
    deadline = time.monotonic() + within_s
    while not true() and time.monotonic() < deadline:
        time.sleep(0.2)
    return true()


def volumes_of(host: LabHost) -> set[str]:
    names = engine().run("inspect", "--format", "{{range .Mounts}}{{.Name}} {{end}}", host.container)
    return set(names.split())


def test_hosts_come_up_with_a_running_systemd_and_let_the_labs_key_in_and_go_without_a_trace() -> None:
    up = hosts.up(fleet("one", "two"))
    assert list(up) == ["one", "two"]
    for name, host in up.items():
        answer = over_ssh(host, "hostname; id -un; systemctl is-system-running; cat /proc/1/comm")
        assert answer.stdout.split() == [name, "root", "running", "systemd"], answer.stderr
    assert over_ssh(up["one"], f"curl -s telnet://{up['two'].address}:22 --max-time 2").stdout.startswith("SSH-2.0")
    volumes = volumes_of(up["one"]) | volumes_of(up["two"])
    assert len(volumes) == 4, "a host has volumes for the engine that may run in it"

    assert hosts.down(NAME) == ("one", "two")
    assert engine().run("ps", "--all", "--quiet", "--filter", f"label=paddock.fleet={NAME}") == ""
    assert not volumes & set(engine().run("volume", "ls", "--quiet").split())
    assert hosts.list(NAME) == ()


def test_a_port_below_1024_is_not_everybodys_as_on_a_machine() -> None:
    host = hosts.up(fleet("one"))["one"]
    as_nobody = "setpriv --reuid=65534 --regid=65534 --clear-groups timeout 2 systemd-socket-activate -l"
    assert "Permission denied" in over_ssh(host, f"{as_nobody} 127.0.0.1:81 true 2>&1").stdout
    assert "Permission denied" not in over_ssh(host, f"{as_nobody} 127.0.0.1:1081 true 2>&1").stdout


def test_a_second_up_keeps_the_very_hosts() -> None:
    first = hosts.up(fleet("one"))
    over_ssh(first["one"], "touch /root/kept").check_returncode()
    uptime = over_ssh(first["one"], "ps -o lstart= 1").stdout
    second = hosts.up(fleet("one", "two"))
    assert second["one"] == first["one"]
    assert over_ssh(second["one"], "ls /root/kept; ps -o lstart= 1").stdout == f"/root/kept\n{uptime}"


def test_a_host_that_rebooted_comes_back_with_its_files_its_key_and_its_services() -> None:
    host = hosts.up(fleet("one"))["one"]
    over_ssh(host, "echo kept > /root/kept; echo gone > /run/gone; systemctl reboot")
    assert until(lambda: hosts.list(NAME)[0].state == "exited")
    with pytest.raises(LabError, match="one is exited: bring it up first"):
        hosts.ssh(NAME, "one", ["true"])
    back = hosts.up(fleet("one"))["one"]
    assert back.host_key == host.host_key
    assert over_ssh(back, "systemctl is-system-running; cat /root/kept; ls /run/gone").stdout == "running\nkept\n"


def test_a_host_of_another_suite_runs_it_and_installs_from_it() -> None:
    hosts.up(fleet("one"))
    host = hosts.up(fleet("one", suite="sid"))["one"]
    assert (host.suite, host.kind) == ("sid", "container (sid)")
    assert over_ssh(host, "systemctl is-system-running; . /etc/os-release; echo $PRETTY_NAME").stdout.endswith(
        "running\nDebian GNU/Linux forky/sid\n"
    )
    policy = over_ssh(host, "apt-get -qq update; apt-cache policy llama.cpp-tools").stdout
    assert " sid/main " in policy and "trixie" not in policy
    assert hosts.up(fleet("one", suite="sid"))["one"] == host


def test_each_host_has_a_key_of_its_own_and_another_one_is_refused() -> None:
    one, two = hosts.up(fleet("one", "two")).values()
    assert one.host_key != two.host_key
    refused = over_ssh(LabHost(**{**vars(one), "host_key": two.host_key}), "true")
    assert refused.returncode == 255
    assert "Host key verification failed" in refused.stderr


def test_no_password_is_asked_for() -> None:
    host = hosts.up(fleet("one"))["one"]
    without_key = [each for each in hosts.ssh_command(host) if each not in ("-i", str(host.ssh_key))]
    answer = subprocess.run(
        [*without_key[:-1], "-oIdentityFile=none", without_key[-1], "true"],
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"]},
    )
    assert answer.returncode == 255
    assert "Permission denied (publickey)" in answer.stderr


def test_a_user_of_the_inventory_logs_in_and_becomes_root_without_a_password() -> None:
    host = hosts.up(fleet("one", user="operator"))["one"]
    assert host.user == "operator"
    assert over_ssh(host, "id -un; sudo -n id -un").stdout.split() == ["operator", "root"]


def test_packages_can_be_installed_and_the_next_host_finds_them_fetched() -> None:
    host = hosts.up(fleet("one"))["one"]
    install = "apt-get -qq update && apt-get -y install hello 2>&1 && hello"
    assert "Hello, world!" in over_ssh(host, install).stdout
    host = hosts.up(fleet("one", "two"))["two"]
    assert "Need to get 0 B/" in over_ssh(host, install).stdout


def test_a_host_that_does_not_come_up_is_named_with_the_end_of_its_console() -> None:
    broken = f"{NAME}-broken"
    host = hosts.up(fleet("one"))["one"]
    engine().run("exec", host.container, "sh", "-c", "mv /lib/systemd/systemd /lib/systemd/away")
    engine().run("commit", host.container, broken)
    try:
        with pytest.raises(LabError, match=r"(?s)lab host two: .*console.*/lib/systemd/systemd"):
            hosts.up(fleet("two", image=broken))
    finally:
        hosts.down(NAME)
        engine().run("rmi", broken)


def test_a_unit_that_failed_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    host = hosts.up(fleet("one"))["one"]
    over_ssh(host, "systemd-run --unit=unlucky false; sleep 1")
    hosts.up(fleet("one"))
    assert "systemd degraded (unlucky.service failed)" in capsys.readouterr().err


def test_the_labs_key_is_readable_to_its_owner_only() -> None:
    assert cache.ssh_key().stat().st_mode & 0o777 == 0o600


def test_what_is_not_there_is_said_to_be_not_there() -> None:
    with pytest.raises(LabError, match=f"fleet {NAME} has no lab host one"):
        hosts.ssh(NAME, "one", ["true"])
    assert hosts.down(NAME) == ()


@pytest.fixture
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `dockerd` without this machine's network: a second one would take the first one's bridge and rules away."""
    real = shutil.which("dockerd", path=f"{os.environ['PATH']}:/usr/sbin")
    (tmp_path / "bin").mkdir()
    wrapper = tmp_path / "bin" / "dockerd"
    wrapper.write_text(f'#!/bin/sh\nexec unshare --net {real} "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{wrapper.parent}:{os.environ['PATH']}")


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="a second engine is started as root")


@needs_root
@pytest.mark.usefixtures("apart")
def test_where_no_engine_answers_one_is_started_and_waited_for(tmp_path: Path) -> None:
    client = ("docker", "--host", f"unix://{tmp_path}/docker.sock")
    flags = [
        f"--host=unix://{tmp_path}/docker.sock",
        f"--data-root={tmp_path}/data",
        f"--exec-root={tmp_path}/exec",
        f"--pidfile={tmp_path}/pid",
    ]
    started = start(tmp_path, flags, client)
    pid = int((tmp_path / "dockerd.pid").read_text())
    try:
        assert started.run("ps", "--all", "--quiet") == ""
        assert os.getpgid(pid) == pid != os.getpgid(0)
        assert start(tmp_path, flags, client) == started, "one that answers is used"
        assert int((tmp_path / "dockerd.pid").read_text()) == pid
    finally:
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)


@needs_root
@pytest.mark.usefixtures("apart")
def test_an_engine_that_does_not_start_ends_in_the_last_lines_of_its_log(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"(?s)dockerd ended: see .*dockerd\.log\n.*unknown flag: --no-such-flag"):
        start(tmp_path, ["--no-such-flag"], ("docker", "--host", f"unix://{tmp_path}/docker.sock"))


def test_a_client_newer_than_the_engine_speaks_the_engines_version(tmp_path: Path) -> None:
    """A script stands in for such a client: which one cannot step down by itself depends on both versions."""
    client = tmp_path / "docker"
    client.write_text(
        '#!/bin/sh\n[ "$DOCKER_API_VERSION" = 1.41 ] && echo 1.41 && exit\n'
        'echo "Error response from daemon: client version 1.52 is too new. Maximum supported API version is 1.41" >&2; exit 1\n'
    )
    client.chmod(0o755)
    assert reach((str(client),)).command == ("env", "DOCKER_API_VERSION=1.41", str(client))


def test_an_engine_that_was_named_and_does_not_answer_is_not_replaced_by_another(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:  # undone before the lab is taken down
        patch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
        with pytest.raises(LabError, match=r"DOCKER_HOST is unix:///nonexistent/docker.sock.*start that engine, or unset it"):
            engine()
