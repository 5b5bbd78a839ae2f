"""Clients kept apart, by Debian's Caddy and by a newer one: what who is no administrator may ask, see and do to others at a site."""

from __future__ import annotations

import http.client
import json
import socket
import time
from typing import Any

import pytest
from edge_fleet import HOSTS, VERSIONS, Door

from tests.edge.spellings import WHOLE, closed
from tests.lab_fleet import LabFleet

doors = pytest.mark.parametrize("host", HOSTS)
JSON = {"Content-Type": "application/json"}
MOST_EXPOSED = 2.0
UNIT, SOCKET = "paddock-model-list.service", "/run/paddock/model-list.sock"


def ask(door: Door, client: str, method: str, path: str, said: Any = None, **headers: str) -> tuple[int, Any]:
    body = None if said is None else json.dumps(said).encode()
    status, data = door.ask(method, path, door.context(VERSIONS[1], door.identity(client)), {**JSON, **headers}, body)
    return status, json.loads(data) if data[:1] in (b"{", b"[") else data


def line(door: Door, client: str, method: str, target: str) -> int:
    """The status of a request whose target stands in its first line to the letter."""
    connection = door.connect(door.context(VERSIONS[1], door.identity(client)))
    stream: socket.socket = connection.sock
    try:
        stream.sendall(f"{method} {target} HTTP/1.1\r\nHost: {door.site}\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{{}}".encode())
        answer = http.client.HTTPResponse(stream, method=method)
        answer.begin()
        return answer.status
    finally:
        connection.close()


def completion(door: Door, client: str, **headers: str) -> int:
    said = {"model": "endless", "prompt": "Hello", "max_tokens": 2}
    return ask(door, client, "POST", "/v1/completions", said, **headers)[0]


@doors
def test_what_is_closed_to_a_client_stays_closed_however_its_path_is_spelled(edge: LabFleet, host: str) -> None:
    door = Door.of(edge, host)
    assert completion(door, "phone") == 200
    opened = {("GET", "/metrics")} if host == "new" else set()
    asked = [*closed(), *(("POST", each.format(site=door.site)) for each in WHOLE)]
    found = {(method, target): line(door, "phone", method, target) for method, target in asked if (method, target) not in opened}
    misread = {request for request, status in found.items() if status in (400, 421)}  # which Caddy itself refuses
    assert not {request: status for request, status in found.items() if status != 403 and request not in misread}
    assert len(misread) < 5, misread
    assert ask(door, "laptop", "GET", "/models")[1]["data"][0]["status"]["value"] == "loaded"


@doors
def test_what_a_client_is_told_is_as_openais_api_has_it(edge: LabFleet, host: str) -> None:
    status, told = ask(Door.of(edge, host), "phone", "POST", "/models/unload", {"model": "endless"})
    assert status == 403
    assert told["error"].keys() == {"message", "type", "param", "code"} and told["error"]["type"] == "permission_error"


@doors
def test_a_client_uses_models_and_an_administrator_does_what_it_did(edge: LabFleet, host: str) -> None:
    door = Door.of(edge, host)
    assert completion(door, "phone") == 200
    assert ask(door, "phone", "POST", "/tokenize", {"model": "endless", "content": "Hello"})[0] == 200
    assert ask(door, "phone", "GET", "/health")[0] == 200
    for method, path, said in (
        ("GET", "/slots?model=endless", None),
        ("POST", "/v1/streams/lookup", {"conversation_ids": ["a"]}),
        ("POST", "/models/unload", {"model": "endless"}),
    ):
        assert ask(door, "laptop", method, path, said)[0] == 200, path


def test_the_inventory_opens_a_path_of_one_site_to_its_clients(edge: LabFleet) -> None:
    old, new = (Door.of(edge, host) for host in HOSTS)
    assert completion(new, "phone") == 200
    assert ask(old, "phone", "GET", "/metrics?model=endless")[0] == 403
    assert ask(new, "phone", "GET", "/metrics?model=endless")[0] == ask(new, "laptop", "GET", "/metrics?model=endless")[0] != 403


@doors
def test_a_client_sees_models_and_contexts_and_no_command_lines(edge: LabFleet, host: str) -> None:
    door = Door.of(edge, host)
    assert completion(door, "phone") == 200
    for path in ("/models", "/v1/models", "/props", "/props?model=endless"):
        status, whole = ask(door, "laptop", "GET", path)
        assert status == 200
        status, shown = ask(door, "phone", "GET", path, **{"X-Paddock-Upstream": "127.0.0.1:2019"})
        assert status == 200 and "/var/lib" not in json.dumps(shown) and "--" not in json.dumps(shown)
        if "data" in whole:
            (model,), (listed,) = whole["data"], shown["data"]
            assert "--model" in model["status"]["args"] and listed["status"] == {"value": "loaded"}
            assert listed["meta"]["n_ctx"] == model["meta"]["n_ctx"] > 0
        else:
            assert shown["default_generation_settings"]["n_ctx"] == whole["default_generation_settings"]["n_ctx"]


@doors
def test_a_page_of_a_client_hears_what_happens_to_the_models(edge: LabFleet, host: str) -> None:
    door = Door.of(edge, host)
    assert completion(door, "phone") == 200
    connection = door.connect(door.context(VERSIONS[1], door.identity("phone")))
    try:
        connection.request("GET", "/models/sse")
        answer = connection.getresponse()
        assert (answer.status, answer.getheader("Content-Type")) == (200, "text/event-stream")
        assert ask(door, "laptop", "POST", "/models/unload", {"model": "endless"})[0] == 200
        event = json.loads(answer.readline().removeprefix(b"data: "))
        assert event["model"] == "endless" and "/var/lib" not in json.dumps(event)
    finally:
        connection.close()


@doors
def test_who_names_anothers_conversation_neither_reads_nor_ends_it(edge: LabFleet, host: str) -> None:
    door, name = Door.of(edge, host), f"of-the-laptop-{host}"
    context = door.context(VERSIONS[1], door.identity("laptop"))
    connection = door.connect(context)
    said = {"model": "endless", "prompt": "Hello", "max_tokens": 400_000, "stream": True}
    try:
        connection.request("POST", "/v1/completions", json.dumps(said), {**JSON, "X-Conversation-Id": name})
        stream = connection.getresponse()
        assert stream.status == 200 and stream.readline()

        def lives() -> bool:
            (found,) = ask(door, "laptop", "POST", "/v1/streams/lookup", {"conversation_ids": [name]})[1]
            return not found["is_done"]

        assert lives()
        for method in ("GET", "DELETE"):
            assert ask(door, "phone", method, f"/v1/stream?conv_id={name}&from=0")[0] == 403
        assert completion(door, "phone", **{"X-Conversation-Id": name}) == 200
        assert completion(door, "phone", **{"x-conversation-id": name}) == 200
        assert lives() and stream.readline() is not None
        assert ask(door, "laptop", "DELETE", f"/v1/stream?conv_id={name}")[0] in (200, 204)
    finally:
        connection.close()
    for _ in range(50):
        if not any(each["is_processing"] for each in ask(door, "laptop", "GET", "/slots?model=endless")[1]):
            return
        time.sleep(0.2)
    raise AssertionError("it writes on for nobody")


@doors
def test_the_model_list_is_caddys_alone_and_its_unit_is_sandboxed(edge: LabFleet, host: str) -> None:
    assert edge.on(host, f"stat -c '%U %a' {SOCKET}").strip() == "caddy 600"
    asked = f"curl -sS --unix-socket {SOCKET} http://list/models"
    assert "curl: (7)" in edge.on(host, f"runuser -u nobody -- {asked} 2>&1", check=False)
    assert edge.on(host, f"systemd-analyze verify /etc/systemd/system/{UNIT} 2>&1") == ""
    exposure = edge.on(host, f"systemd-analyze security --no-pager {UNIT} | tail -n 1")
    assert float(exposure.split(":")[1].split()[0]) <= MOST_EXPOSED, exposure
    process = edge.on(host, f"systemctl show -P MainPID {UNIT}").strip()
    assert edge.on(host, f"stat -c %U /proc/{process}").strip() not in ("root", "caddy", "nobody")
    for ended in (f"kill -9 {process}", f"systemctl restart {UNIT}"):
        edge.on(host, ended)
        until_listed(Door.of(edge, host))


def until_listed(door: Door) -> None:
    """Who asks in the moment of its end gets nothing."""
    late = time.monotonic() + 30
    while ask(door, "phone", "GET", "/v1/models")[0] != 200:
        assert time.monotonic() < late
        time.sleep(0.2)
