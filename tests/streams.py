"""Runs layers of tests, some at a time, and prints where the time went: `python -m tests.streams BEGAN LAYER…`.

A layer is a directory, or a file out of one: the directory then runs without it. They begin in the order given. What a
layer prints is in build/test/ while it runs, and is shown when it ends; one layer alone is shown as it runs. PADDOCK_STREAMS is how many
run at a time. BEGAN is when the whole run began, in seconds since 1970.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Lock

LOGS = Path("build/test")


@dataclass(frozen=True)
class Times:
    """A line of the table: how a layer's tests ended, and how long they took."""

    layer: str
    passed: int
    failed: int
    skipped: int
    seconds: float

    @property
    def ended(self) -> str:
        said = {"failed": self.failed, "passed": self.passed, "skipped": self.skipped}
        return ", ".join(f"{number} {what}" for what, number in said.items() if number) or "no tests ran"


def times(file: Path) -> list[Times]:
    """What `tests.layers` noted, in the order in which the layers ended."""
    rows = [line.split("\t") for line in file.read_text().splitlines()] if file.exists() else []
    return [Times(layer, int(passed), int(failed), int(skipped), float(seconds)) for layer, passed, failed, skipped, seconds in rows]


def table(rows: Sequence[Times], whole_s: float, failed: Sequence[str] = ()) -> str:
    """The layers, the longest first, the tests that failed, and a last line that reads as pytest's own."""
    width = max((len(row.layer) for row in rows), default=0)
    lines = [f"{row.layer:{width}}  {minutes(row.seconds):>6}  {row.ended}" for row in sorted(rows, key=lambda row: -row.seconds)]
    total = Times("", sum(row.passed for row in rows), sum(row.failed for row in rows), sum(row.skipped for row in rows), whole_s)
    one_by_one = minutes(sum(row.seconds for row in rows))
    return "\n".join(
        [
            "where the time went:",
            *lines,
            f"one after another {one_by_one}",
            *(f"FAILED {each}" for each in failed),
            f"==== {total.ended} in {whole_s:.2f}s ({minutes(whole_s)}) ====",
        ]
    )


def minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


@dataclass
class Streams:
    """Layers at work. `failed` are those that did not end well."""

    layers: Sequence[str]
    releases: Path | None = None
    """Where the first layer leaves what it has compiled: the others wait for that, to not compile the same beside it."""
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    _shown: Lock = field(default_factory=Lock)
    _first_ended: Event = field(default_factory=Event)
    _stopped: bool = False

    def run(self, streams: int) -> None:
        LOGS.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(streams) as pool:
            tuple(pool.map(self._run, self.layers))

    def stop(self, number: int, _: object) -> None:
        """Ends what runs; each pytest takes its lab hosts away first."""
        self._stopped = True
        for process in self.running:
            process.send_signal(signal.SIGINT)
        raise SystemExit(128 + number)

    def _run(self, layer: str) -> None:
        if layer != self.layers[0]:
            self._await_releases()
        if self._stopped:
            return
        try:
            self._run_now(layer)
        finally:
            self._first_ended.set()

    def _await_releases(self) -> None:
        while self.releases and not any(self.releases.glob("[!.]*/*")) and not self._stopped:
            if self._first_ended.wait(timeout=1):
                return

    def _run_now(self, layer: str) -> None:
        log = None if len(self.layers) == 1 else LOGS / f"{layer.removeprefix('tests/').removesuffix('.py').replace('/', '-')}.log"
        command = [sys.executable, "-m", "pytest", "-p", "tests.layers", "-v", "-s", "--durations=10", layer]
        command += [f"--ignore={each}" for each in self.layers if each.startswith(f"{layer}/")]
        began = time.monotonic()
        say(f"test: {layer} begins{f': {log}' if log else ''}")
        with log.open("wb") if log else nullcontext() as output:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT if log else None)
        self.running.append(process)
        code = process.wait()
        self.running.remove(process)
        with self._shown:
            if code:
                self.failed.append(layer)
            print(log.read_text(errors="replace") if log else "", end="")
            say(f"test: {layer} ended after {minutes(time.monotonic() - began)}")


def say(line: str) -> None:
    """In one piece: others are at work."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(began: float, layers: Sequence[str]) -> int:
    releases = os.environ.get("PADDOCK_RELEASES")
    work = Streams(layers, Path(releases) if releases else None)
    signal.signal(signal.SIGTERM, work.stop)
    try:
        work.run(int(os.environ.get("PADDOCK_STREAMS") or 2))
    except KeyboardInterrupt:  # which all of them have heard
        return 130
    noted = Path(os.environ["PADDOCK_TIMES"]) if "PADDOCK_TIMES" in os.environ else None
    failed = noted.with_name("failed") if noted else None
    if work.failed:
        print(f"test: FAILED: {' '.join(work.failed)}")
    print(
        table(times(noted) if noted else [], time.time() - began, failed.read_text().splitlines() if failed and failed.exists() else ()),
        flush=True,
    )
    return 1 if work.failed else 0


if __name__ == "__main__":
    raise SystemExit(main(float(sys.argv[1]), sys.argv[2:]))
