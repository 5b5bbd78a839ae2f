"""The accounts of a host that its roles need and do not make: they have to be there before anything is done."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from inventory.fleet import Host
from roles.role import RequiredAccount


def required_accounts(host: Host) -> Iterator[tuple[str, RequiredAccount]]:
    """The accounts that have to be there already, by name, each with its key below `roles`: `client.accounts.ann`."""
    for role, settings in host.carried.items():
        yield from ((each.name, replace(each, key=f"{role}.{each.key}")) for each in settings.required_accounts())


def missing_sh(accounts: Mapping[str, RequiredAccount]) -> str:
    """Prints those of the accounts that are not there. (Names of accounts need no quotes.)"""
    tests = (f"{{ id -u {name}{f' && getent group {name}' if each.own_group else ''}; }}" for name, each in accounts.items())
    return "\n".join(f"{test} >/dev/null 2>&1 || echo {name}" for test, name in zip(tests, accounts, strict=True))


def missing_words(account: RequiredAccount) -> str:
    """What to do where it is not there."""
    what = f"{account.name} with a group of its own name" if account.own_group else account.name
    return f"roles.{account.key}: there is no account {what} on this host: make it (useradd --create-home {account.name}), or leave it out"
