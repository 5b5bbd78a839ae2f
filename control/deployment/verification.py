"""Hands each host's plan to the verification, which is a process of its own a host, side by side."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from control.pki.authority import Authority
from control.ssh.privilege import ANSWER, password_for
from control.ssh.ways import Way, Ways, configuration, options, through
from control.state import speeds
from control.state.fleet import FleetState, read
from control.state.secrets import Secrets, Vault
from inventory.bounds import KIB, VERIFYING, from_json
from inventory.errors import PaddockError
from inventory.fleet import Fleet, Host
from resources import Reached, Release, lines_of, of_kind, reached_of
from resources.codec import seals, written
from roles.host_plan import HostPlan

ROOT = Path(__file__).parents[2]


AT_A_TIME = 4

NO_ANSWER = re.compile(r"(json\.decoder\.)?(Unicode|Index|Key|Value|Type|Attribute|Overflow|NotImplemented|JSON)[A-Za-z]*Error\b")
"""What Python says of text that is not what was asked for."""

OF_TESTS = re.compile("PYTEST_|PYTHONOPTIMIZE$")
"""Variables that would leave checks out: pytest's options, and Python's way to drop assertions."""


LIMITED = 'ulimit -v "$1" 2>/dev/null || :; ulimit -f "$2"; shift 2; exec "$@"'
"""In KiB and in blocks of 512 bytes (POSIX)."""

Tell = Callable[[str], None]

NOTHING: Mapping[str, Sequence[Reached]] = MappingProxyType({})


def verify(
    fleet: Fleet,
    state: FleetState,
    plans: Mapping[str, HostPlan],
    tell: Tell,
    complain: Tell,
    *,
    deep: bool = False,
    measures: bool = False,
    reached: Mapping[str, Sequence[Reached]] = NOTHING,
) -> dict[str, int]:
    """Host → how many of its checks failed, of the hosts that have a plan here. `tell` hears a line a host, `complain` of each that failed
    what it was and why.

    Where `deep`, models are read whole. `reached` is by host how fast its servers were, beside what the state knows; where it `measures`,
    that is found out anew. What was found is kept in the state.
    """
    failed, waiting, ways = {}, list(plans), Ways(fleet.hosts)
    for host, plan in plans.items():
        for release in of_kind((each for part in plan.values() for each in part), Release):
            if release.imported:
                tell(f"  {host}: release {release.name} was not built by this fleet: imported, {release.imported}")
    described, outside = fleet.model_dump(mode="json", exclude_none=True), _outside(fleet, state)
    with tempfile.TemporaryDirectory() as scratch:
        at_work: dict[str, subprocess.Popen[bytes]] = {}
        try:
            while waiting or at_work:
                while waiting and len(at_work) < AT_A_TIME:
                    host = waiting.pop(0)
                    handed = {"fleet": described, "outside": outside, **_handed(ways.to(host), plans[host], state, deep)}
                    handed["speeds"] = {
                        "known": [each.text for each in (*speeds.kept(state, host), *reached.get(host, ()))],
                        "anew": measures,
                        "into": str(Path(scratch) / f"{host}.speeds"),
                    }
                    with _uninterrupted():
                        at_work[host] = _start(host, handed, Path(scratch))
                host, process = next(iter(at_work.items()))
                try:
                    code = process.wait(VERIFYING.seconds)
                except subprocess.TimeoutExpired:
                    process.kill()
                    code = process.wait()
                del at_work[host]
                failed[host], summary, why = _result(host, code, Path(scratch))
                tell(f"  {summary}")
                for line in why:
                    complain(f"  {line}")
                keep_found(state, host, Path(scratch) / f"{host}.speeds", tell, complain)
        finally:
            for process in at_work.values():
                process.kill()
    return failed


def keep_found(state: FleetState, host: str, found: Path, tell: Tell, complain: Tell) -> None:
    """What was found out of the speed of a host's servers: see verification/speeds.py."""
    lines = [from_json(line) for line in lines_of(found.read_text(encoding="utf-8"))] if found.exists() else []
    for line in lines:
        if "words" in line:
            tell(f"  {host}: {line['words']}")
    try:
        speeds.keep(state, host, reached_of(line["reached"] for line in lines if "reached" in line))
    except PaddockError as error:
        complain(f"  {error}")


def handed(host: Host, plan: HostPlan, fleet: Fleet, state: FleetState, *, deep: bool = False) -> dict[str, Any]:
    """What the verification of a host is handed: see `verification.subject.of`."""
    described = fleet.model_dump(mode="json", exclude_none=True)
    return {"fleet": described, "outside": _outside(fleet, state), **_handed(Ways(fleet.hosts).to(host.name), plan, state, deep)}


def _handed(way: Way, plan: HostPlan, state: FleetState, deep: bool) -> dict[str, Any]:
    connection: dict[str, Any] = {
        "address": way.asked,
        "configuration": [*configuration()],
        "options": [*options(way, state.known_hosts)],
        "sudo": way.becomes_root,
    }
    if way.via:
        connection["through"] = {"command": through(way, state.known_hosts), "bastion": way.via.asked}
    if way.becomes_root and (password := password_for(way.name, Secrets(Vault(state)))):
        connection |= {"password": password, "answer": ANSWER}
    return {"host": way.name, "plan": written(plan), "seals": seals(plan), "deep": deep, "connection": connection}


def _outside(fleet: Fleet, state: FleetState) -> dict[str, Any]:
    """Who calls from outside: the clients that are let in, and whom they trust. A client whose key cannot be read has no identity here."""
    authority = Authority(state, Vault(state))
    _, _, clients = authority.current(fleet, datetime.now(UTC))
    identities = {}
    for client in clients:
        with suppress(PaddockError):
            certificate, _ = authority.exportable(client)
            identities[client] = (certificate.chain, certificate.key)
    roots = {each.name: _root(each.site.acme.root, state) for each in fleet.entrances() if each.site.acme}
    return {"clients": sorted(clients), "identities": identities, "ca": authority.bundle() or "", "roots": roots}


def _root(path: str | None, state: FleetState) -> str:
    """The root certificate of a private ACME authority; empty of a public one."""
    return (read(state.inventory.parent / Path(path).expanduser()) or b"").decode(errors="replace") if path else ""


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Where gevent has replaced `subprocess`, a fork runs Python code, out of which an interrupt would be lost: here it comes after."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start(host: str, handed: Mapping[str, Any], scratch: Path) -> subprocess.Popen[bytes]:
    """What it is handed goes through standard input: there are keys in it."""
    # Files, not pipes, which nobody would read while another host is waited for.
    with (scratch / f"{host}.out").open("wb") as out, (scratch / f"{host}.err").open("wb") as err:
        limits = (str((VERIFYING.memory or 0) // KIB), str(VERIFYING.size // 512))
        command = ["/bin/sh", "-c", LIMITED, "sh", *limits, sys.executable, "-m", "verification"]
        environment = {name: value for name, value in os.environ.items() if not OF_TESTS.match(name)}
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=out, stderr=err)
    assert process.stdin
    with suppress(BrokenPipeError), process.stdin:
        process.stdin.write(json.dumps(handed).encode())
    return process


def _result(host: str, code: int, scratch: Path) -> tuple[int, str, list[str]]:
    output, errors = ((scratch / f"{host}.{name}").read_text(errors="replace") for name in ("out", "err"))
    counts = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|error)", output.rstrip("\n").rpartition("\n")[2])}
    bad = counts.get("failed", 0) + counts.get("error", 0)
    if code not in (0, 1) or not counts:
        said = [line for line in (output + errors).split("\n") if line.strip() and not line.startswith("no tests ran")]
        return 1, f"{host}: the checks could not run", [f"{host}: {line.removeprefix('!!! ')}" for line in said[-5:]]
    return bad, f"{host}: {counts.get('passed', 0)} checks passed" + (f", {bad} FAILED" if bad else ""), _failures(output)


def _failures(output: str) -> list[str]:
    """Of pytest's report each heading, and of the lines with the reasons the first: the others say how it was found."""
    lines: list[str] = []
    reason = True
    for line in output.split("\n"):
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
    return f"the host's answer makes no sense ({line})" if NO_ANSWER.match(line) else line
