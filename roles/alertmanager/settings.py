from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from roles.metrics import ALERTMANAGER, Metrics
from roles.role import Endpoint, Matches, RoleSettings, Settings, Url
from roles.secret_value import SecretValue

if TYPE_CHECKING:
    from roles.rehearsal import Rehearsal

UNIT = "prometheus-alertmanager.service"

Severity = Literal["critical", "warning"]
Where = Url | SecretValue
"""A URL, or the secret that has it: who knows the URL of some services may write there."""

MailAddress = Annotated[str, Matches(r"[^\s<>,@\"{}\\\\]+@[A-Za-z0-9][A-Za-z0-9.-]*", "is not a mail address, such as ann@home.example")]
MailServer = Annotated[
    str, Matches(r"([A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9A-Fa-f:.]+\]):[1-9][0-9]{0,4}", "is not SERVER:PORT, such as mail.home.example:587")
]
ReceiverName = Annotated[str, Matches(r"[a-z][a-z0-9-]{0,39}", "is no name of a receiver: lower-case letters, digits and hyphens")]


class Mail(Settings):
    """Alerts by mail."""

    to: Annotated[tuple[MailAddress, ...], Field(min_length=1)]
    """The addresses."""

    sender: MailAddress
    """The address in `From`."""

    server: MailServer
    """The mail server, `mail.home.example:587`. On port 465 all is encrypted from the start."""

    user: str = ""
    """The account at the mail server, if it wants one."""

    password: SecretValue | None = None
    """Its password: `{secret: NAME}`."""

    tls: bool = True
    """Whether the server has to speak TLS."""

    @model_validator(mode="after")
    def _account(self) -> Mail:
        if bool(self.user) != bool(self.password):
            raise ValueError("needs user and password, or neither")
        if self.user and not self.tls:
            raise ValueError("would send its password in clear text: leave out tls")
        return self


class Webhook(Settings):
    """Alerts as Alertmanager's JSON, by POST. A bridge makes messages of it for Matrix and others."""

    url: Where
    """The URL, or `{secret: NAME}`."""

    token: SecretValue | None = None
    """A token that it wants in `Authorization: Bearer`: `{secret: NAME}`."""


class Ntfy(Settings):
    """Alerts as messages of a topic of ntfy, 2.14 or newer, which makes them with its own template."""

    url: Where
    """The URL of the topic, `https://ntfy.home.example/fleet`, or `{secret: NAME}`."""

    token: SecretValue | None = None
    """An access token of ntfy: `{secret: NAME}`."""


class Telegram(Settings):
    """Alerts as messages of a bot of Telegram."""

    chat: int
    """The number of the chat; that of a group is negative."""

    token: SecretValue
    """The bot's token: `{secret: NAME}`."""


class Receiver(Settings):
    """Whom to tell: exactly one of `mail`, `webhook`, `ntfy` and `telegram`."""

    mail: Mail | None = None
    """Addresses and a mail server."""

    webhook: Webhook | None = None
    """A URL that takes Alertmanager's JSON."""

    ntfy: Ntfy | None = None
    """A topic of ntfy."""

    telegram: Telegram | None = None
    """A chat of Telegram."""

    severities: Annotated[tuple[Severity, ...], Field(min_length=1)] = ("critical", "warning")
    """Of which alerts to tell: `[critical]`."""

    resolved: bool = True
    """Whether to tell also when an alert is over."""

    @model_validator(mode="after")
    def _one(self) -> Receiver:
        given = [name for name in ("mail", "webhook", "ntfy", "telegram") if getattr(self, name)]
        if len(given) != 1:
            raise ValueError(f"needs exactly one of mail, webhook, ntfy and telegram, this has {' and '.join(given) or 'none'}")
        return self

    def secret_values(self) -> Iterator[tuple[str, SecretValue]]:
        """Its secrets, each with the key where it stands: `mail.password`."""
        for kind in ("mail", "webhook", "ntfy", "telegram"):
            for name in ("url", "token", "password"):
                if isinstance(value := getattr(getattr(self, kind), name, None), SecretValue):
                    yield f"{kind}.{name}", value


class DeadMan(Settings):
    """A dead man's switch: a service elsewhere that tells you when it has not been called for too long, such as healthchecks.io or a push
    monitor of Uptime Kuma."""

    url: Where
    """What is called by POST while all is well, or `{secret: NAME}`."""

    every_minutes: Annotated[int, Field(ge=1, le=1440)] = 5
    """Minutes between two calls."""


class AlertmanagerSettings(RoleSettings):
    """The distribution's Alertmanager: it tells people of the alerts of each Prometheus of the inventory. docs/alerts.md is its manual."""

    listen: Endpoint = "127.0.0.1:9093"
    """The listening address. Alertmanager speaks plain HTTP and asks nobody for a key. With the role firewall on this host, only the
    fleet's Prometheus reaches it there."""

    receivers: dict[ReceiverName, Receiver] = {}
    """Whom to tell, by a name of yours."""

    repeat_hours: Annotated[int, Field(ge=1, le=168)] = 4
    """Hours until an alert that goes on is told of again."""

    dead_man: DeadMan | None = None
    """A service elsewhere to call while Prometheus and Alertmanager work."""

    def endpoints(self) -> Iterator[str]:
        yield self.listen

    def shown_metrics(self, host: str) -> Iterator[Metrics]:
        yield Metrics(ALERTMANAGER, self.listen, self.listen, "roles.alertmanager.listen")

    def secret_values(self) -> Iterator[tuple[str, SecretValue]]:
        """Its secrets, each with the key where it stands: `receivers.ann.mail.password`."""
        for name, receiver in self.receivers.items():
            yield from ((f"receivers.{name}.{key}", value) for key, value in receiver.secret_values())
        if self.dead_man and isinstance(self.dead_man.url, SecretValue):
            yield "dead_man.url", self.dead_man.url

    def rehearsed(self, here: Rehearsal) -> tuple[AlertmanagerSettings, list[str]]:
        """Nobody is told of what happens in a lab."""
        moved, told = here.moved(self)
        if not self.receivers and not self.dead_man:
            return moved, told
        quiet = moved.model_copy(update={"receivers": {}, "dead_man": None})
        return quiet, [*told, f"{here.host}: alertmanager tells nobody: a lab has no receivers."]
