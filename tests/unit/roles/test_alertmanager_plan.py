"""Alertmanager as it is planned: whom it tells of what, and where secrets stand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from inventory.errors import PaddockError
from inventory.fleet import Fleet
from inventory.knowledge import Knowledge
from resources import UNOPENED, File, Port, Service
from roles.alertmanager.configuration import CONFIGURATION
from roles.alertmanager.plan import refusals
from roles.alertmanager.settings import UNIT, AlertmanagerSettings
from roles.host_plan import host_plan, remarks_of
from roles.rehearsal import Rehearsal

MAIL = {"to": ["ann@home.example", "ben@home.example"], "sender": "paddock@home.example", "server": "mail.home.example:587"}
SECRETS = {"mail": "p4ss", "hook": "https://hooks.home.example/T0/secret-part", "bot": "12:abc", "bell": "tk_1"}
RECEIVERS = {
    "ann": {"mail": {**MAIL, "user": "paddock", "password": {"secret": "mail"}}, "severities": ["critical"]},
    "room": {"webhook": {"url": {"secret": "hook"}}, "resolved": False},
    "bell": {"ntfy": {"url": "https://ntfy.home.example/fleet", "token": {"secret": "bell"}}},
    "chat": {"telegram": {"chat": -100, "token": {"secret": "bot"}}},
}


def fleet(prometheus: str = "box", *, firewall: bool = True, **settings: Any) -> Fleet:
    roles: dict[str, Any] = {"box": {"alertmanager": settings, **({"firewall": {}} if firewall else {})}, "far": {}}
    if prometheus:
        roles[prometheus]["prometheus"] = {}
    hosts = {name: {"name": name, "address": f"192.0.2.{10 + n}", "roles": each} for n, (name, each) in enumerate(roles.items())}
    return Fleet.model_validate({"name": "home", "domain": "home.example", "hosts": hosts})


def planned(said: Fleet, secrets: Mapping[str, str] = SECRETS) -> dict[str, Any]:
    plan = host_plan(said.hosts["box"], said, Knowledge(secrets=secrets))
    return {each.id: each for each in plan["alertmanager"]}


def configured(secrets: Mapping[str, str] = SECRETS, **settings: Any) -> dict[str, Any]:
    file = planned(fleet(**settings), secrets)[f"file:{CONFIGURATION}"]
    return dict(yaml.safe_load(file.data))


def receiver(name: str, **settings: Any) -> dict[str, Any]:
    (found,) = (each for each in configured(**settings)["receivers"] if each["name"] == name)
    return dict(found)


def test_each_receiver_is_told_of_what_it_asked_for() -> None:
    said = configured(receivers=RECEIVERS)
    routes = {each["receiver"]: each["matchers"] for each in said["route"]["routes"]}
    assert routes["to-ann"] == ['severity=~"critical"'] and routes["to-room"] == ['severity=~"critical|warning"']
    assert all(each["continue"] for each in said["route"]["routes"] if each["receiver"].startswith("to-"))
    assert said["route"]["receiver"] == "nobody"


def test_mail_goes_to_all_addresses_with_the_password_of_the_account() -> None:
    (mail,) = receiver("to-ann", receivers=RECEIVERS)["email_configs"]
    assert mail["to"] == "ann@home.example, ben@home.example" and mail["smarthost"] == "mail.home.example:587"
    assert (mail["auth_username"], mail["auth_password"], mail["require_tls"]) == ("paddock", "p4ss", True)


def test_a_webhook_ntfy_and_telegram_have_their_tokens() -> None:
    (hook,) = receiver("to-room", receivers=RECEIVERS)["webhook_configs"]
    assert hook["url"] == SECRETS["hook"] and hook["send_resolved"] is False
    (bell,) = receiver("to-bell", receivers=RECEIVERS)["webhook_configs"]
    assert bell["url"] == "https://ntfy.home.example/fleet?template=alertmanager"
    assert bell["http_config"] == {"follow_redirects": False, "authorization": {"type": "Bearer", "credentials": "tk_1"}}
    (chat,) = receiver("to-chat", receivers=RECEIVERS)["telegram_configs"]
    assert (chat["bot_token"], chat["chat_id"], chat["parse_mode"]) == ("12:abc", -100, "")


def test_what_stands_with_secrets_is_read_by_alertmanager_alone() -> None:
    found = planned(fleet(receivers=RECEIVERS))
    file = found[f"file:{CONFIGURATION}"]
    assert (file.owner, file.mode, file.secret) == ("prometheus", 0o600, True)
    others = [each.data.decode() for each in found.values() if isinstance(each, File) and each != file]
    assert not any(secret in text for secret in SECRETS.values() for text in others)


def test_the_sign_of_life_goes_to_the_dead_mans_switch_alone() -> None:
    first, *others = configured(receivers=RECEIVERS, dead_man={"url": "https://watch.home.example/x", "every_minutes": 2})["route"][
        "routes"
    ]
    assert first["matchers"] == ['alertname="DeadMansSwitch"'] and "continue" not in first
    assert (first["receiver"], first["group_interval"], first["repeat_interval"]) == ("paddock-dead-man", "120s", "60s")
    assert all("none" not in each["matchers"][0] for each in others)
    assert configured(receivers=RECEIVERS)["route"]["routes"][0]["receiver"] == "nobody"


def test_a_host_that_is_down_hides_its_other_alerts_but_not_the_sign_of_life() -> None:
    (rule,) = configured()["inhibit_rules"]
    assert rule["equal"] == ["host"] and rule["target_matchers"] == ['alertname!~"HostDown|DeadMansSwitch"']


def test_up_is_refused_while_a_secret_is_not_there() -> None:
    said = fleet(receivers=RECEIVERS)
    settings = said.hosts["box"].carried["alertmanager"]
    assert isinstance(settings, AlertmanagerSettings)
    lines = [*refusals(said.hosts["box"], settings, said, Knowledge(secrets={"mail": "x", "bell": "x", "bot": "x"}))]
    words = "there is no secret hook yet: `paddock secrets set hook`, of a lab with --lab"
    assert lines == [f"hosts.box.roles.alertmanager.receivers.room.webhook.url: {words}"]
    assert planned(said, {})


@pytest.mark.parametrize("secret", ["hook", "mail"])
def test_a_secret_that_is_sealed_is_no_fault(secret: str) -> None:
    assert configured({**SECRETS, secret: UNOPENED}, receivers=RECEIVERS)


@pytest.mark.parametrize(
    ("secret", "value", "words"),
    [("hook", "hooks.home.example", "is no URL"), ("mail", "a\nb", "control character"), ("bot", " \n", "is empty")],
)
def test_a_secret_that_cannot_be_what_it_is_to_be_is_named(secret: str, value: str, words: str) -> None:
    with pytest.raises(PaddockError, match=rf"hosts\.box\.roles\.alertmanager\.receivers\..*secret {secret} .*{words}"):
        configured({**SECRETS, secret: value}, receivers=RECEIVERS)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"receivers": {"ann": {}}}, "exactly one of mail, webhook, ntfy and telegram, this has none"),
        ({"receivers": {"ann": {"mail": MAIL, "webhook": {"url": "http://192.0.2.1"}}}}, "this has mail and webhook"),
        ({"receivers": {"ann": {"mail": {**MAIL, "user": "x"}}}}, "needs user and password, or neither"),
        (
            {"receivers": {"ann": {"mail": {**MAIL, "user": "x", "password": {"secret": "mail"}, "tls": False}}}},
            "would send its password in clear text",
        ),
        ({"receivers": {"ann": {"mail": {**MAIL, "to": ["ann"]}}}}, "is not a mail address"),
        ({"receivers": {"ann": {"mail": {**MAIL, "server": "mail.home.example"}}}}, "is not SERVER:PORT"),
        ({"receivers": {"ann": {"webhook": {"url": "hooks.home.example"}}}}, "is not a URL"),
        ({"receivers": {"Ann B": {"webhook": {"url": "http://192.0.2.1"}}}}, "is no name of a receiver"),
        ({"receivers": {"ann": {"webhook": {"url": "http://192.0.2.1"}, "severities": []}}}, "at least 1"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        AlertmanagerSettings.model_validate(settings)


def test_another_receiver_is_a_reload_and_another_port_a_restart() -> None:
    before, other, moved = (
        planned(said)[f"service:{UNIT}"] for said in (fleet(), fleet(receivers={"room": RECEIVERS["room"]}), fleet(listen="127.0.0.1:9094"))
    )
    assert isinstance(before, Service) and isinstance(other, Service) and isinstance(moved, Service)
    assert (before.started == other.started, before.loaded == other.loaded) == (True, False)
    assert before.started != moved.started


def test_only_prometheus_reaches_it() -> None:
    port = planned(fleet("far", listen="0.0.0.0:9093"))["port:9093/tcp"]
    assert isinstance(port, Port) and port.reachable_from == ("far",)
    assert planned(fleet(listen="0.0.0.0:9093"))["port:9093/tcp"].reachable_from == ()


def test_the_plan_says_what_makes_it_of_no_use_or_open_to_all() -> None:
    told = {"receivers": {"room": RECEIVERS["room"]}}
    for said, words in (
        (fleet(), "it tells nobody: name receivers"),
        (fleet("", **told), "no Prometheus of the inventory sends it alerts"),
        (fleet(firewall=False, listen="0.0.0.0:9093", **told), "may silence alerts: add the role firewall"),
    ):
        lines = [line for line in remarks_of(said.hosts["box"], said, Knowledge()) if "alertmanager" in line]
        assert len(lines) == 1 and words in lines[0]
    quiet = fleet(**told)
    assert [line for line in remarks_of(quiet.hosts["box"], quiet, Knowledge()) if "alertmanager" in line] == []


def test_in_a_lab_nobody_is_told() -> None:
    settings = AlertmanagerSettings.model_validate({"receivers": RECEIVERS, "dead_man": {"url": {"secret": "hook"}}})
    quiet, told = settings.rehearsed(Rehearsal("box", "alertmanager", "172.17.0.2", "home.example"))
    assert isinstance(quiet, AlertmanagerSettings) and not quiet.receivers and not quiet.dead_man
    assert told == ["box: alertmanager tells nobody: a lab has no receivers."]
