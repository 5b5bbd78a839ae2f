"""The llama-servers of a fleet as systemd knows them on their hosts: whether they run, what they hold, what they say."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from control.ssh.reach import Reach
from inventory.bounds import from_json
from inventory.errors import PaddockError
from roles.role import render
from roles.server import Server
from roles.wording import one_line

LOOK = """
# look NAME UNIT USER: the state of the unit, how often systemd had to start it again, and what each of its processes
# holds. USER is - for a unit of the system's
look() {
  state=$(manager "$3" show --property=ActiveState --value "$2" 2>/dev/null || echo unknown)
  again=$(manager "$3" show --property=NRestarts --value "$2" 2>/dev/null) || again=
  echo "unit $1 ${state:-unknown} ${again:-0}"
  group=$(manager "$3" show --property=ControlGroup --value "$2" 2>/dev/null)
  [ -n "$group" ] || return 0
  # shellcheck disable=SC2013 # a word a process
  for pid in $({ cat "/sys/fs/cgroup$group/cgroup.procs" "/sys/fs/cgroup/systemd$group/cgroup.procs"
    docker top "paddock-${2%.service}" -eo pid | sed 1d; } 2>/dev/null | sort -u); do
    port=$(tr '\\0' '\\n' 2>/dev/null <"/proc/$pid/cmdline" | sed -n '/^--port$/{n;p;q}')
    resident=$(awk '$1 == "VmRSS:" {print $2}' "/proc/$pid/status" 2>/dev/null)
    echo "process $1 ${port:-0} ${resident:-0} $(($(drm_kib "$pid") + $(nvidia_kib "$pid")))"
  done
}
"""
"""Memory of a card is what the kernel says of a process (https://docs.kernel.org/gpu/drm-usage-stats.html), or nvidia-smi."""

UNTIL_NOBODY_READS = """exec 3<&0
%s </dev/null & reading=$!
{ cat <&3; kill $reading; } >/dev/null 2>&1 &
wait $reading"""
"""journalctl -f would stay behind on the host until it had the next line to write."""

LINES_READ = 60
"""Of a server's journal, for what it complained of."""

FIELDS = ("MESSAGE", "_SYSTEMD_UNIT", "UNIT", "_SYSTEMD_USER_UNIT", "USER_UNIT")


@dataclass(frozen=True)
class ProcessMemory:
    """What a process holds."""

    memory_kib: int
    card_kib: int


@dataclass(frozen=True)
class Unit:
    """A server's unit: `active`, `failed`, … and what each of its processes holds, by the port that it listens on. `restarts` is how often
    systemd had to start it again since somebody last did."""

    state: str
    processes: dict[int, ProcessMemory]
    restarts: int = 0


def look(reach: Reach, host: str, servers: Iterable[Server]) -> dict[str, Unit]:
    """The units of a host's servers, by the server's name, in one command. Raises PaddockError where the host says something else."""
    servers = tuple(servers)
    calls = [f"look {shlex.join((each.name, each.unit, _whose(each)))}" for each in servers]
    found: dict[str, Unit] = {}
    for line in reach.shell(
        host,
        "\n".join([render("manager.sh"), render("shared/drm.sh"), render("shared/nvidia.sh"), LOOK, "nvidia_cards", *calls, ""]),
        "what its servers hold",
    ):
        try:
            kind, name, *rest = line.split()
            if kind == "unit":
                state, restarts = rest
                found[name] = Unit(state, {}, int(restarts))
            else:
                port, memory, card = map(int, rest)
                found[name].processes[port] = ProcessMemory(memory, card)
        except (ValueError, LookupError):
            raise PaddockError(f"{host}: does not say what its servers hold, but {one_line(line[:80])}") from None
    if missing := [each.name for each in servers if each.name not in found]:
        raise PaddockError(f"{host}: does not say what its servers hold: nothing of {', '.join(missing)}")
    return found


def change(reach: Reach, verb: str, server: Server) -> None:
    """`start`, `stop` or `restart`. Raises PaddockError with what the server complained of where that fails."""
    command = shlex.join(("manager", _whose(server), verb, server.unit))
    since = f"journalctl --quiet --no-pager --output=cat --lines={LINES_READ} --since=@$began {_matches(server)}"
    script = f"{render('manager.sh')}\nbegan=$(date +%s)\n{command} 2>&1 && echo done || {since}\n"
    said = reach.shell(server.host, script, f"{verb} {server.name}")
    if said[-1:] != ["done"]:
        name = f"{server.host}/{server.name}"
        raise PaddockError(f"{name}: {verb} failed: {complaint(said)}: `paddock logs {name}`")


def _whose(server: Server) -> str:
    """Whose manager has the unit, as `manager` (resources/manager.sh) takes it."""
    return server.user if server.scope == "user" else "-"


def complaint(lines: Iterable[str]) -> str:
    """Of llama-server's lines (`0.00.010.451 E gguf_init_from_reader: failed …`) the first error, what follows being its consequences; of
    others the last line.
    """
    said = [line.split(maxsplit=2) for line in lines if line.strip()]
    errors = [line[2] for line in said if len(line) == 3 and line[1] == "E"]
    return " ".join(next(iter(errors), " ".join(said[-1]) if said else "").split())


@dataclass(frozen=True)
class JournalLine:
    """What a server has said, and when, in microseconds since 1970."""

    at: int
    server: str
    text: str


def journal(reach: Reach, servers: Iterable[Server], *, since: str, count: int, follow: bool) -> Iterator[JournalLine]:
    """What servers of one host have said, in the order of time, the last `count` lines unless `since` is given; with `follow`, and say."""
    servers = tuple(servers)
    names = {each.unit: f"{each.host}/{each.name}" for each in servers}
    options = ["--no-pager", "--quiet", "--output=json", f"--output-fields={','.join(FIELDS)}", *(["--follow"] if follow else [])]
    options += [f"--since={since}"] if since else [f"--lines={count}"]
    command = f"journalctl {shlex.join(options)} {' + '.join(_matches(each) for each in servers)}"
    script = UNTIL_NOBODY_READS % command if follow else f"{command} </dev/null"
    for line in reach.lines(servers[0].host, f"sh -c {shlex.quote(script)}", "journalctl"):
        try:
            entry = from_json(line)
            at = int(entry["__REALTIME_TIMESTAMP"])
        except (ValueError, TypeError, LookupError):
            raise PaddockError(f"{servers[0].host}: journalctl says what is no line of a journal: {one_line(line[:80])}") from None
        unit = next((entry[field] for field in FIELDS[1:] if entry.get(field) in names), "")
        yield JournalLine(at, names.get(unit, servers[0].host), _text(entry.get("MESSAGE")))


def _text(message: object) -> str:
    """The journal gives what is no text as a list of bytes, and what is too long not at all."""
    if isinstance(message, list) and all(isinstance(each, int) and 0 <= each < 256 for each in message):
        return bytes(message).decode(errors="replace")
    return message if isinstance(message, str) else "(a line too long to show)"


def last_lines(reach: Reach, server: Server, count: int) -> list[str]:
    """The last lines of a server, without time and name."""
    return reach.shell(server.host, f"journalctl --no-pager --output=cat --lines={count} {_matches(server)}\n", "journalctl")


def _matches(server: Server) -> str:
    """What a unit's processes say, and what systemd says of it, as journalctl picks it out."""
    if server.scope == "system":
        return f"_SYSTEMD_UNIT={server.unit} + UNIT={server.unit}"
    of_user = f'_UID="$(id -u {shlex.quote(server.user)})"'
    return f"_SYSTEMD_USER_UNIT={server.unit} {of_user} + USER_UNIT={server.unit} {of_user}"
