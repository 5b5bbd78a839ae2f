"""A llama.cpp that cannot be built, stored or served: the compiler's or the server's own line is the one that is shown."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.fault_fleet import RESET, FaultFleet
from tests.share import turn

pytestmark = turn(0, of=3)

TREE = {
    "include/llama.h": "",
    "CMakeLists.txt": """cmake_minimum_required(VERSION 3.18)
project(small C)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
add_executable(llama-server server.c)
add_executable(llama-bench server.c)
""",
    "server.c": r"""#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
int main(int count, char **word) {
  struct sockaddr_un at = {.sun_family = AF_UNIX};
  const char *answer = "HTTP/1.1 200 OK\r\nContent-Length: 32\r\nConnection: close\r\n\r\n{\"content\":\"from a tiny model\"}\n";
  char asked[4096];
  for (int i = 1; i + 1 < count; i++)
    if (!strcmp(word[i], "--host")) strncpy(at.sun_path, word[i + 1], sizeof at.sun_path - 1);
  if (!*at.sun_path) return fputs("version: small\n", stderr) < 0;
  int door = socket(AF_UNIX, SOCK_STREAM, 0);
  if (bind(door, (struct sockaddr *)&at, sizeof at) || listen(door, 8)) return 1;
  for (;;) {
    int call = accept(door, 0, 0);
    if (read(call, asked, sizeof asked) < 0 || write(call, answer, strlen(answer)) < 0) return 1;
    close(call);
  }
}
""",
}
"""As little as can be called llama.cpp, and passes the gate: a fault of a build needs no more, and shows in a second."""

LOG = r"    the whole log is on the host: journalctl -u paddock-build-\w+\.service"
WORK = r"/var/lib/paddock/build/\w+"
BUILT = r"release:/opt/paddock/llama\.cpp/current: llama\.cpp small is not built: "


@pytest.fixture
def tree(fleet: FaultFleet) -> Path:
    """The source of the llama.cpp that host one is to have."""
    root = fleet.lab.directory / "small"
    for name, text in TREE.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    fleet.describe(one={"roles": {"llama_cpp": {"source": {"path": "small"}}}})
    return root


def spoil(file: Path, sound: str, broken: str) -> None:
    assert sound in file.read_text()
    file.write_text(file.read_text().replace(sound, broken))


def test_a_compile_error_is_shown_in_the_compilers_words(fleet: FaultFleet, tree: Path) -> None:
    spoil(tree / "server.c", "return fputs", "retrun fputs")
    told = fleet.up_fails(BUILT + r"server\.c:12:22: error: .*retrun.*")
    assert "       12 |   if (!*at.sun_path) retrun fputs" in "\n".join(told.why("one")), "the line of the source is not shown"
    assert re.fullmatch(LOG, told.why("one")[-1])
    log = told.why("one")[-1].partition("host: ")[2]
    assert "error: " in fleet.inside("one", log)
    spoil(tree / "server.c", "retrun fputs", "return fputs")
    fleet.heals()


def test_an_error_of_cmake_says_where_and_what(fleet: FaultFleet, tree: Path) -> None:
    spoil(tree / "CMakeLists.txt", "add_executable(llama-bench", "add_exectable(llama-bench")
    fleet.up_fails(BUILT + r'CMake Error at CMakeLists\.txt:5 \(add_exectable\): Unknown CMake command "add_exectable"\.')
    spoil(tree / "CMakeLists.txt", "add_exectable", "add_executable")
    fleet.heals()


def test_a_disk_without_room_for_a_build(fleet: FaultFleet, tree: Path) -> None:
    spoil(tree / "server.c", "small", "small, without room")
    with small_disk(fleet, mib=100):
        fleet.up_fails(BUILT + WORK + r" needs 700 MiB to build in, and \d+ MiB are free: make room there")
    fleet.heals()


def test_a_disk_that_runs_full_in_the_middle_of_a_build(fleet: FaultFleet, tree: Path) -> None:
    grow = "\nadd_custom_target(grow ALL COMMAND dd if=/dev/zero of=large bs=1M count=900)\nadd_dependencies(llama-server grow)\n"
    (tree / "CMakeLists.txt").write_text(TREE["CMakeLists.txt"] + grow)
    with small_disk(fleet, mib=800):
        fleet.up_fails(BUILT + r"dd: error writing 'large': No space left on device")
    (tree / "CMakeLists.txt").write_text(TREE["CMakeLists.txt"])
    fleet.heals()


def test_a_disk_without_room_for_the_source(fleet: FaultFleet, tree: Path) -> None:
    (tree / "large").write_bytes(os.urandom(4 << 20))
    with small_disk(fleet, mib=3):
        fleet.up_fails(r"release:/opt/paddock/llama\.cpp/current: tar: .*")
    fleet.heals()


def test_a_lost_connection_does_not_end_a_build_and_the_next_run_finds_it(fleet: FaultFleet, tree: Path) -> None:
    (tree / "CMakeLists.txt").write_text(
        TREE["CMakeLists.txt"] + "\nadd_custom_target(linger ALL COMMAND sleep 8)\nadd_dependencies(llama-server linger)\n"
    )
    with fleet.at_work() as building:
        fleet.wait_until("one", "systemctl list-units --plain --no-legend --state=running | grep paddock-build-")
        fleet.inside("one", RESET)
        fleet.failed(fleet.told(building), r"release:/opt/paddock/llama\.cpp/current: the connection was lost; .*`paddock up` .*")
    fleet.heals()
    units = "$(basename $(readlink /opt/paddock/llama.cpp/current) | sed 's/^small-\\(.*\\)/paddock-build-\\1.service/')"
    assert fleet.inside("one", f"journalctl -q -o cat -u {units} | grep -c 'paddock: compiling'").strip() == "1", "it was built twice"


def test_a_compiler_that_is_killed_is_told_and_the_next_run_begins_anew(fleet: FaultFleet, tree: Path) -> None:
    many = "".join(
        f"double f{at}(double x) {{ double y = x; for (int i = 0; i < {at}; i++) y += y * i / x; return y; }}\n" for at in range(4_000)
    )
    (tree / "server.c").write_text(many + TREE["server.c"])
    with fleet.at_work() as building:
        fleet.wait_until("one", r"pkill -KILL -f 'cc1 .*server\.c'")  # not one of CMake's own trials, which may fail
        fleet.failed(
            fleet.told(building), BUILT + r"the compiler was killed, as it is where memory runs out: set roles\.llama_cpp\.jobs to 1, .*"
        )
    assert not fleet.inside("one", "find /var/lib/paddock/build -name '*.tar.gz*' ! -name source.tar.gz"), "half of it was packed"
    (tree / "server.c").write_text(TREE["server.c"] + "/* smaller */")
    fleet.heals()


TRIES = """echo "seen: it is $(id -un)"
for each in / /etc /opt/paddock /var/lib/paddock /var/lib/paddock/build /var/cache/paddock /usr/local/bin /root /home /run; do
  ! touch "$each/left" 2>/dev/null || echo "seen: it wrote to $each"
done
for each in /etc/shadow /root/.bashrc /var/lib/paddock/manifest /etc/ssh/ssh_host_ed25519_key; do
  ! cat "$each" >/dev/null 2>&1 || echo "seen: it read $each"
done
for each in tcp/{address}/22 tcp/127.0.0.1/22 udp/{address}/53; do
  ! bash -c "exec 3<>/dev/$each" 2>/dev/null || echo "seen: it reached $each"
done
! mount -t tmpfs none /mnt 2>/dev/null || echo "seen: it mounted"
"""
"""What somebody's build could do, whose source is not what it was."""


def test_a_build_runs_as_an_account_of_its_own_and_reaches_nothing_but_where_it_builds(fleet: FaultFleet, tree: Path) -> None:
    (tree / "tries.sh").write_text(TRIES.replace("{address}", fleet.hosts["two"].address))
    (tree / "CMakeLists.txt").write_text(TREE["CMakeLists.txt"] + "execute_process(COMMAND sh ${CMAKE_SOURCE_DIR}/tries.sh)\n")
    as_root = "mkdir -p /var/lib/paddock/build; touch /var/lib/paddock/build/of-an-earlier-version.tar.gz"
    fleet.inside("one", f"{as_root}; chown -R root: /var/cache/paddock/ccache")
    fleet.heals()
    current = fleet.inside("one", "basename $(readlink /opt/paddock/llama.cpp/current)").strip().rpartition("-")[2]
    seen = fleet.inside("one", f"journalctl -q -o cat -u paddock-build-{current} | grep ^seen:").splitlines()
    assert seen == ["seen: it is paddock-build"]
    # Other hosts of the lab add to the same cache, each with an account of its own.
    assert not fleet.inside(
        "one", "ls -A /var/lib/paddock/build 2>/dev/null || true; find /var/cache/paddock/ccache -user root | head -n 1"
    )


def test_a_build_that_asks_the_network_fails(fleet: FaultFleet, tree: Path) -> None:
    asks = f'execute_process(COMMAND bash -c "exec 3<>/dev/tcp/{fleet.hosts["two"].address}/22" COMMAND_ERROR_IS_FATAL ANY)\n'
    (tree / "CMakeLists.txt").write_text(TREE["CMakeLists.txt"] + asks)
    fleet.up_fails(BUILT + r"CMake Error at CMakeLists\.txt:6 \(execute_process\): execute_process failed command indexes:")
    (tree / "CMakeLists.txt").write_text(TREE["CMakeLists.txt"])
    fleet.heals()


@contextmanager
def small_disk(fleet: FaultFleet, mib: int) -> Iterator[None]:
    """Inside the block, what Paddock keeps on host one lies on a file system of this size."""
    mount = f"mkdir /root/aside; cp -a /var/lib/paddock/. /root/aside; mount -t tmpfs -o size={mib}m,mode=755 small /var/lib/paddock; cp -a /root/aside/. /var/lib/paddock"
    with fleet.meanwhile("one", mount, "umount /var/lib/paddock; rm -r /root/aside"):
        yield


# A llama-server that is real

SERVER = {"llama_cpp": {"ui": False}, "models": {}, "llama_server": {"models": ["demo"], "listen": "0.0.0.0:8080"}}
MODELS = {"demo": {"preset": {"ctx-size": 512}}}
UNKNOWN = {"demo": {"preset": {"ctx-size": 512, "no-such-option": 1}}}
CHANGED = {"demo": {"preset": {"ctx-size": 768}}}

DROPIN = "/etc/systemd/system/llama-server.service.d/90-broken.conf"
BROKEN = f"printf '[Service]\\nExecStartPre=/bin/sh -c \"echo error: it is broken; exit 1\"\\n' >{DROPIN}"
MENDED = f"rm {DROPIN}; systemctl daemon-reload"


@pytest.fixture
def server(fleet: FaultFleet) -> None:
    fleet.describe(one={"roles": SERVER}, models=MODELS)
    done = fleet.up()
    assert done.code == 0, done.out + done.err


def test_a_full_disk_where_a_model_is_to_land(fleet: FaultFleet, server: None) -> None:
    models = "/var/lib/paddock/models"
    crowd = f"mkdir -p {models}; rm -f {models}/*; mount -t tmpfs -o size=64k full {models}; dd if=/dev/zero of={models}/filler bs=1k 2>/dev/null || true"
    with fleet.meanwhile("one", crowd, f"umount {models}"):
        fleet.up_fails(rf"model:{models}/demo\.gguf: cp: error writing '{models}/\.paddock-demo\.gguf': No space left on device")
        assert fleet.inside("one", f"ls -A {models}").split() == ["filler"]
    fleet.heals()


def test_a_preset_with_an_option_that_nobody_knows(fleet: FaultFleet, server: None) -> None:
    fleet.describe(one={"roles": SERVER}, models=UNKNOWN)
    told = fleet.up()
    assert told.code == 2
    assert re.search(r'models\.demo\.preset\.no-such-option: "no-such-option" is not an option of llama-server', told.err), told.err
    assert fleet.inside("one", "systemctl is-active llama-server").strip() == "active"
    fleet.describe(one={"roles": SERVER}, models=MODELS)
    fleet.heals()


def test_a_service_that_does_not_start_is_told_in_its_own_words(fleet: FaultFleet, server: None) -> None:
    fleet.describe(one={"roles": SERVER}, models=CHANGED)
    with fleet.meanwhile("one", BROKEN, MENDED):
        told = fleet.up_fails(r"service:llama-server\.service: did not come up: error: it is broken")
        assert told.why("one")[-1] == "    the whole log is on the host: journalctl -u llama-server.service"
    fleet.describe(one={"roles": SERVER}, models=MODELS)
    fleet.heals()


def test_a_port_of_llama_servers_that_is_taken(fleet: FaultFleet, server: None) -> None:
    listen = "perl -MIO::Socket::INET -e 'push @s, IO::Socket::INET->new(LocalPort => 8080, Listen => 1, ReuseAddr => 1) or die; sleep 600'"
    squat = f"systemctl stop paddock-proxy-llama-server.socket; systemd-run --quiet --unit=squatter {listen}; until ss -Hltn | grep -q :8080; do sleep 0.1; done"
    with fleet.meanwhile("one", squat, "systemctl stop squatter"):
        fleet.up_fails(
            r"port 8080/tcp, which paddock-proxy-llama-server\.socket is to listen on, is taken by squatter\.service: "
            r"stop it, or set another port in roles\.llama_server"
        )
    fleet.heals()


def test_a_host_that_needs_the_failed_one_says_so(fleet: FaultFleet, server: None) -> None:
    site = {"roles": {"caddy": {"sites": {"ai.home.example": {"upstream": "one"}}}}}
    fleet.describe(one={"roles": SERVER}, two=site, models=CHANGED)
    with fleet.meanwhile("one", BROKEN, MENDED):
        told = fleet.up_fails(r"service:llama-server\.service: did not come up: .*", others=False)
    assert told.why("two") == ["two: caddy: was not started: it needs one, which failed"]
    fleet.describe(one={"roles": SERVER}, two=site, models=MODELS)
    fleet.heals()
    done = fleet.lab.paddock("verify")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "two: 0 checks" not in done.stdout and "two: " in done.stdout
