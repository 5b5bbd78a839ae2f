"""Pages of other origins, by Debian's Caddy and by a newer one: what a browser has to read before it lets a page call a site."""

from __future__ import annotations

import http.client
import json

import pytest
from edge_fleet import HOSTS, LOCAL_PAGE, PAGE, VERSIONS, Door

from tests.lab_fleet import LabFleet
from tests.share import turn

pytestmark = turn(3, of=5)

doors = pytest.mark.parametrize("host", HOSTS)
SENT = (
    "authorization, content-type, x-stainless-arch, x-stainless-lang, x-stainless-os, x-stainless-package-version, x-stainless-retry-count"
)
"""By OpenAI's client for JavaScript, and others of its kind."""


def asked(door: Door, method: str, path: str, origin: str, client: str = "phone", **headers: str) -> http.client.HTTPResponse:
    """The answer, read to its end."""
    connection = door.connect(door.context(VERSIONS[1], door.identity(client)))
    try:
        said = {name.replace("_", "-"): value for name, value in headers.items()}
        body = json.dumps({"model": "endless", "prompt": "Hello", "max_tokens": 2}).encode() if method == "POST" else None
        connection.request(method, path, body, {"Origin": origin, "Content-Type": "application/json", **said})
        answer = connection.getresponse()
        answer.read()
        return answer
    finally:
        connection.close()


def preflight(door: Door, origin: str, path: str = "/v1/chat/completions", client: str = "phone") -> http.client.HTTPResponse:
    wanted = {"Access_Control_Request_Method": "POST", "Access_Control_Request_Headers": SENT}
    return asked(door, "OPTIONS", path, origin, client, **wanted)


def allowed(answer: http.client.HTTPResponse) -> list[str]:
    """Which origins the answer lets read it: a browser takes one, and no more."""
    return answer.headers.get_all("Access-Control-Allow-Origin", [])


@doors
@pytest.mark.parametrize("origin", [PAGE, LOCAL_PAGE])
def test_a_preflight_of_a_page_that_is_named_is_answered_without_llama_server(edge: LabFleet, host: str, origin: str) -> None:
    answer = preflight(Door.of(edge, host), origin)
    assert answer.status == 204 and allowed(answer) == [origin]
    assert answer.headers["Access-Control-Allow-Credentials"] == "true" and "Origin" in answer.headers.get_all("Vary", [])
    assert set(SENT.split(", ")) <= set(answer.headers["Access-Control-Allow-Headers"].split(", "))
    assert "POST" in answer.headers["Access-Control-Allow-Methods"].split(", ")


@doors
@pytest.mark.parametrize("origin", [PAGE, LOCAL_PAGE])
@pytest.mark.parametrize(
    ("method", "path", "status", "client"),
    [
        ("POST", "/v1/completions", 200, "phone"),
        ("GET", "/v1/models", 200, "phone"),
        ("GET", "/v1/models", 200, "laptop"),
        ("POST", "/models/unload", 403, "phone"),
        ("GET", "/paddock/admin/status", 403, "laptop"),
    ],
)
def test_such_a_page_reads_what_its_client_may_ask_and_what_it_is_refused(
    edge: LabFleet, host: str, origin: str, method: str, path: str, status: int, client: str
) -> None:
    answer = asked(Door.of(edge, host), method, path, origin, client)
    assert (answer.status, allowed(answer)) == (status, [origin])
    assert "Origin" in answer.headers.get_all("Vary", [])


@doors
@pytest.mark.parametrize(
    "origin", ["https://elsewhere.example", "null", f"{PAGE}:8443", PAGE.replace("https", "http"), f"{PAGE}.evil.example"]
)
def test_a_page_of_any_other_origin_is_answered_nothing_that_it_could_read(edge: LabFleet, host: str, origin: str) -> None:
    for answer in (preflight(Door.of(edge, host), origin), asked(Door.of(edge, host), "GET", "/health", origin)):
        assert answer.status == 403 and not allowed(answer)


@doors
def test_a_preflight_without_a_certificate_is_not_answered(edge: LabFleet, host: str) -> None:
    door = Door.of(edge, host)
    assert preflight(door, PAGE).status == 204
    assert all(door.is_refused(door.context(version, None)) for version in VERSIONS)
