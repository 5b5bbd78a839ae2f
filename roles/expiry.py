"""A timer that warns before certificates on a host expire, for any role that installs some."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from resources import Directory, File, Package, Resource, Service
from roles.role import Account, Settings, render
from roles.watchdog.settings import Notify

if TYPE_CHECKING:
    from roles.rehearsal import Rehearsal

DIRECTORY = "/etc/paddock/expiry"

RENEWED_AT = 3
"""A certificate is renewed when such a part of its life is left, a third."""

LONGEST = 3650


class ExpirySettings(Settings):
    """Warnings about certificates on a host that are about to expire. `paddock up` renews them when a third of their life is left, so there
    are no warnings while it runs regularly."""

    days: Annotated[int, Field(ge=1, le=LONGEST)] | None = None
    """A certificate with fewer days left is a fault: the timer's unit fails, and `paddock status` shows it. By default a fifth of the
    certificate's life, at most 90 days (which applies to a CA)."""

    notify: Notify | None = None
    """The command to run on a fault: a shell command line, or a program with its arguments. Its environment has PADDOCK_HOST,
    PADDOCK_UNIT, PADDOCK_CERTIFICATE (the file; also in PADDOCK_SERVER, for a command that the watchdog also runs) and PADDOCK_FAULT (a
    message). It runs once per fault, for at most a minute."""

    notify_as: Account = "nobody"
    """The account that runs `notify`."""

    def too_early(self, lives: Iterable[int]) -> str:
        """Why a warning would come while nothing can be done, of certificates that live so many days; empty where it would not."""
        if not self.days:
            return ""
        renewed = min(lives, default=3 * LONGEST) // RENEWED_AT
        if self.days <= renewed:
            return ""
        return (
            f"`paddock up` renews a certificate here when {renewed} days are left, and no earlier: use {renewed} at most, or leave it out"
        )

    def rehearsed(self, here: Rehearsal) -> tuple[ExpirySettings, list[str]]:
        if not self.notify:
            return self, []
        return self.model_copy(update={"notify": here.notify}), [here.told_quietly("expiry.notify")]


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
