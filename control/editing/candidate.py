"""An inventory file as it would be after an edit: loaded and checked, and then put in the file's place."""

from __future__ import annotations

import difflib
import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from control.state.fleet import in_words, write_atomically
from inventory.errors import InventoryError, PaddockError
from inventory.fleet import Fleet
from inventory.load import loaded
from inventory.model_lock import locked, read_lock
from inventory.source_lock import locked as with_sources
from inventory.source_lock import read_lock as read_source_lock
from resources import lines_of


@dataclass(frozen=True)
class Candidate:
    """An inventory file as it would be. `fleet` is what it describes then."""

    path: Path
    before: str
    text: str
    fleet: Fleet

    @property
    def differs(self) -> bool:
        return self.text != self.before

    def difference(self) -> Iterator[str]:
        """What an edit changes, as a unified diff of the file; nothing where it changes nothing."""
        before, after, name = lines_of(self.before), lines_of(self.text), str(self.path)
        yield from difflib.unified_diff(before, after, name, name, lineterm="", n=1)

    def keep(self) -> None:
        """Puts it in the file's place, whole, with the mode that the file has."""
        target = self.path.resolve()
        write_atomically(target, self.text, target.stat().st_mode & 0o7777)


def candidate(path: Path, text: str) -> Candidate:
    """The text, loaded and checked as if it were the file's. Raises InventoryError, with the file's name, where it would be wrong."""
    from control.llama_cpp.options import checked

    target = path.resolve()
    try:  # beside it: what is named in it is found from there; by a name that nobody can have put a link at
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{path.name}.", suffix=".edited")
    except OSError as error:
        raise PaddockError(f"{path}: cannot be changed: {error.strerror}") from None
    trial = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            os.fchmod(file.fileno(), target.stat().st_mode & 0o7777)
            file.write(text)
        this = loaded(trial)
        # The locks have the inventory's name, and not the trial's.
        fleet = with_sources(locked(this.fleet, read_lock(path)), read_source_lock(path))
        checked(this.positions, fleet)
        return Candidate(path, read_text(path), text, fleet)
    except InventoryError as error:
        raise InventoryError([problem.replace(str(trial), str(path)) for problem in error.problems]) from None
    except OSError as error:
        raise PaddockError(f"{path}: cannot be changed: {error.strerror}") from None
    finally:
        with suppress(OSError):
            trial.unlink()


def read_text(path: Path) -> str:
    """The file's text, with the line ends that it has. Raises PaddockError where it is no file, but a pipe for instance."""
    if not path.is_file():
        raise PaddockError(f"{path}: is no file that can be changed: name the inventory's file with -i")
    with in_words(path, "cannot be read"), path.open(encoding="utf-8", newline="") as file:
        return file.read()
