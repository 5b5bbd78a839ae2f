"""A home in a directory of its own, with the script that puts a seat into it and takes it out again."""

from __future__ import annotations

import subprocess
from pathlib import Path

from inventory.knowledge import Certificate
from roles.client.home import script_of
from roles.client.part import Person
from roles.client.settings import Seat

OURS = "/etc/paddock/clients/ann"
LINKS = {".pi/agent/certs/client.pem": f"{OURS}/certs/client.pem", ".pi/agent/models.json": f"{OURS}/models.json"}
MODELS = ".pi/agent/models.json"
ASIDE = ".local/state/paddock/client/aside"


class Home:
    def __init__(self, directory: Path) -> None:
        self.path = directory / "ann"
        self.path.mkdir()
        self.script = directory / "seat.sh"
        self.declare(LINKS)

    def declare(self, links: dict[str, str]) -> None:
        seat = Seat(client="laptop")
        person = Person("desk", "ann", seat, str(self.path), Certificate("", ""), "", (), "home")
        self.script.write_bytes(script_of(person, "seat", links=links).data)

    def seat(self, verb: str) -> str:
        """What it says, on standard error. It must succeed."""
        done = subprocess.run(["sh", str(self.script), verb], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert not done.stdout
        return done.stderr

    def write(self, path: str, text: str) -> None:
        file = self.path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def found(self) -> dict[str, str]:
        """All that lies in the home: a directory, a link's target, or a file's text."""
        return {
            str(each.relative_to(self.path)): f"-> {each.readlink()}" if each.is_symlink() else "/" if each.is_dir() else each.read_text()
            for each in self.path.rglob("*")
        }

    def links(self) -> dict[str, str]:
        return {path: found.removeprefix("-> ") for path, found in self.found().items() if found.startswith("-> ")}
