"""Notes every argument list and every environment of every process that it can see, hundreds of times a second where the machine is quick.

    python tests/faults/sampling.py OUT          until its standard input ends

The processes of lab hosts that are containers are among those of the machine that runs them. OUT has a line each of what was seen, in JSON:
`["arguments", "cat", "caddy.service", "cat\\u0000/etc/motd\\u0000"]`: what it is, the program, the unit that it is of, the text.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

OLD = 20
"""A process that was looked at so often is looked at now and then: it may still become another program."""


@contextmanager
def sampled(directory: Path) -> Iterator[list[tuple[str, str, str, str]]]:
    """What was seen of every process meanwhile: there afterwards."""
    seen: list[tuple[str, str, str, str]] = []
    out = directory / "sampled"
    command = [sys.executable, __file__, str(out)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as sampling:
        assert sampling.stdin
        yield seen
        sampling.stdin.close()
        assert sampling.wait(60) == 0
    seen += [(what, program, unit, text) for what, program, unit, text in map(json.loads, out.read_text().split("\n"))]
    out.unlink()


def main() -> None:
    seen: set[tuple[str, str, str, bytes]] = set()
    looked: dict[str, int] = {}
    turn = 0
    while not select.select([sys.stdin], [], [], 0.002)[0]:
        turn += 1
        there = [each.name for each in Path("/proc").iterdir() if each.name.isdecimal() and int(each.name) != os.getpid()]
        looked = {name: looked.get(name, 0) + 1 for name in there}
        for name in there:
            if looked[name] > OLD and (int(name) + turn) % OLD:
                continue
            try:
                command = Path("/proc", name, "comm").read_text(errors="replace").strip()
                unit = Path("/proc", name, "cgroup").read_text(errors="replace").rstrip().rpartition("/")[2]
                seen.add(("arguments", command, unit, Path("/proc", name, "cmdline").read_bytes()))
                environment = Path("/proc", name, "environ").read_bytes().split(b"\0")
                seen.update(("environment", command, unit, each) for each in environment)
            except OSError:
                pass  # it has ended
    lines = (json.dumps((*head, text.decode(errors="replace"))) for *head, text in sorted(seen))
    Path(sys.argv[1]).write_text("\n".join(lines))


if __name__ == "__main__":
    main()
