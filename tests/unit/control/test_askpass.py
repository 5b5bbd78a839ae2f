"""What answers sudo on a host: the very script, in a shell of this machine, as a killed run leaves it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from control.ssh.privilege import ANSWER

PASSWORD = r" correct 'horse' \t $HOME `id` %s "

Answering = subprocess.Popen[str]


@pytest.fixture
def answering(home: Path) -> Iterator[Callable[[], tuple[Answering, Path]]]:
    """The process that answers for a host without logind, and its program for sudo."""
    started: list[Answering] = []

    def start() -> tuple[Answering, Path]:
        environment = {"HOME": str(home), "PATH": os.environ["PATH"]}
        process = subprocess.Popen(["sh", "-c", ANSWER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        started.append(process)
        assert process.stdin and process.stdout
        process.stdin.write(f"{PASSWORD}\n")
        process.stdin.flush()
        return process, Path(process.stdout.readline().strip())

    yield start
    for process in started:
        process.communicate(timeout=10)


def asked(program: Path) -> str:
    return subprocess.run([program], capture_output=True, text=True, timeout=20, check=True).stdout


def is_written_anywhere(home: Path) -> bool:
    """Whether any file holds it. A pipe has no content that stays."""
    return any(b"horse" in path.read_bytes() for path in home.rglob("*") if path.is_file())


def test_sudo_is_answered_as_often_as_it_asks_also_at_once(answering: Callable[[], tuple[Answering, Path]]) -> None:
    _, program = answering()
    with ThreadPoolExecutor(8) as many:
        assert set(many.map(asked, [program] * 40)) == {f"{PASSWORD}\n"}


def test_the_password_is_in_no_file_while_sudo_is_answered(answering: Callable[[], tuple[Answering, Path]], home: Path) -> None:
    _, program = answering()
    assert program.is_relative_to(home) and program.parent.stat().st_mode & 0o777 == 0o700
    assert not is_written_anywhere(home)


def test_no_argument_list_and_no_environment_has_it(answering: Callable[[], tuple[Answering, Path]]) -> None:
    process, _ = answering()
    listed = [Path(f"/proc/{process.pid}/{name}").read_bytes() for name in ("cmdline", "environ")]
    assert listed[0] and not any(b"horse" in each for each in listed)


def test_it_goes_with_the_connection(answering: Callable[[], tuple[Answering, Path]], home: Path) -> None:
    process, _ = answering()
    process.communicate(timeout=10)
    assert list(home.iterdir()) == []


def test_who_asks_as_it_ends_is_let_go(answering: Callable[[], tuple[Answering, Path]]) -> None:
    process, program = answering()
    process.send_signal(signal.SIGSTOP)
    waits = subprocess.Popen([program], stdout=subprocess.PIPE, text=True)
    time.sleep(0.2)
    process.terminate()
    process.send_signal(signal.SIGCONT)
    process.communicate(timeout=10)
    assert waits.wait(timeout=10) == 1


def test_what_was_killed_leaves_no_password_and_the_next_takes_it_away(answering: Callable[[], tuple[Answering, Path]], home: Path) -> None:
    process, program = answering()
    process.kill()
    process.wait()
    assert program.exists() and not is_written_anywhere(home)
    _, after = answering()
    assert list(home.iterdir()) == [after.parent]


def test_a_password_that_an_earlier_version_left_in_a_file_is_taken_away(
    answering: Callable[[], tuple[Answering, Path]], home: Path
) -> None:
    left = home / ".paddock-askpass.k2Jd81mP"
    left.write_text('#!/bin/sh\ncat <<"PADDOCK"\nhorse\nPADDOCK\n')
    _, program = answering()
    assert not left.exists() and asked(program) == f"{PASSWORD}\n"


def test_that_of_another_run_is_left_to_it(answering: Callable[[], tuple[Answering, Path]]) -> None:
    _, first = answering()
    _, second = answering()
    assert asked(first) == asked(second) == f"{PASSWORD}\n"
