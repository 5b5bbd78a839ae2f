"""The runs that changed something, in `.paddock/<fleet>/history/`.

    000042.json            what the run did: control/lifecycle/records.py
    000042.plans.json.gz   the plans of the hosts that it changed: control/lifecycle/recorded_plans.py

A run takes the next number when it first changes something. The last KEPT records are kept, and of their plans the newest PLANS_KEPT bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from control.lifecycle import records
from control.lifecycle.recorded_plans import PlanData, packed, unpacked
from control.lifecycle.records import Record
from control.state.fleet import FleetState, in_words, read, write_atomically
from inventory.bounds import LOCAL_FILE, MIB, size_words
from inventory.errors import PaddockError, UsageError

KEPT = 200
PLANS_KEPT = 256 * MIB

RECORD, PLANS = ".json", ".plans.json.gz"


class History:
    """What is no record's name in the directory is left as it is."""

    def __init__(self, state: FleetState) -> None:
        self._state = state
        self._path = state.path / "history"

    def numbers(self) -> list[int]:
        """Of all records, the newest first."""
        return sorted(self._files(RECORD), reverse=True)

    def record(self, number: int) -> Record:
        """Raises UsageError where there is none of that number, PaddockError where it is damaged."""
        path = self._file(number, RECORD)
        data = read(path)
        if data is None:
            there = self.numbers()
            known = f"there are {there[-1]} to {there[0]}" if there else "no run has changed anything yet"
            raise UsageError(f"{number}: no record has this number; {known}")
        try:
            found = records.read(data)
            if found.number == number:
                return found
        except ValueError:
            pass
        raise PaddockError(f"{path}: is damaged, or was written by a newer version of Paddock: put it back from a backup or from git")

    def newest(self, tell: Callable[[str], None]) -> Iterator[Record]:
        """The records, the newest first. `tell` hears of those that are damaged."""
        for number in self.numbers():
            try:
                yield self.record(number)
            except UsageError:
                continue  # another run has just dropped it
            except PaddockError as error:
                tell(str(error))

    def earlier(self, number: int, hosts: Collection[str], tell: Callable[[str], None]) -> dict[str, Record]:
        """Host → the newest record before this number that has the host's whole plan; not of a host without one."""
        found: dict[str, Record] = {}
        for record in self.newest(tell):
            if len(found) == len(hosts):
                break
            if record.number < number:
                found |= {host: record for host in hosts if host not in found and host in record.hosts and record.hosts[host].plan}
        return found

    def plans(self, number: int) -> dict[str, PlanData]:
        """Host → its plan as that run had it; none where they are kept no more. Raises PaddockError where the file is damaged."""
        path = self._file(number, PLANS)
        data = read(path)
        try:
            return unpacked(data) if data is not None else {}
        except ValueError as error:
            raise PaddockError(f"{path}: is damaged ({error}): put it back from a backup or from git, or delete it") from None

    def add(self, record: Record) -> Record:
        """Keeps a record under the next number, and gives it with that. Raises PaddockError where it cannot be kept."""
        directory = self._state.directory("history")
        number = max(self.numbers(), default=0) + 1
        while True:
            numbered = replace(record, number=number)
            try:
                write_atomically(directory / f"{number:06}{RECORD}", _written(numbered), exclusive=True)
                break
            except FileExistsError:  # another run was quicker
                number += 1
        return numbered

    def replace(self, record: Record) -> None:
        """What the run has become since. Raises PaddockError where it cannot be written."""
        write_atomically(self._file(record.number, RECORD), _written(record))

    def put_plans(self, number: int, plans: Mapping[str, PlanData]) -> None:
        """Keeps the plans that belong to a record, in place of those that were kept. Raises PaddockError where they cannot be."""
        write_atomically(self._file(number, PLANS), packed(plans))

    def drop_oldest(self) -> None:
        """Drops what is beyond the bounds, and plans whose record is gone."""
        kept = set(self.numbers()[:KEPT])
        size = 0
        for number, path in sorted(self._files(PLANS).items(), reverse=True):
            size += _size(path)
            if number not in kept or size > PLANS_KEPT:
                _delete(path)
        for number, path in self._files(RECORD).items():
            if number not in kept:
                _delete(path)

    def _file(self, number: int, suffix: str) -> Path:
        return self._path / f"{number:06}{suffix}"

    def _files(self, suffix: str) -> dict[int, Path]:
        name = re.compile(rf"([0-9]{{6,9}}){re.escape(suffix)}")
        with in_words(self._path, "cannot be read"):
            paths = list(self._path.iterdir()) if self._path.exists() else []
        return {int(found[1]): path for path in paths if (found := name.fullmatch(path.name)) and path == self._file(int(found[1]), suffix)}


def _written(record: Record) -> bytes:
    """Raises PaddockError where it is larger than what is read of a file."""
    data = records.written(record)
    if len(data) > LOCAL_FILE.size:
        raise PaddockError(f"the record of {len(record.hosts)} hosts is larger than {size_words(LOCAL_FILE.size)}")
    return data


def _size(path: Path) -> int:
    with in_words(path, "cannot be read"), suppress(FileNotFoundError):  # another run may have dropped it
        return path.stat().st_size
    return 0


def _delete(path: Path) -> None:
    with in_words(path, "cannot be deleted"):
        path.unlink(missing_ok=True)
