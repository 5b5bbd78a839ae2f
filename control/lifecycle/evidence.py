"""What tells why a host has not kept the release of an upgrade: kept in the state, and named in the run's record."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from control.lifecycle.judgement import Judgement
from control.lifecycle.recording import Recording
from control.state.evidence import TOLD, keep
from control.state.fleet import FleetState
from inventory.errors import PaddockError

if TYPE_CHECKING:
    from control.deployment.guard import Switch

ANSWER_BYTES = 65536
"""So much of an answer is kept."""


@dataclass
class Evidence:
    """That of one run, on the hosts known as `id`. `say` hears how it is shown, `complain` that it cannot be kept."""

    state: FleetState
    record: Recording
    id: str
    say: Callable[[str], None]
    complain: Callable[[str], None]
    _measured: dict[str, dict[str, bytes]] = field(default_factory=dict)

    def measured(self, host: str, unit: str, judgement: Judgement) -> None:
        """For the case that the host does not keep the release, whatever the reason."""
        self._measured.setdefault(host, {}).update(files_of(unit, judgement))

    def of_failure(self, host: str, words: str) -> None:
        """Nothing was switched there, so the host has collected nothing."""
        self._keep(host, {TOLD: words.encode()})

    def of_switch(self, switch: Switch) -> None:
        """What the host has collected of a switch that was taken back, which may be one that another run began."""
        try:
            switch.evidence(self.state)
        except PaddockError as error:
            self.complain(f"what tells why lies on the host alone: {error}")
        if switch.guard.id == self.id:
            self._keep(switch.host, {})
        else:
            self._tell(switch.host, switch.guard.id)

    def _keep(self, host: str, files: Mapping[str, bytes]) -> None:
        try:
            keep(self.state, host, self.id, {**self._measured.get(host, {}), **files})
            self._tell(host, self.id)
        except PaddockError as error:
            self.complain(f"{host}: what tells why cannot be kept: {error}")

    def _tell(self, host: str, id: str) -> None:
        self.record.has_evidence(host, id)
        if self.record.number is not None:
            self.say(f"{host}: `paddock history show {self.record.number} --evidence` shows what tells why")


def files_of(unit: str, judgement: Judgement) -> dict[str, bytes]:
    """Of a server that was measured: all findings, what failed of its answers, and what it has written."""
    findings = "".join(f"{each.verdict:12}  {each.words}\n" for each in judgement.findings).encode()
    named = {f"{unit}.measured": findings, f"{unit}.answers": b"".join(_answers(judgement)), f"{unit}.log": judgement.log}
    return {name: content for name, content in named.items() if content}


def _answers(judgement: Judgement) -> Iterator[bytes]:
    for each in judgement.findings:
        if each.answer:
            yield f"{each.words}:\n".encode() + each.answer[:ANSWER_BYTES] + b"\n"
