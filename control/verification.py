"""Runs tests/verify against hosts: one pytest a host, side by side."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from control.state import FleetState
from inventory.schema import Fleet

ROOT = Path(__file__).parent.parent


AT_A_TIME = 4


Tell = Callable[[str], None]


def verify(fleet: Fleet, state: FleetState, hosts: Iterable[str], tell: Tell, complain: Tell, *, deep: bool = False) -> dict[str, int]:
    """Host → how many of its checks failed. `tell` hears a line a host, `complain` of each that failed what it was and why.

    Where `deep`, models are read whole.
    """
    failed, waiting = {}, list(hosts)
    with tempfile.TemporaryDirectory() as scratch:
        at_work: dict[str, subprocess.Popen[bytes]] = {}
        try:
            while waiting or at_work:
                while waiting and len(at_work) < AT_A_TIME:
                    host = waiting.pop(0)
                    with _uninterrupted():
                        at_work[host] = _start(host, fleet, state, Path(scratch), deep)
                host, process = next(iter(at_work.items()))
                code = process.wait()
                del at_work[host]
                failed[host], summary, why = _result(host, code, Path(scratch))
                tell(f"  {summary}")
                for line in why:
                    complain(f"  {line}")
        finally:
            for process in at_work.values():
                process.kill()
    return failed


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Where gevent has replaced `subprocess`, a fork runs Python code, out of which an interrupt would be lost: here it comes after."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start(host: str, fleet: Fleet, state: FleetState, scratch: Path, deep: bool) -> subprocess.Popen[bytes]:
    asked = scratch / f"{host}.json"
    described = fleet.model_dump(mode="json", exclude_none=True)
    asked.write_text(json.dumps({"fleet": described, "inventory": str(state.inventory), "hosts": [host], "deep": deep}))
    options = ["-p", "no:cacheprovider", "-p", "no:randomly", "-q", "--no-header", "--tb=short", "-rN", "-o", "addopts="]
    # Files, not pipes, which nobody would read while another host is waited for.
    with (scratch / f"{host}.out").open("wb") as out, (scratch / f"{host}.err").open("wb") as err:
        return subprocess.Popen(
            [sys.executable, "-m", "pytest", "tests/verify", *options],
            cwd=ROOT,
            env={**os.environ, "PADDOCK_VERIFY": str(asked), "PADDOCK_STATE": str(state.path.parent)},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
        )


def _result(host: str, code: int, scratch: Path) -> tuple[int, str, list[str]]:
    output, errors = ((scratch / f"{host}.{name}").read_text(errors="replace") for name in ("out", "err"))
    counts = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|error)", output.splitlines()[-1] if output else "")}
    bad = counts.get("failed", 0) + counts.get("error", 0)
    if code not in (0, 1) or not counts:
        said = [line for line in (output + errors).splitlines() if line.strip() and not line.startswith("no tests ran")]
        return 1, f"{host}: the checks could not run", [f"{host}: {line.removeprefix('!!! ')}" for line in said[-5:]]
    return bad, f"{host}: {counts.get('passed', 0)} checks passed" + (f", {bad} FAILED" if bad else ""), _failures(output)


def _failures(output: str) -> list[str]:
    """Of pytest's report each heading, and of the lines with the reasons the first: the others say how it was found."""
    lines: list[str] = []
    reason = True
    for line in output.splitlines():
        if heading := re.match(r"_+ .*\[(.*)\] _+$", line):
            lines.append(heading[1])
            reason = False
        elif line.startswith("E  ") and not reason:
            lines.append(f"    {_reason(line[1:].strip())}")
            reason = True
    return lines


def _reason(line: str) -> str:
    """`AssertionError: …` in words; of a command that failed on the host what it said."""
    line = line.removeprefix("AssertionError: ")
    if command := re.search(r"exit_status=(\d+), command=b(.*), _stdout=b(['\"])(.*)\3, _stderr=b(['\"])(.*)\5\)", line):
        said = (command[6] or command[4]).encode().decode("unicode_escape", errors="replace").strip()
        return f"{command[2].strip(chr(39) + chr(34))}: exit code {command[1]}{': ' if said else ''}{' '.join(said.split())}"
    return line
