"""Who can open what a fleet seals, and whom the person here has agreed to.

    <state>/recipients.txt               an age or SSH public key a line, with a comment if somebody wrote one
    ~/.config/paddock/known_recipients   `home age1…` a line: the fleet, and a key of others that its state has been sealed to from here

Who can write to a state, its git repository for instance, can add a line to recipients.txt. So a key that is not known here is asked about
before anything is sealed to it. What lies at home is out of reach of who writes to the state. One that leaves recipients.txt is forgotten.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from control.state.fleet import FleetState, make_private, read, write_atomically
from inventory.errors import PaddockError
from resources import lines_of


@dataclass(frozen=True)
class Recipient:
    """`key` is `age1…` or `ssh-ed25519 AAAA…`, without the comment."""

    line: str
    key: str

    @classmethod
    def of(cls, line: str) -> Recipient:
        return cls(line, " ".join(line.split()[: 1 if line.startswith("age1") else 2]))

    @property
    def words(self) -> str:
        """`age1… (# ann)`, `ssh-ed25519 SHA256:… (ann@desk)`"""
        comment = self.line.removeprefix(self.key).strip()
        kind, _, body = self.key.partition(" ")
        shown = f"{kind} {_fingerprint(body)}" if body else kind
        return f"{shown} ({comment})" if comment else shown


class Recipients:
    def __init__(self, state: FleetState) -> None:
        self._state = state

    @property
    def file(self) -> Path:
        return self._state.path / "recipients.txt"

    @property
    def known_file(self) -> Path:
        return Path.home() / ".config" / "paddock" / "known_recipients"

    def listed(self) -> list[Recipient]:
        lines = (line.strip() for line in lines_of((read(self.file) or b"").decode(errors="replace")))
        return [Recipient.of(line) for line in lines if line and not line.startswith("#")]

    def known(self) -> frozenset[str]:
        """The keys that the person here has agreed to, beside their own."""
        return frozenset(key for fleet, key in self._remembered() if fleet == self._state.fleet)

    def new(self, listed: Collection[Recipient], own: Collection[str]) -> list[Recipient]:
        """Those that are neither known nor the person's `own`."""
        known = self.known() | {Recipient.of(each).key for each in own}
        return [each for each in listed if each.key not in known]

    def require_known(self, listed: Collection[Recipient], own: Collection[str]) -> None:
        """Asks about those that are new, and remembers all. Raises PaddockError where the answer is no, or nobody is there to give it."""
        if new := self.new(listed, own):
            names = ", ".join(each.words for each in new)
            are = "is a new recipient" if len(new) == 1 else "are new recipients"
            if not self._state.ask(f"{self.file}: {names} {are}, who can decrypt all that is encrypted from now on. Do you know them?"):
                raise PaddockError(
                    f"{self.file}: {names} {are} that nobody has accepted on this machine, so nothing was encrypted: "
                    "`paddock secrets recipients --accept` accepts all that are listed; take a line out that you do not know"
                )
        self.remember(listed, own)

    def remember(self, listed: Collection[Recipient], own: Collection[str]) -> None:
        """From now on those that are listed are known, and no others."""
        mine = {Recipient.of(each).key for each in own}
        keys = frozenset(each.key for each in listed) - mine
        if keys != self.known():
            others = [each for each in self._remembered() if each[0] != self._state.fleet]
            lines = [f"{fleet} {key}\n" for fleet, key in (*others, *((self._state.fleet, key) for key in sorted(keys)))]
            make_private(self.known_file.parent)
            write_atomically(self.known_file, "".join(lines))

    def _remembered(self) -> list[tuple[str, str]]:
        """Fleet and key of each line."""
        lines = lines_of((read(self.known_file) or b"").decode(errors="replace"))
        return [(fleet, key) for fleet, _, key in (line.partition(" ") for line in lines) if key]


def _fingerprint(body: str) -> str:
    """As `ssh-keygen -l` prints it."""
    try:
        digest = hashlib.sha256(base64.b64decode(body, validate=True)).digest()
    except (binascii.Error, ValueError):
        return body
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")
