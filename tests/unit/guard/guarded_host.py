"""The shell of a guard at work in a directory: the files are real, systemd is a few files and a program that reads them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from resources import scripts

SYSTEMCTL = r"""#!/bin/sh
set -eu
cd "$UNITS"
echo "$*" >>calls
verb=
property=
unit=
for each; do
  case $each in
    show | restart | stop | start | enable | disable | reset-failed | daemon-reload | is-active) verb=$each ;;
    UnitFileState | ActiveState | InvocationID | SubState | Job) property=$each ;;
    -*) ;;
    *) unit=$each ;;
  esac
done
case $verb in
  show) [ -z "$property" ] || [ ! -e "$unit.$property" ] || cat "$unit.$property" ;;
  restart | start)
    [ ! -e refuses ] || exit 1
    echo active >"$unit.ActiveState"
    echo "invocation $(wc -l <calls)" >"$unit.InvocationID" ;;
  stop) echo inactive >"$unit.ActiveState" ;;
  enable) echo enabled >"$unit.UnitFileState" ;;
  disable) echo disabled >"$unit.UnitFileState" ;;
  is-active) [ "$(cat "$unit.ActiveState" 2>/dev/null)" = active ] ;;
esac
"""

JOURNALCTL = """#!/bin/sh
set -eu
case "$*" in
  *--show-cursor*) echo "-- cursor: s=1" ;;
  *) echo "what $* says" ;;
esac
"""

ALONE = "set -eu; umask 077; LC_ALL=C; export LC_ALL; trap 'rc=$?; [ $rc = 0 ] || echo \"paddock-at: $at\" >&2' EXIT; at="


@dataclass
class GuardedHost:
    directory: Path

    def __post_init__(self) -> None:
        for name in ("var", "run", "etc", "units", "bin", "stage"):
            (self.directory / name).mkdir()
        for name, text in {
            "systemctl": SYSTEMCTL,
            "journalctl": JOURNALCTL,
            "ss": "#!/bin/sh\nset -eu\n",
            "sleep": "#!/bin/sh\nset -eu\n",
        }.items():
            (self.directory / "bin" / name).write_text(text)
            (self.directory / "bin" / name).chmod(0o755)
        (self.directory / "stage" / "host.sh").write_text(self.functions)

    @property
    def functions(self) -> str:
        text = scripts()
        for path, own in {"/var/lib/paddock": "var", "/run/paddock": "run", "/etc/systemd/system": "etc"}.items():
            text = text.replace(path, str(self.directory / own))
        return text

    @property
    def guard(self) -> Path:
        return self.directory / "var" / "guard"

    def unit(self, name: str, *, active: str = "active", enabled: str = "enabled", invocation: str = "first") -> None:
        for attribute, value in {"ActiveState": active, "UnitFileState": enabled, "InvocationID": invocation}.items():
            (self.directory / "units" / f"{name}.{attribute}").write_text(f"{value}\n")

    def of_unit(self, name: str, attribute: str = "ActiveState") -> str:
        path = self.directory / "units" / f"{name}.{attribute}"
        return path.read_text().strip() if path.exists() else ""

    def calls(self, verb: str) -> list[str]:
        return [line for line in (self.directory / "units" / "calls").read_text().splitlines() if verb in line.split()]

    def does(self, call: str) -> subprocess.CompletedProcess[str]:
        """What dash says of a call of the host's functions."""
        return self.runs(f"{ALONE}\nstage={self.directory}/stage\n. {self.directory}/stage/host.sh\n{call}")

    def fires(self) -> subprocess.CompletedProcess[str]:
        """What the timer's service runs."""
        script = (self.guard / "take-back").read_text().replace("/var/lib/paddock", str(self.directory / "var"))
        return self.runs(script)

    def runs(self, script: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PATH": f"{self.directory}/bin:{os.environ['PATH']}", "UNITS": str(self.directory / "units")}
        return subprocess.run(["sh", "-c", script], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)

    def arms(
        self, paths: Iterable[Path], units: Iterable[str] = (), id: str = "one", deadline_s: int = 300
    ) -> subprocess.CompletedProcess[str]:
        return self.does(f"guard_arm {deadline_s} {id} 'the switch to {id}' {' '.join(map(str, paths))} -- {' '.join(units)}")

    def passes(self) -> None:
        """The deadline."""
        (self.directory / "run" / "guard").write_text("one 0\n")

    @property
    def left(self) -> list[str]:
        """What there is of a guard, but for what tells of it."""
        every = sorted(path for part in ("var", "run", "etc") for path in (self.directory / part).rglob("*"))
        names = (str(path.relative_to(self.directory)) for path in every)
        return [name for name in names if not name.startswith("var/evidence") and name not in ("run/lock", "var/taken-back")]

    @property
    def outcome(self) -> dict[str, str]:
        text = (self.directory / "var" / "taken-back" / "outcome").read_text()
        return dict(line.partition("\t")[::2] for line in text.splitlines())
