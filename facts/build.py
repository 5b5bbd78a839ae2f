"""How far a build on a host has come, read from its transient unit and its journal."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from pyinfra.api import FactBase

LINES_SHOWN = 12
"""Of a failed build: its first error, and what stands around it."""

EDGE = re.compile(r"\[(\d+)/(\d+)\] ")
STEP = re.compile(r"paddock: (?!error: )(.*)")
# In the order in which they are looked for: a full disk makes everything else fail, and where CMake fails because the compiler did,
# the compiler's word is the telling one.
TELLING = (
    re.compile(r"No space left on device"),
    re.compile(r"\berror: "),
    re.compile(r"CMake Error|^ninja: (?:error|fatal): |^(?:cc1plus|collect2|ld): "),
)
KILLED = "Killed signal terminated program"


@dataclass(frozen=True)
class Build:
    """`state` is the unit's, `result` systemd's word for how it ended, `lines` the last of its journal."""

    state: Literal["absent", "running", "done", "failed"]
    result: str = ""
    lines: tuple[str, ...] = ()

    @property
    def progress(self) -> str:
        """`compiling, 57 of 210`; empty where it has not said anything yet."""
        for line in reversed(self.lines):
            if edge := EDGE.match(line):
                return f"compiling, {edge[1]} of {edge[2]}"
            if step := STEP.match(line):
                return step[1]
        return ""

    @property
    def why(self) -> list[str]:
        """Why it failed: in one line, then the lines of the compiler around the first error, if it was one."""
        if any(KILLED in line for line in self.lines):
            return ["the compiler was killed, as it is where memory runs out: set roles.llama_cpp.jobs to 1, or free memory on the host"]
        first = next((number for telling in TELLING for number, line in enumerate(self.lines) if telling.search(line)), None)
        if first is None:
            ended = "failed" if self.result == "exit-code" else f"was ended from outside ({self.result})"
            return [f"the build {ended}; the last that it said: {self.lines[-1] if self.lines else 'nothing'}"]
        start = first - 1 if first and self.lines[first - 1].startswith("FAILED: ") else first
        told = self.lines[first].strip().removeprefix("paddock: error: ")
        if told.endswith(":"):  # CMake says where, and what on a line of its own
            told = " ".join([told, *(line.strip() for line in self.lines[first + 1 :] if line.strip())][:2])
        return [told, *self.lines[start : start + LINES_SHOWN]]


class BuildStatus(FactBase[Build]):
    """`Build(state="running", lines=("[57/210] Building CXX object src/CMakeFiles/llama.dir/llama-graph.cpp.o",))`"""

    def command(self, unit: str) -> str:
        # Of a running build the last lines tell the progress; of a failed one all that could hold the first error.
        return f"""
systemctl show -p ActiveState -p SubState -p Result {unit}
id=$(systemctl show -P InvocationID {unit}); lines=60
! systemctl is-failed --quiet {unit} || {{ lines=5000; journalctl -q --sync 2>/dev/null; }}
[ -z "$id" ] || journalctl -q -o cat -n $lines _SYSTEMD_INVOCATION_ID="$id" 2>/dev/null | sed 's/^/|/'
true"""

    def process(self, output: list[str]) -> Build:
        said = dict(line.partition("=")[::2] for line in output if not line.startswith("|"))
        lines = tuple(line[1:] for line in output if line.startswith("|"))
        match said.get("ActiveState"), said.get("SubState"):
            case "active" | "activating" | "reloading" | "deactivating", sub if sub != "exited":
                return Build("running", "", lines)
            case "active", "exited":
                return Build("done", said.get("Result", ""), lines)
            case "failed", _:
                return Build("failed", said.get("Result", ""), lines)
        return Build("absent", "", lines)
