"""What a host is at one moment, read through the engine: Paddock's own way in, its probe and its checks have no part in it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from lab.engine import reach

TREES = "/etc /opt /usr/local /var/lib/paddock /var/lib/llama-server /var/lib/caddy"

READ = rf"""
export LC_ALL=C
echo "#entries"; find {TREES} -xdev -printf '%p\t%y %U:%G %m %l\n' 2>/dev/null
echo "#marks"; find {TREES} -xdev -type f -printf '%p\t%i %T@\n' 2>/dev/null
echo "#sums"; find {TREES} -xdev -type f -exec sha256sum {{}} + 2>/dev/null
echo "#running"; systemctl list-units --type=service --state=running --plain --no-legend | cut -d' ' -f1 |
  xargs systemctl show -p InvocationID -p Id
echo "#unit files"; systemctl list-unit-files --plain --no-legend | tr -s ' ' '\t'
echo "#units"; systemctl list-units --type=service,socket,timer,path --state=active,failed --plain --no-legend | tr -s ' ' '\t'
echo "#users"; getent passwd | sed 's/:/\t/'
echo "#groups"; getent group | sed 's/:/\t/'
echo "#listening"; ss -Hltun | awk '{{ print $1 " " $5 "\t" }}'
echo "#packages"; dpkg-query -W -f '${{Package}}\t${{db:Status-Abbrev}}\n'
"""

FROM_THE_CONNECTION = re.compile(
    r"user@\d+\.service|user-runtime-dir@\d+\.service|session-.*\.scope|systemd-hostnamed\.service|systemd-logind\.service"
)
"""Units that come and go with a login over SSH."""


@dataclass(frozen=True)
class Snapshot:
    """`files` is path → type, owner, mode, and what a file or a link holds; `marks` file → inode and time of its last change.

    `running` is service → InvocationID; the others are name → state, as the host's own tools print it.
    """

    files: Mapping[str, str]
    marks: Mapping[str, str]
    running: Mapping[str, str]
    unit_files: Mapping[str, str]
    units: Mapping[str, str]
    users: Mapping[str, str]
    groups: Mapping[str, str]
    listening: Mapping[str, str]
    packages: Mapping[str, str]


def inside(container: str, script: str) -> str:
    """What a shell script prints in a container. Raises LabError where it fails."""
    return reach().run("exec", "--interactive", container, "sh", "-s", stdin=script.encode())


def snapshot(container: str) -> Snapshot:
    sections: dict[str, list[str]] = {}
    for line in inside(container, READ).splitlines():
        if line.startswith("#"):
            lines = sections.setdefault(line[1:], [])
        else:
            lines.append(line)
    sums = {path: sum for sum, path in (line.split("  ", 1) for line in sections["sums"])}
    found = {name: dict(line.partition("\t")[::2] for line in lines) for name, lines in sections.items() if name not in ("sums", "running")}
    return Snapshot(
        files={path: f"{entry}{sums.get(path, '')}" for path, entry in found["entries"].items()},
        marks=found["marks"],
        running={name: invocation for name, invocation in _invocations(sections["running"]) if not FROM_THE_CONNECTION.fullmatch(name)},
        unit_files={name: state for name, state in found["unit files"].items() if not FROM_THE_CONNECTION.fullmatch(name)},
        units={name: state for name, state in found["units"].items() if not FROM_THE_CONNECTION.fullmatch(name)},
        users=found["users"],
        groups=found["groups"],
        listening=found["listening"],
        packages=found["packages"],
    )


def _invocations(lines: list[str]) -> list[tuple[str, str]]:
    """`systemctl show` of several units prints Id=… and InvocationID=… in an order of its own, an empty line between units."""
    blocks = "\n".join(lines).split("\n\n")
    shown = [dict(line.partition("=")[::2] for line in block.splitlines()) for block in blocks]
    return [(each["Id"], each["InvocationID"]) for each in shown if each]


def differing(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, tuple[str | None, str | None]]:
    """Name → what it was and what it is, of those that are not the same."""
    return {name: (before.get(name), after.get(name)) for name in sorted({*before, *after}) if before.get(name) != after.get(name)}
