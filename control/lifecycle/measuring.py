"""Has a host measure a release beside the one that serves, until that decides whether it may serve."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Literal

from control.lifecycle.judgement import Judgement, judge
from control.lifecycle.measurements import Measurements
from inventory.upgrade import UpgradeSettings
from roles.llama_cpp.measuring import program

if TYPE_CHECKING:
    from control.ssh.reach import Reach

DIRECTORY = "/run/paddock/measuring"
"""Where the program and what it measures lie on a host while it is at work."""

RUNS = (1, 1, 2, 4)
"""How often `rounds` of the inventory each run has: what is not decided is measured again."""

Manner = Literal["together", "turns"]
"""Both releases side by side, which takes the memory of both, or one after the other."""


def judged(
    host: str,
    measure: Callable[[int], Iterable[str]],
    settings: UpgradeSettings,
    baseline: str,
    tell: Callable[[Judgement], None] = lambda judgement: None,
) -> Judgement:
    """The judgement that `measure` leads to, which is asked for the lines of a run of so many rounds: `measured` gives them. `baseline` is
    what the release that serves is called; `tell` hears of a judgement that does not decide, before it is measured again.

    Raises PaddockError where the host cannot measure.
    """
    found = Measurements()
    for times in RUNS:
        found.add(host, measure(settings.rounds * times))
        judgement = judge(found, settings.limits, baseline)
        if judgement.verdict != "inconclusive" or found.gone:
            break
        if times != RUNS[-1]:
            tell(judgement)
    return judgement


def measured(reach: Reach, host: str, measurement: bytes, manner: Manner, rounds: int) -> Iterator[str]:
    """The lines of one run on a host, as they come: of its two passes each has half of the rounds. `measurement` is what
    roles.llama_cpp.measuring packs. Raises PaddockError where it does not come to its end."""
    files = {"measure.sh": program(), "measurement.tar.gz": measurement}
    steps = [f"base64 -d >{DIRECTORY}/{name} <<'end'\n{base64.encodebytes(data).decode()}end" for name, data in files.items()]
    reach.shell(host, "\n".join(["set -e", f"rm -rf {DIRECTORY}", "umask 077", f"mkdir -p {DIRECTORY}", *steps, ""]), "measuring")
    work = f"sh {DIRECTORY}/measure.sh {DIRECTORY}/measurement.tar.gz {manner} {-(-rounds // 2)}"
    yield from reach.lines(host, f"sh -c '{work}; status=$?; rm -rf {DIRECTORY}; exit $status'", "measuring")
