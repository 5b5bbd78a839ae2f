"""Shared by the actions of `keys`: which gateways are meant, what they keep, and which keys a word means."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cli.arguments import Opened, inventory_path, opened
from cli.servers import hosts_reached
from control.state.secrets import Vault
from inventory.errors import PaddockError, UsageError
from inventory.load import load
from roles.wording import did_you_mean, one_line

if TYPE_CHECKING:
    from control.servers.gateway_users import GatewayUsers, KeyRecord
    from control.ssh.reach import Reach


@dataclass(frozen=True)
class Database:
    """What keeps the users of some gateways: the `hosts` that share it, and those of them that the command line leaves."""

    hosts: tuple[str, ...]
    meant: tuple[str, ...]


@dataclass(frozen=True)
class Kept:
    """A key as a gateway keeps it, with what reaches that gateway and the hosts that know it."""

    record: KeyRecord
    users: GatewayUsers
    hosts: tuple[str, ...]


def on_argument(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--on", metavar="HOST", help="the gateway that is meant, where several have users of their own"
    ).completer = _gateways  # type: ignore[attr-defined]


def user_argument(command: argparse.ArgumentParser) -> None:
    command.add_argument("which", metavar="USER|ID", help="a user, or a key by its id").completer = _users  # type: ignore[attr-defined]


def _gateways(prefix: str, parsed_args: argparse.Namespace, **_: object) -> list[str]:
    return [name for name in load(inventory_path(parsed_args)).gateways if name.startswith(prefix)]


def _users(prefix: str, parsed_args: argparse.Namespace, **_: object) -> list[str]:
    """Those of the inventory, and those who have left it: what is kept at a gateway is not asked for at each press of a key."""
    from control.servers.listed_keys import USER_KEY

    this = opened(parsed_args, only_read=True)
    kept = {name.removeprefix(USER_KEY) for name in Vault(this.state).names() if name.startswith(USER_KEY)}
    return sorted(name for name in kept | this.fleet.users.keys() if name.startswith(prefix))


def require_no_key(word: str) -> None:
    """Raises UsageError for a key: what stands on a command line, others may read."""
    if word.startswith("sk-") and len(word) > 20:
        raise UsageError("this is a key, which others may read on a command line: name its user, or its id as `paddock keys list` has it")


def told_beside(words: str) -> None:
    """On standard error: standard output has the key alone."""
    print(words, file=sys.stderr)


def databases(this: Opened, on: str | None) -> tuple[Database, ...]:
    """Those of the gateways that `--limit` and `--on` leave. Raises UsageError where there are none."""
    fleet = this.fleet
    if not fleet.gateways:
        raise UsageError(f"{this.path}: no host has a gateway, and keys are for gateways: add the role gateway to one")
    if on is not None and on not in fleet.gateways:
        hint = did_you_mean(on, fleet.gateways) or f"; there are {', '.join(fleet.gateways)}"
        raise UsageError(f"--on {one_line(on)}: no gateway is on a host of this name{hint}")
    limited = {host.name for host in this.hosts} if on is None else {on}
    found = ((hosts, tuple(name for name in hosts if name in limited)) for hosts in fleet.user_databases.values())
    meant = tuple(Database(hosts, those) for hosts, those in found if those)
    if not meant:
        raise UsageError(f"{this.path}: there is no gateway on {', '.join(sorted(limited)) or 'these hosts'}")
    return meant


def only_one(found: tuple[Database, ...], what: str) -> Database:
    """Raises UsageError where there are several, in words that name them."""
    if len(found) > 1:
        names = "; ".join(" and ".join(each.hosts) for each in found)
        raise UsageError(f"{what}: these gateways have users of their own: {names}. Name one with --on HOST")
    return found[0]


class Answering:
    """Gateways that can be asked, one for each database, with all hosts that share it. `lacking` are databases of which none can.
    `declared` has, of each host whose keys were asked for, the users that are declared there."""

    def __init__(self, reach: Reach, found: tuple[Database, ...]) -> None:
        from control.servers.gateway_users import GatewayUsers

        asked = [(each, [name for name in each.meant if name not in reach.failures]) for each in found]
        self.users = [(GatewayUsers(reach, names[0]), each) for each, names in asked if names]
        self.declared: dict[str, set[str]] = {}
        self.lacking = [each for each, names in asked if not names]

    @property
    def only(self) -> GatewayUsers:
        """The gateway where one database is meant. Raises PaddockError where it cannot be asked."""
        if not self.users:
            raise PaddockError("nothing was done: no gateway could be asked")
        return self.users[0][0]

    def kept(self) -> list[Kept]:
        """All keys that were made there. A gateway that fails is told, and lacks."""
        found = []
        for users, database in self.users:
            try:
                records = users.records()
            except PaddockError as error:
                print(error, file=sys.stderr)
                self.lacking.append(database)
                continue
            self.declared[users.host] = {record.user for record in records if record.declared}
            found += [Kept(record, users, database.hosts) for record in records if not record.declared]
        return found


@contextmanager
def answering(this: Opened, found: tuple[Database, ...], *, changes: bool = False) -> Iterator[Answering]:
    """The gateways' hosts, connected to; those that cannot be are told. With `changes`, hosts of another state are left as they are."""
    with hosts_reached(this, [name for each in found for name in each.meant]) as reach:
        if changes:
            from control.deployment.asking import refuse_strangers

            refuse_strangers(reach.run, reach.hosts, this.state)
        yield Answering(reach, found)


def named(word: str, there: Answering) -> list[Kept]:
    """The keys of a user, or the key of that id, as gateways keep them. Raises UsageError where there is none, or at two databases."""
    every = there.kept()
    found = [each for each in every if word in (each.record.user, each.record.id)]
    if not found and there.lacking:
        raise PaddockError(f"{one_line(word)}: not found where a gateway could be asked")
    if not found:
        known = dict.fromkeys(name for each in every for name in (each.record.user, each.record.id))
        hint = did_you_mean(word, known) or ": `paddock keys list` lists all"
        raise UsageError(f"{one_line(word)}: no user and no key is called so{hint}")
    if len(at := dict.fromkeys(each.hosts for each in found)) > 1:
        where = "; ".join(" and ".join(hosts) for hosts in at)
        raise UsageError(f"{one_line(word)}: is known to gateways that have users of their own: {where}. Name one with --on HOST")
    return found
