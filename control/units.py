"""The llama-servers of a fleet as systemd knows them on their hosts: whether they run, what they hold, what they say."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from control.reach import Reach
from inventory.errors import PaddockError
from inventory.servers import Server

AS_OWNER = """
as_owner() { # SCOPE USER SYSTEMCTL ARGUMENT…: a unit of a user's own manager is its user's
  scope=$1 user=$2; shift 2
  if [ "$scope" = user ]; then
    uid=$(id -u "$user"); systemctl=$1; shift
    runuser -u "$user" -- env XDG_RUNTIME_DIR=/run/user/"$uid" "$systemctl" --user "$@"
  else "$@"; fi
}
"""

LOOK = """
look() { # NAME UNIT SCOPE USER
  echo "unit $1 $(as_owner "$3" "$4" systemctl show --property=ActiveState --value "$2" 2>/dev/null || echo unknown)"
  group=$(as_owner "$3" "$4" systemctl show --property=ControlGroup --value "$2" 2>/dev/null)
  [ -n "$group" ] || return 0
  for pid in $(cat "/sys/fs/cgroup$group/cgroup.procs" "/sys/fs/cgroup/systemd$group/cgroup.procs" 2>/dev/null | sort -u); do
    port=$(tr '\\0' '\\n' 2>/dev/null </proc/$pid/cmdline | sed -n '/^--port$/{n;p;q}')
    resident=$(awk '$1 == "VmRSS:" {print $2}' /proc/$pid/status 2>/dev/null)
    echo "process $1 ${port:-0} ${resident:-0} $(($(drm $pid) + $(nvidia $pid)))"
  done
}
drm() { # PID: KiB that its clients hold; one of a card that has several descriptors is counted once
  grep -ls '^drm-client-id:' /proc/$1/fdinfo/* 2>/dev/null | while read -r each; do echo descriptor; cat "$each" 2>/dev/null; done | awk '
    function keep() { for (region in of) held[card, client, region] = of[region]; split("", of); card = client = "" }
    $1 == "descriptor" { keep() }
    $1 == "drm-pdev:" { card = $2 }
    $1 == "drm-client-id:" { client = $2 }
    /^drm-(memory|resident)-(vram|gtt|system|local)[0-9]*:/ {
      kib = $2 * ($3 == "GiB" ? 1048576 : $3 == "MiB" ? 1024 : $3 == "KiB" ? 1 : 1 / 1024)
      sub(/^drm-(memory|resident)-/, "", $1); if (kib > of[$1]) of[$1] = kib
    }
    END { keep(); for (each in held) sum += held[each]; printf "%d\\n", sum }'
}
nvidia() { printf '%s\\n' "$cards" | awk -F', *' -v pid="$1" '$1 == pid {sum += $2} END {printf "%d\\n", sum * 1024}'; }
cards=
if command -v nvidia-smi >/dev/null; then
  cards=$(timeout 10 nvidia-smi --query-compute-apps=pid,used_gpu_memory --format=csv,noheader,nounits 2>/dev/null) || cards=
fi
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
class Held:
    """What a process holds."""

    memory_kib: int
    card_kib: int


@dataclass(frozen=True)
class Unit:
    """A server's unit: `active`, `failed`, … and what each of its processes holds, by the port that it listens on."""

    state: str
    processes: dict[int, Held]


def look(reach: Reach, host: str, servers: Iterable[Server]) -> dict[str, Unit]:
    """The units of a host's servers, by the server's name, in one command."""
    calls = [f"look {shlex.join((each.name, each.unit, each.scope, each.user))}" for each in servers]
    found: dict[str, Unit] = {}
    for line in reach.shell(host, "\n".join([AS_OWNER, LOOK, *calls, ""]), "what its servers hold"):
        kind, name, *rest = line.split()
        if kind == "unit":
            found[name] = Unit(rest[0] if rest else "unknown", {})
        else:
            port, memory, card = map(int, rest)
            found[name].processes[port] = Held(memory, card)
    return found


def change(reach: Reach, verb: str, server: Server) -> None:
    """`start`, `stop` or `restart`. Raises PaddockError with what the server complained of where that fails."""
    command = f"as_owner {shlex.join((server.scope, server.user, 'systemctl', verb, server.unit))}"
    since = f"journalctl --quiet --no-pager --output=cat --lines={LINES_READ} --since=@$began {_matches(server)}"
    script = f"{AS_OWNER}\nbegan=$(date +%s)\n{command} 2>&1 && echo done || {since}\n"
    said = reach.shell(server.host, script, f"{verb} {server.name}")
    if said[-1:] != ["done"]:
        name = f"{server.host}/{server.name}"
        raise PaddockError(f"{name}: {verb} failed: {complaint(said)}: `paddock logs {name}`")


def complaint(lines: Iterable[str]) -> str:
    """Of llama-server's lines (`0.00.010.451 E gguf_init_from_reader: failed …`) the first error, what follows being its consequences; of
    others the last line.
    """
    said = [line.split(maxsplit=2) for line in lines if line.strip()]
    errors = [line[2] for line in said if len(line) == 3 and line[1] == "E"]
    return " ".join(next(iter(errors), " ".join(said[-1]) if said else "").split())


@dataclass(frozen=True)
class Line:
    """What a server has said, and when, in microseconds since 1970."""

    at: int
    server: str
    text: str


def journal(reach: Reach, servers: Iterable[Server], *, since: str, count: int, follow: bool) -> Iterator[Line]:
    """What servers of one host have said, in the order of time, the last `count` lines unless `since` is given; with `follow`, and say."""
    servers = tuple(servers)
    names = {each.unit: f"{each.host}/{each.name}" for each in servers}
    options = ["--no-pager", "--quiet", "--output=json", f"--output-fields={','.join(FIELDS)}", *(["--follow"] if follow else [])]
    options += [f"--since={since}"] if since else [f"--lines={count}"]
    command = f"journalctl {shlex.join(options)} {' + '.join(_matches(each) for each in servers)}"
    script = UNTIL_NOBODY_READS % command if follow else f"{command} </dev/null"
    for line in reach.lines(servers[0].host, f"sh -c {shlex.quote(script)}", "journalctl"):
        entry = json.loads(line)
        unit = next((entry[field] for field in FIELDS[1:] if entry.get(field) in names), "")
        yield Line(int(entry["__REALTIME_TIMESTAMP"]), names.get(unit, servers[0].host), _text(entry.get("MESSAGE")))


def _text(message: object) -> str:
    """The journal gives what is no text as a list of bytes, and what is too long not at all."""
    if isinstance(message, list):
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
