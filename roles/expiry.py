"""A timer that looks at certificates, for any role that lays some: it speaks before they end, whoever forgets to run `paddock up`."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from roles.resources import Directory, File, Package, Resource, Service
from roles.role import Account, Settings, render
from roles.watchdog.settings import Notify

DIRECTORY = "/etc/paddock/expiry"


class ExpirySettings(Settings):
    """When certificates that lie on a host near their end, and whom that is told. `paddock up` renews them at a third of their life, so
    nothing is heard of them while somebody runs it."""

    days: Annotated[int, Field(ge=1, le=3650)] | None = None
    """With fewer days left than this a certificate is a fault: its unit fails, and `paddock status` shows it. Unless said it is a fifth
    of its life, and 90 days at most, which is a CA's."""

    notify: Notify | None = None
    """What to run then: a line for the shell, or a program and its arguments. It finds PADDOCK_HOST, PADDOCK_UNIT, PADDOCK_CERTIFICATE
    (the file, which is PADDOCK_SERVER too, for a command that the watchdog also runs) and PADDOCK_FAULT (in words) in its environment, runs
    once a fault, and has a minute."""

    notify_as: Account = "nobody"
    """The account that it runs as."""


@dataclass(frozen=True)
class Pem:
    """A file with certificates. The first counts, which is a leaf; of a bundle of CAs the one that lasts longest."""

    path: str
    ca: bool = False


def expiry_watch(name: str, host: str, pems: Iterable[Pem], settings: ExpirySettings) -> Iterator[Resource]:
    """The timer `paddock-expiry-NAME`, whose unit fails while one of the certificates nears its end, is over, or is not there."""
    script, notify, unit = f"{DIRECTORY}/{name}.sh", f"{DIRECTORY}/{name}.notify", f"paddock-expiry-{name}"
    yield Package("openssl")
    yield Directory("/etc/paddock")
    yield Directory(DIRECTORY, exclusive=True)
    yield File(script, render("expiry/expiry.sh.j2", settings, name=name, host=host, pems=tuple(pems), notify_file=notify), mode=0o755)
    if settings.notify:
        command = settings.notify if isinstance(settings.notify, str) else shlex.join(settings.notify)
        yield File(notify, f"{command}\n", mode=0o600)
    yield File(f"/etc/systemd/system/{unit}.service", render("expiry/paddock-expiry.service.j2", name=name, script=script))
    timer = File(f"/etc/systemd/system/{unit}.timer", render("expiry/paddock-expiry.timer.j2", name=name))
    yield timer
    yield Service(f"{unit}.timer", restarts=(timer,))
