"""What clients that are no administrators may ask of a site: what is on the list, in one spelling, and what the inventory opens."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from small_fleet import Small

from resources import File, Service
from roles.caddy.routes import COMPUTING, is_open
from roles.caddy.settings import LISTED
from tests.edge.spellings import OF_ALL, OPEN, closed

SITES = "/etc/caddy/paddock/sites.caddy"
UNIT = "/etc/systemd/system/paddock-model-list.service"


@pytest.mark.parametrize(("method", "uri"), OPEN)
def test_what_only_computes_is_open(method: str, uri: str) -> None:
    assert is_open(method, uri, ())


@pytest.mark.parametrize(("method", "uri"), closed())
def test_what_changes_or_shows_what_others_have_is_closed_however_it_is_spelled(method: str, uri: str) -> None:
    assert not is_open(method, uri, ())


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE", "post", ""])
def test_an_open_path_is_open_to_its_own_method_alone(method: str) -> None:
    assert not [path for path in COMPUTING if is_open(method, path, ())]


def test_the_files_of_the_page_are_open_and_no_route_of_the_api_looks_like_one() -> None:
    for name in ("/", "/index.html", "/sw.js", "/build.json", "/workbox-b3c04f83.js", "/_app/immutable/assets/bundle.CesUiDTF.css"):
        assert is_open("GET", name, ()) and is_open("HEAD", name, ()) and not is_open("POST", name, ())
    assert not [path for path in (*COMPUTING, *LISTED, *OF_ALL) if is_open("GET", path, ())]
    for name in ("/_app", "/_app/", "/.git/config.js", "/a/../b.js", "/a//b.js", "/a.js/", "/a.js%00", "/..js", "/a.php"):
        assert not is_open("GET", name, ()), name


def test_the_inventory_opens_a_path_or_all_below_it_and_no_more() -> None:
    opened = ("GET /slots/*", "DELETE /lora-adapters", "GET /a.b")
    for method, uri in (
        ("GET", "/slots/0"),
        ("HEAD", "/slots/0?model=chat"),
        ("GET", "/slots/a/b.c"),
        ("DELETE", "/lora-adapters"),
        ("GET", "/a.b"),
    ):
        assert is_open(method, uri, opened), uri
    for method, uri in (("GET", "/slots"), ("GET", "/slots/"), ("POST", "/slots/0"), ("GET", "/slots/../props"), ("GET", "/slots/.x")):
        assert not is_open(method, uri, opened), uri
    assert not is_open("GET", "/axb", opened) and not is_open("DELETE", "/lora-adapters/0", opened)


def test_an_administrator_is_asked_nothing_and_everybody_else_is(small: Small) -> None:
    small.administrators = ("laptop",)
    text = small.text("door", SITES)
    laptop = re.search(r"\t(\S+) laptop\n", text)
    assert (
        laptop and text.count(f'not vars {{tls_client_fingerprint}} "{laptop[1]}"\n') == 3
    )  # listed, closed, and the one whose header goes
    assert "request_header @client -X-Conversation-Id" in text


def test_where_nobody_is_an_administrator_nobody_is_let_past(small: Small) -> None:
    text = small.text("door", SITES)
    assert "\t\t\trequest_header -X-Conversation-Id\n" in text
    assert "@client" not in text and "handle @closed {" in text


def test_where_all_are_administrators_nothing_is_closed_and_no_program_runs(small: Small) -> None:
    small.administrators = ("laptop", "phone")
    assert "@closed" not in small.text("door", SITES)
    assert not [each for each in small.plan("door") if "model-list" in each]


def test_each_site_has_its_own_routes(small: Small) -> None:
    small.roles["door"]["caddy"]["sites"]["two.home.example"] = {"upstream": "ai", "routes": ["GET /metrics"]}
    assert small.text("door", SITES).count("|/metrics)") == 1


def test_the_model_list_asks_the_upstreams_and_reaches_nothing_else(small: Small) -> None:
    assert "header_up X-Paddock-Upstream unix//run/paddock/hop-ai.8080.sock\n" in small.text("door", SITES)
    assert "PrivateNetwork=yes\n" in small.text("door", UNIT) and "IPAddressAllow" not in small.text("door", UNIT)
    small.roles["ai"]["llama_server"]["encrypted"] = False
    assert "header_up X-Paddock-Upstream 192.0.2.10:8080\n" in small.text("door", SITES)
    assert "IPAddressDeny=any\nIPAddressAllow=192.0.2.10\n" in small.text("door", UNIT)
    small.roles["one"]["caddy"]["sites"]["two.home.example"] = {"upstream": "ai"}
    assert "IPAddressAllow=192.0.2.10\n" in small.text("one", UNIT) and "SupplementaryGroups=paddock-callers\n" in small.text("one", UNIT)


def test_a_model_list_that_asks_its_own_host_alone_is_in_no_network(small: Small) -> None:
    assert "header_up X-Paddock-Upstream unix//run/paddock/llama-server.sock\n" in small.text("one", SITES)
    assert "PrivateNetwork=yes\n" in small.text("one", UNIT) and "IPAddressAllow" not in small.text("one", UNIT)


def test_caddy_alone_may_ask_it_and_another_program_starts_it_anew(small: Small) -> None:
    assert "SocketUser=caddy\nSocketMode=0600\n" in small.text("door", UNIT.replace(".service", ".socket"))
    service = small.plan("door")["service:paddock-model-list.service"]
    assert isinstance(service, Service)
    assert {Path(each.path).suffix for each in service.restarts if isinstance(each, File)} == {".py", ".service", ".socket"}
