"""A command in the environment of a unit: as its account, and with the variables of its process."""

from __future__ import annotations

from shlex import quote

ENVIRONMENT = r"""eval "$(grep -zE '^[A-Za-z_][A-Za-z0-9_]*=' |
  sed -z "s/'/'\\\\''/g; s/=/='/; s/\$/'/; s/^/export /" | tr '\0' '\n')"
exec "$@" </dev/null"""


def as_unit(unit: str, account: str, command: str, *, home: str) -> str:
    """Shell code that runs a command as the account of a unit, and with the environment of its process where it runs.

    Root opens the environment, which its own process may keep from the account; the account reads it, who may have changed it.
    """
    environment = f"cat /proc/$(systemctl show -P MainPID {unit})/environ 2>/dev/null"
    return f'{environment} | runuser -u {account} -- env -i HOME={home} PATH="$PATH" sh -c {quote(ENVIRONMENT)} sh {command}'
