"""What a host or a network says, and the one line of it that a person is told."""

from __future__ import annotations

import errno
import socket

import pytest
from paramiko import SSHException

from control.ssh.apt_words import complaint
from control.ssh.failures import Barred, last_words, no_way_to
from control.ssh.ways import Way

HOST = Way("ai", "192.0.2.10", 2222, "operator")


def test_a_hosts_last_line_says_what_was_wrong_and_the_resource_stands_before_it() -> None:
    said = ["paddock-does: file:/etc/a", "  context", "cp: no room", "paddock-at: file:/etc/a"]
    assert last_words(said, "caddy: files") == "file:/etc/a: cp: no room\n      context"


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("sh: 215: printf: printf: I/O error", "it could not be written: no room is left on / and /opt: make some there"),
        ("sh: 9: echo: echo: I/O error", "it could not be written: no room is left on / and /opt: make some there"),
        ("its timer cannot be set", "its timer cannot be set: no room is left on / and /opt: make some there"),
        ("cp: error writing '/opt/a': No space left on device", "cp: error writing '/opt/a': No space left on device"),
    ],
)
def test_a_full_disk_is_named_where_the_hosts_own_words_do_not_tell(said: str, words: str) -> None:
    assert last_words([said, "paddock-full: /", "paddock-full: /opt", "paddock-at: guard"], "files") == f"guard: {words}" + (
        f"\n    {said}" if "I/O" in said or "timer" in said else ""
    )


def test_what_was_killed_is_named_by_what_it_began_with_last() -> None:
    said = ["paddock-does: file:/etc/a", "paddock-does: service:b"]
    assert last_words(said, "files").startswith("service:b: what was at work there was killed")


def test_what_names_no_resource_is_named_by_what_was_being_done() -> None:
    assert last_words([], "user llama-server") == "user llama-server: failed, and said nothing"
    assert last_words(["no such group", "paddock-at: "], "user llama-server") == "user llama-server: no such group"


@pytest.mark.parametrize(
    ("said", "first"),
    [
        (
            ["E: Unable to locate package no-such-package", "E: Couldn't find any package by glob 'no-such-package'"],
            "package:no-such-package: E: Unable to locate package no-such-package",
        ),
        (
            [
                "W: Failed to fetch http://mirror.home.example/InRelease  Could not connect",
                "W: Some index files failed",
                "E: Unable to locate package hello",
            ],
            "package:hello: W: Failed to fetch http://mirror.home.example/InRelease  Could not connect",
        ),
        (
            [
                "E: Failed to fetch http://mirror.home.example/pool/main/h/hello/hello_2.10-5_amd64.deb  404  Not Found",
                "E: Unable to fetch some archives",
            ],
            "package:hello: E: Failed to fetch http://mirror.home.example/pool/main/h/hello/hello_2.10-5_amd64.deb  404  Not Found",
        ),
        (
            [
                "dpkg: error processing package caddy (--configure):",
                " installed caddy package post-installation script subprocess returned error exit status 1",
                "E: Sub-process /usr/bin/dpkg returned an error code (1)",
            ],
            "package:caddy: dpkg: error processing package caddy (--configure): "
            "installed caddy package post-installation script subprocess returned error exit status 1",
        ),
    ],
)
def test_of_apts_many_lines_the_one_that_the_others_come_of_is_told(said: list[str], first: str) -> None:
    assert last_words(said, "packages").splitlines()[0] == first


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), "does sshd run there"),
        (EOFError(), "it closed the connection; is it sshd that listens there"),
        (Barred("gate, its bastion, forwards nothing"), "cannot be reached: gate, its bastion, forwards nothing"),
        (OSError(errno.EHOSTUNREACH, "No route to host"), "No route to host; is the machine on"),
        (TimeoutError("timed out"), "timed out; is the machine on"),
        (SSHException("Error reading SSH protocol banner"), "is it sshd that listens there"),
    ],
)
def test_what_the_network_says_names_the_way_there_and_what_to_look_at(error: Exception, words: str) -> None:
    told = no_way_to(HOST, error)
    assert told.startswith("operator@192.0.2.10:2222 cannot be reached: ")
    assert words in told


def test_a_name_that_does_not_resolve_is_told_as_such() -> None:
    assert no_way_to(HOST, socket.gaierror(-2, "Name or service not known")).startswith("the name 192.0.2.10 does not resolve")


def test_a_package_that_is_not_free_is_told_with_where_it_is() -> None:
    said = complaint(["Reading package lists...", "E: Unable to locate package nvidia-cuda-toolkit"])
    assert said == (
        "E: Unable to locate package nvidia-cuda-toolkit (add contrib, non-free and non-free-firmware to the host's apt sources)"
    )
    assert complaint(["E: Unable to locate package no-such-package"]) == "E: Unable to locate package no-such-package"
