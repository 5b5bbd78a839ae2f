"""The gateway as it is planned to send traces: to which URL, with which key, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from resources import File, Service
from roles.gateway.plan import LANGFUSE_KEY_FILE
from roles.gateway.settings import GatewaySettings
from roles.langfuse.settings import KEY, secret_name
from roles.rehearsal import Rehearsal
from roles.tracing import public_key
from roles.users import UNIT
from tests.unit.inventory.test_gateways import told
from tests.unit.roles.test_gateway_plan import Fronted

IMAGE = f"docker.io/example/any:1@sha256:{'5eed' * 16}"
IMAGES = dict.fromkeys(("web", "worker", "postgres", "clickhouse", "valkey", "store"), IMAGE)
SECRET = "sk-of-langfuses-first-project-alone"


def traced(where: str = "one", **langfuse: Any) -> Fronted:
    """`one` has the gateway, `where` Langfuse."""
    fronted = Fronted(langfuse=where)
    fronted.small.roles[where] |= {"docker": {}, "langfuse": {"images": IMAGES, "email": "ann@home.example", **langfuse}}
    fronted.small.secrets |= {secret_name(KEY, where): SECRET}
    return fronted


def test_langfuse_of_its_own_host_is_called_past_the_reverse_proxy() -> None:
    fronted = traced(url="https://traces.home.example")
    said = fronted.said["tracing"]
    assert said == {"url": "http://127.0.0.1:3000", "public_key": public_key(SECRET), "secret_key_file": LANGFUSE_KEY_FILE}
    assert "IPAddressAllow=localhost" in fronted.unit


def test_the_secret_key_is_in_a_file_that_the_gateway_alone_reads() -> None:
    fronted = traced()
    key = fronted.plan[f"file:{LANGFUSE_KEY_FILE}"]
    assert isinstance(key, File) and (key.data.decode().strip(), key.mode, key.secret) == (SECRET, 0o640, True)
    files = [each for each in fronted.plan.values() if isinstance(each, File) and each.path.startswith("/etc/paddock/gateway/")]
    assert not [each.path for each in files if each != key and SECRET in each.data.decode()]


def test_another_key_restarts_the_gateway() -> None:
    before, after = traced(), traced()
    after.small.secrets |= {secret_name(KEY, "one"): "sk-of-another-project-" + "y" * 32}
    first, second = before.plan[f"service:{UNIT}"], after.plan[f"service:{UNIT}"]
    assert isinstance(first, Service) and isinstance(second, Service) and first.started != second.started


def test_langfuse_of_another_host_is_called_by_its_address_or_url_and_clear_text_is_told() -> None:
    fronted = traced("ai", listen="0.0.0.0:3000")
    assert fronted.said["tracing"]["url"] == "http://192.0.2.10:3000"
    assert any("langfuse: NOT ENCRYPTED" in line and "http://192.0.2.10:3000" in line for line in fronted.remarks)
    assert "IPAddressAllow=localhost 192.0.2.10" in fronted.unit
    fronted = traced("ai", url="https://traces.elsewhere.example")
    assert fronted.said["tracing"]["url"] == "https://traces.elsewhere.example"
    assert not any("langfuse" in line for line in fronted.remarks) and not any("IPAddressDeny" in line for line in fronted.unit)


LANGFUSE = f"""
      langfuse:
        email: ann@home.example
        images: {{{", ".join(f"{name}: {IMAGE}" for name in IMAGES)}}}"""
SITE = "url: 'https://traces.home.example'\n      caddy: {sites: {traces.home.example: {upstream: {langfuse: door}}}}"


@pytest.mark.parametrize(
    ("where", "there", "words"),
    [
        ("halo", "", 'no host is called "halo"'),
        ("ai", "", "there is no Langfuse on ai: add the role langfuse to it"),
        ("door", f"docker:{LANGFUSE}", "langfuse on door listens on 127.0.0.1:3000, out of ai's reach: set for example 0.0.0.0:3000"),
        ("door", f"docker:{LANGFUSE}\n        {SITE}", "https://traces.home.example asks for a client certificate, and a gateway has none"),
    ],
)
def test_traces_that_would_get_nowhere_are_refused(where: str, there: str, words: str, tmp_path: Any) -> None:
    (found,) = told(tmp_path, here=f"{{langfuse: {where}}}", there=there)
    assert words in found


def test_in_a_lab_without_langfuse_none_are_sent() -> None:
    here = Rehearsal("one", "gateway", "172.17.0.2", "home.example", left_out=frozenset({("ai", "langfuse")}))
    settings, said = GatewaySettings(langfuse="ai").rehearsed(here)
    assert isinstance(settings, GatewaySettings) and settings.langfuse is None
    assert said == ["one: gateway sends no traces: a lab has no Langfuse."]
