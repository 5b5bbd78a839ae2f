"""Alertmanager's own file, made from the settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from inventory.errors import PaddockError
from inventory.knowledge import TO_BE_ISSUED
from resources import UNOPENED
from roles.alertmanager.settings import AlertmanagerSettings, DeadMan, Receiver, Where
from roles.metrics import HOST_DOWN, SIGN_OF_LIFE
from roles.preset import CONTROL
from roles.secret_value import SecretValue

DIRECTORY = "/etc/paddock/alertmanager"
CONFIGURATION = f"{DIRECTORY}/alertmanager.yml"
TEMPLATE = f"{DIRECTORY}/paddock.tmpl"

NOBODY, DEAD_MAN = "nobody", "paddock-dead-man"
"""Receivers of Paddock's own. Those of the inventory are `to-NAME`."""

UNKNOWN_URL = "https://to-be-issued.invalid/"
"""Where the secret with a URL is not there yet, or cannot be opened."""


def configuration(settings: AlertmanagerSettings, secrets: Mapping[str, str], where: str) -> str:
    """Alertmanager's configuration. `where` leads to the settings in the inventory. Raises PaddockError for a secret that cannot be what it
    is to be."""
    values = _Values(secrets, where)
    named = {f"to-{name}": receiver for name, receiver in settings.receivers.items()}
    receivers: list[dict[str, Any]] = [{"name": NOBODY}]
    receivers += [{"name": f"to-{name}", **_told_by(each, values, name)} for name, each in settings.receivers.items()]
    routes: list[dict[str, Any]] = [_sign_of_life(settings.dead_man)]
    routes += [_routed(name, each) for name, each in named.items()]
    if settings.dead_man:
        called = {"url": values.url(settings.dead_man.url, "dead_man.url"), "send_resolved": False, "max_alerts": 1}
        receivers.append({"name": DEAD_MAN, "webhook_configs": [called]})
    said = {
        "templates": [TEMPLATE],
        "route": {
            "receiver": NOBODY,
            "group_by": ["alertname", "host"],
            "group_wait": "5s",
            "group_interval": "1m",
            "repeat_interval": f"{settings.repeat_hours}h",
            "routes": routes,
        },
        # What a host that is down does not serve is not told of one by one.
        "inhibit_rules": [
            {
                "source_matchers": [f'alertname="{HOST_DOWN}"'],
                "target_matchers": [f'alertname!~"{HOST_DOWN}|{SIGN_OF_LIFE}"'],
                "equal": ["host"],
            }
        ],
        "receivers": receivers,
    }
    return "# Written by Paddock.\n" + yaml.safe_dump(said, sort_keys=False, width=120, allow_unicode=True)


def _sign_of_life(dead_man: DeadMan | None) -> dict[str, Any]:
    """Where the alert goes that always fires: to nobody, or to a service that waits for it."""
    matched = {"matchers": [f'alertname="{SIGN_OF_LIFE}"']}
    if not dead_man:
        return {**matched, "receiver": NOBODY}
    seconds = dead_man.every_minutes * 60
    # Alertmanager looks every group_interval, and only tells again what it told of longer than repeat_interval ago.
    return {**matched, "receiver": DEAD_MAN, "group_wait": "0s", "group_interval": f"{seconds}s", "repeat_interval": f"{seconds // 2}s"}


def _routed(name: str, receiver: Receiver) -> dict[str, Any]:
    return {"matchers": [f'severity=~"{"|".join(receiver.severities)}"'], "receiver": name, "continue": True}


def _told_by(receiver: Receiver, values: _Values, name: str) -> dict[str, Any]:
    where, resolved = f"receivers.{name}", {"send_resolved": receiver.resolved}
    if mail := receiver.mail:
        account = {}
        if mail.password:
            password = values.text(mail.password, f"{where}.mail.password")
            account = {"auth_username": mail.user, "auth_identity": "", "auth_password": password}
        sent = {
            "to": ", ".join(mail.to),
            "from": mail.sender,
            "smarthost": mail.server,
            "require_tls": mail.tls,
            **account,
            "headers": {"Subject": '{{ template "paddock.title" . }}'},
            "html": "",
            "text": '{{ template "paddock.text" . }}',
        }
        return {"email_configs": [{**sent, **resolved}]}
    if webhook := receiver.webhook:
        url = values.url(webhook.url, f"{where}.webhook.url")
        return {"webhook_configs": [{"url": url, **_bearer(webhook.token, values, f"{where}.webhook"), **resolved}]}
    if ntfy := receiver.ntfy:
        url = values.url(ntfy.url, f"{where}.ntfy.url")
        url += ("&" if "?" in url else "?") + "template=alertmanager"
        return {"webhook_configs": [{"url": url, **_bearer(ntfy.token, values, f"{where}.ntfy"), **resolved}]}
    assert receiver.telegram
    sent = {
        "bot_token": values.text(receiver.telegram.token, f"{where}.telegram.token"),
        "chat_id": receiver.telegram.chat,
        "parse_mode": "",
        "message": '{{ template "paddock.title" . }}\n\n{{ template "paddock.text" . }}',
    }
    return {"telegram_configs": [{**sent, **resolved}]}


def _bearer(token: SecretValue | None, values: _Values, where: str) -> dict[str, Any]:
    # Nothing answers with a way to elsewhere, and a token is for nobody else.
    if not token:
        return {"http_config": {"follow_redirects": False}}
    shown = {"type": "Bearer", "credentials": values.text(token, f"{where}.token")}
    return {"http_config": {"follow_redirects": False, "authorization": shown}}


class _Values:
    """What secrets hold. `where` leads to the role in the inventory."""

    def __init__(self, secrets: Mapping[str, str], where: str) -> None:
        self._secrets, self._where = secrets, where

    def text(self, value: SecretValue, key: str) -> str:
        found = self._secrets.get(value.secret, TO_BE_ISSUED).strip()
        if not found or CONTROL.search(found):
            words = "is empty, or has a line break or another control character in it"
            raise PaddockError(f"{self._where}.{key}: the secret {value.secret} {words}: `paddock secrets set {value.secret}`")
        return found

    def url(self, value: Where, key: str) -> str:
        if not isinstance(value, SecretValue):
            return value
        found = self.text(value, key)
        if found in (TO_BE_ISSUED, UNOPENED):
            return UNKNOWN_URL
        if not found.startswith(("https://", "http://")) or " " in found:
            words = f"the secret {value.secret} is no URL: it must begin with https:// or http://: `paddock secrets set {value.secret}`"
            raise PaddockError(f"{self._where}.{key}: {words}")
        return found
