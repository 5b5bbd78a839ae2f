"""What the reverse proxy does, seen from outside: it answers the clients that it admits, and ends the handshake of everybody else."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from shlex import quote
from typing import Any

from testinfra.host import Host as TestinfraHost

from inventory.bounds import from_json
from inventory.fleet import Fleet, Host
from resources import lines_of
from roles.caddy.routes import is_open
from roles.caddy.settings import CaddySettings, Site
from roles.outside import STRANGER, Outside, Refused
from roles.role import address_of
from roles.server import question
from roles.upstream import OfFront, front, models_behind

ALIVE = {"gateway": "/livez", "litellm": "/health/liveliness", "langfuse": "/api/public/health"}
"""Where a program before which a site stands answers everybody."""

ACME_PATIENCE_S = 90
"""How long a new site may take to get its certificate."""


def check_admitted_clients_get_a_completion(settings: CaddySettings, fleet: Fleet, this: Host, outside: Outside) -> None:
    for name, site in settings.sites.items():
        path, body = _question(fleet, site)
        for client in _admitted(site, fleet, outside):
            if site.acme:
                _await_certificate(outside, f"{_url(settings, name)}/health", _reach(settings, this), client)
            answer = outside.ask(_url(settings, name) + path, at=_reach(settings, this), client=client, body=body)
            assert answer.status == 200, f"{client} at {name}: {answer.status} {answer.text[:200]}"


def check_every_server_behind_a_site_is_within_reach(host: TestinfraHost, settings: CaddySettings, fleet: Fleet, this: Host) -> None:
    """A client is answered as long as one of them is."""
    for name, site in settings.sites.items():
        servers = fleet.behind(site.upstream)  # none behind what is no llama-server, whose own health that is
        for server, upstream in (
            ()
            if isinstance(site.upstream, OfFront)
            else zip(servers, fleet.upstreams(site.upstream, this.name, by_socket=True), strict=True)
        ):
            at = f"--unix-socket {quote(upstream.removeprefix('unix/'))} http://localhost" if upstream.startswith("unix/") else upstream
            said = host.run(f"curl -sS -o /dev/null --max-time 10 -w '%{{http_code}}' {at}/health")
            assert said.stdout in ("200", "503"), f"{name} does not reach {server.name} of {server.host}: {said.stdout} {said.stderr}"


def check_nobody_else_gets_through_the_handshake(settings: CaddySettings, fleet: Fleet, this: Host, outside: Outside) -> None:
    for name, site in settings.sites.items():
        admitted = _admitted(site, fleet, outside)
        others = sorted(outside.clients - set(admitted)) if admitted else ()
        for client in (None, STRANGER, *others):
            assert _is_refused(outside, f"{_url(settings, name)}/models", _reach(settings, this), client), (
                f"{name} answered {client or 'anybody'}"
            )


def check_whoever_names_no_site_is_shown_no_certificate(host: TestinfraHost, settings: CaddySettings, this: Host) -> None:
    if settings.catches_all and not settings.shared:
        address = ip_address(address_of(settings.listen[0]))
        here = {4: "127.0.0.1", 6: "::1"}[address.version] if address.is_unspecified else str(address)
        at = f"[{here}]:{settings.port}" if ":" in here else f"{here}:{settings.port}"
        for named in ("-noservername", f"-servername {quote(this.address)}"):
            said = host.run(f"openssl s_client -connect %s {named} </dev/null 2>&1", at).stdout
            assert "no peer certificate available" in said, f"{at} shows a certificate to a caller who names no site: {said[:300]}"


def check_a_site_that_admits_nobody_denies_everybody(settings: CaddySettings, fleet: Fleet, this: Host, outside: Outside) -> None:
    for name, site in settings.sites.items():
        if not _admitted(site, fleet, outside):
            for client in sorted(outside.clients):
                answer = outside.ask(f"{_url(settings, name)}/models", at=_reach(settings, this), client=client)
                assert answer.status == 403, f"{client} at {name}, which admits nobody: {answer.status}"


def check_a_page_of_another_origin_gets_nothing(settings: CaddySettings, fleet: Fleet, this: Host, outside: Outside) -> None:
    for name, client in _some_clients(settings, fleet, outside):
        answer = outside.ask(
            f"{_url(settings, name)}/models", at=_reach(settings, this), client=client, headers={"Origin": "https://elsewhere.example"}
        )
        assert answer.status == 403, f"a page of another origin at {name}: {answer.status}"


def check_browsers_are_told_to_be_careful(settings: CaddySettings, fleet: Fleet, this: Host, outside: Outside) -> None:
    for name, client in _some_clients(settings, fleet, outside):
        said = outside.ask(f"{_url(settings, name)}/health", at=_reach(settings, this), client=client).headers
        assert said.get("strict-transport-security"), f"{name}: {said}"
        assert said.get("x-content-type-options") == "nosniff", f"{name}: {said}"
        assert said.get("x-frame-options") == "DENY", f"{name}: {said}"
        assert "server" not in said, f"{name} says what it is: {said}"


def check_only_administrators_reach_the_admin_endpoint(settings: CaddySettings, fleet: Fleet, this: Host, outside: Outside) -> None:
    for name, site in settings.sites.items():
        there = fleet.administered(site)
        for client in _admitted(site, fleet, outside):
            url, forged = f"{_url(settings, name)}/paddock/admin/preset", {"X-Paddock-Client": "root", "Authorization": "Bearer sk-forged"}
            answer = outside.ask(url, at=_reach(settings, this), client=client, headers=forged)
            if not there:
                assert answer.status == 404, f"{client} at {name}: {answer.status}"
            elif fleet.clients[client].admin:
                assert answer.status not in (401, 403, 502), f"{client} at {name}: {answer.status} {answer.text[:200]}"
            else:
                assert answer.status == 403, f"{client} at {name}: {answer.status}"


def check_who_is_no_administrator_gets_what_is_open_and_sees_no_command_line(
    settings: CaddySettings, fleet: Fleet, this: Host, outside: Outside
) -> None:
    for name, site in settings.sites.items():
        for client in _admitted(site, fleet, outside):
            if fleet.clients[client].admin or isinstance(site.upstream, OfFront):
                continue
            for path in ("/slots", "/lora-adapters"):
                answer = outside.ask(_url(settings, name) + path, at=_reach(settings, this), client=client)
                assert (answer.status == 403) != is_open("GET", path, site.routes), f"{client} at {name}{path}: {answer.status}"
            listed = outside.ask(f"{_url(settings, name)}/v1/models", at=_reach(settings, this), client=client)
            assert listed.status in (200, 401), f"{client} at {name}: {listed.status} {listed.text[:200]}"
            assert '"args":' not in listed.text and '"preset":' not in listed.text, f"{name} shows {client} command lines"


def check_the_log_has_the_client_and_no_secret(
    host: TestinfraHost, settings: CaddySettings, fleet: Fleet, this: Host, outside: Outside
) -> None:
    for name, client in _some_clients(settings, fleet, outside):
        mark, secret = uuid.uuid4().hex, uuid.uuid4().hex
        hidden = {"Authorization": f"Bearer {secret}", "Cookie": f"session={secret}", "X-Api-Key": secret}
        url = f"{_url(settings, name)}/props/{mark}?api_key={secret}"
        outside.ask(url, at=_reach(settings, this), client=client, headers=hidden)
        log = host.check_output("journalctl -q --sync; journalctl -q -u caddy -o cat --since=-5min")
        (line,) = [from_json(each) for each in lines_of(log) if mark in each and '"handled request"' in each]
        # Of an imported certificate, the name in it need not be the fleet's.
        assert line["request"]["tls"]["client_common_name"], f"{name}: {line}"
        assert secret not in log, f"{name}: a key is in the log"


def check_plain_http_is_sent_on(settings: CaddySettings, this: Host, outside: Outside) -> None:
    for name in settings.sites if settings.redirect else ():
        answer = outside.ask(f"http://{name}/", at=_reach(settings, this))
        assert answer.status == 308, f"http://{name}/: {answer.status}"


def check_no_other_account_is_master_of_caddy(host: TestinfraHost, settings: CaddySettings) -> None:
    """Whoever reaches its API can take the certificates away that it asks for."""
    if not settings.shared:
        ask = "runuser -u nobody -- curl -fsS --max-time 5"
        assert host.run(f"{ask} --unix-socket /run/caddy/admin.sock http://caddy/config/").failed, "nobody's account reaches its socket"
        assert host.run(f"{ask} http://127.0.0.1:2019/config/").failed, "any account reaches its API on loopback"
        assert host.file("/run/caddy").mode == 0o700


def check_plain_http_is_closed(host: TestinfraHost, settings: CaddySettings) -> None:
    if not settings.redirect and not settings.shared:
        assert '"caddy"' not in host.check_output("ss -Hltnp 'sport = :80'")


def _admitted(site: Site, fleet: Fleet, outside: Outside) -> tuple[str, ...]:
    return tuple(name for name in fleet.admits(site) if name in outside.clients)


def _await_certificate(outside: Outside, url: str, at: str, client: str) -> None:
    """A site that has just been made has none yet: its authority looks at it first."""
    until = time.monotonic() + ACME_PATIENCE_S
    while _is_refused(outside, url, at, client) and time.monotonic() < until:
        time.sleep(1)


def _is_refused(outside: Outside, url: str, at: str, client: str | None) -> bool:
    try:
        outside.ask(url, at=at, client=client)
    except Refused:
        return True
    return False


def _question(fleet: Fleet, site: Site) -> tuple[str, Mapping[str, Any] | None]:
    """The first model that all servers behind it have, or their health, which needs no key, where a model would ask for one. A gateway asks
    for a user's, and so does LiteLLM; Langfuse for a password."""
    if isinstance(site.upstream, OfFront):
        return ALIVE[front(site.upstream)[0]], None
    servers = fleet.behind(site.upstream)
    for model in models_behind(site.upstream, servers)[:1]:
        server = next(each for each in servers if model in each.models)
        return ("/health", None) if any(each.api_key for each in servers) else question(model, fleet.preset(server, model))
    return "/models", None


def _some_clients(settings: CaddySettings, fleet: Fleet, outside: Outside) -> Iterator[tuple[str, str]]:
    """Each site that lets somebody in, with the first of them."""
    for name, site in settings.sites.items():
        for client in _admitted(site, fleet, outside)[:1]:
            yield name, client


def _url(settings: CaddySettings, name: str) -> str:
    return f"https://{name}:{settings.port}"


def _reach(settings: CaddySettings, this: Host) -> str:
    address = address_of(settings.listen[0])
    return this.address if ip_address(address).is_unspecified else address
