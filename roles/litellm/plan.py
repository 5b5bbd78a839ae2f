"""LiteLLM's environment, its config.yaml, its secrets and its unit; and its end of the ways to servers on other hosts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

import yaml

from inventory.errors import PaddockError
from inventory.fleet import Fleet, Host
from inventory.knowledge import Knowledge
from resources import Directory, File, Package, Port, Resource, Service, User, Venv
from roles import tunnel
from roles.expiry import ExpirySettings, Pem, expiry_watch
from roles.front import PEPPER
from roles.litellm import configuration as said
from roles.litellm import container
from roles.litellm.settings import LitellmSettings, called_at, master_key_name, salt_key_name
from roles.offer import SHORTEST_KEY, SHORTEST_PEPPER, offered
from roles.role import address_of, is_address, is_loopback, listed_as, port_of, render
from roles.server import CALLERS, Server, Tunnelled
from roles.tracing import public_key
from roles.upstream import hosts_of

ACCOUNT = "paddock-litellm"
UNIT = "paddock-litellm.service"
ENVIRONMENT = "/opt/paddock/litellm"
DIRECTORY = "/etc/paddock/litellm"
CONFIGURATION = f"{DIRECTORY}/config.yaml"
ACCESS = f"{DIRECTORY}/access.json"
SECRETS = f"{DIRECTORY}/secrets.env"
STATE = "/var/lib/paddock-litellm"

STARTS_S = 180
"""It imports for a minute on a slow machine, before it listens."""

WAY_OUT = tunnel.Tunnel(
    "paddock-litellm-tunnel.service",
    "/etc/paddock/litellm-tunnel",
    "Encrypted way from LiteLLM to another host",
    callers=CALLERS,
    sockets="litellm",
)


def plan(host: Host, settings: LitellmSettings, fleet: Fleet, knowledge: Knowledge) -> Iterator[Resource]:
    where = f"hosts.{host.name}.roles.litellm"
    servers = fleet.every_behind(settings.upstream or host.name)
    if not servers:
        raise PaddockError(f"{where}: there is no llama-server behind it: see its upstream")
    models = tuple(offered(where, settings.models, servers, fleet))
    sockets = {_name(each): socket for each in servers if (socket := fleet.socket_to(each, host.name, sockets=WAY_OUT.sockets))}
    urls = {said.backend(each): _url(each, host.name, sockets, fleet) for each in servers}
    text = yaml.safe_dump(said.configuration(where, settings, models, urls, fleet), sort_keys=False, width=120)
    callers = {**said.access(where, settings, models, urls, fleet, knowledge), "sockets": sockets}
    wanted = (f"# Written by Paddock.\n{text}", json.dumps(callers, indent=1) + "\n")
    secrets = _secrets(host, servers, knowledge)
    ways = tuple(_ways(host, servers, fleet))
    yield User(CALLERS, "/nonexistent")
    yield from tunnel.outwards(WAY_OUT, host.name, ways, knowledge)
    if settings.runtime == "container":
        traces_at, keys = _traces(host, settings, fleet, knowledge)
        yield from container.resources(host, settings, *wanted, secrets | keys, traces_at, knowledge)
    else:
        yield from _natively(host, settings, *wanted, secrets, _unit(host, settings, servers, fleet), knowledge)
    if ways:
        yield from expiry_watch("litellm", host.name, [Pem(WAY_OUT.certificate)], ExpirySettings())


def _natively(
    host: Host, settings: LitellmSettings, text: str, users: str, variables: Mapping[str, str], unit: File, knowledge: Knowledge
) -> Iterator[Resource]:
    environment = Venv(ENVIRONMENT, knowledge.wheels_for(host.name, "litellm"))
    configuration = File(CONFIGURATION, text, group=ACCOUNT, mode=0o640)
    access = File(ACCESS, users, group=ACCOUNT, mode=0o640, secret=True)
    secrets = File(SECRETS, render("litellm/secrets.env.j2", secrets=variables), mode=0o600, secret=True)
    yield Package("python3")
    yield Package("python3-venv")
    yield User(ACCOUNT, STATE, groups=(CALLERS,))
    yield Directory("/etc/paddock")
    yield Directory(DIRECTORY, exclusive=True)
    yield Directory(STATE, data=True)
    yield environment
    yield from (configuration, access, secrets, unit)
    yield Service(
        UNIT,
        restarts=(environment, configuration, access, secrets, unit),
        ports=(Port(port_of(settings.listen), (listed_as(address_of(settings.listen)),), UNIT),),
        answers=f"curl --silent --fail --max-time 5 http://{called_at(settings.listen)}/health/liveliness",
        ready_timeout_s=STARTS_S,
        answer_timeout_s=STARTS_S,
    )


def needs(host: Host, settings: LitellmSettings, fleet: Fleet) -> Iterator[str]:
    """The other host that all of its llama-servers are on."""
    behind = hosts_of(fleet.every_behind(settings.upstream or host.name))
    yield from behind if len(behind) == 1 else ()


def needs_one_of(host: Host, settings: LitellmSettings, fleet: Fleet) -> Iterator[tuple[str, ...]]:
    """Of several other hosts one, so that there is somebody who answers."""
    behind = hosts_of(fleet.every_behind(settings.upstream or host.name))
    if len(behind) > 1 and host.name not in behind:
        yield behind


def remarks(host: Host, settings: LitellmSettings, fleet: Fleet, knowledge: Knowledge) -> Iterator[str]:
    if not is_loopback(settings.listen):
        words = f"NOT ENCRYPTED: at {settings.listen} users' keys, and what they ask, are clear text on the network"
        yield f"hosts.{host.name}.roles.litellm: {words}: listen on loopback behind the role caddy"
    url = fleet.traced_at(settings.langfuse, f"a container of {host.name}")[0] if settings.langfuse else ""
    if settings.langfuse != host.name and url.startswith("http://"):
        words = f"NOT ENCRYPTED: what users ask goes to {url} in clear text, and so does Langfuse's secret key"
        yield f"hosts.{host.name}.roles.litellm.langfuse: {words}: give the langfuse of {settings.langfuse} a url that begins with https://"


def _name(server: Server) -> str:
    """What stands for its socket in a URL. No name server knows it (RFC 6761)."""
    return f"{server.name}.{server.host}.invalid"


def _url(server: Server, host: str, sockets: Mapping[str, str], fleet: Fleet) -> str:
    name = _name(server)
    return f"http://{name if name in sockets else fleet.endpoint(server, host)}/v1"


def _secrets(host: Host, servers: Sequence[Server], knowledge: Knowledge) -> dict[str, str]:
    """Variable → secret."""
    own = {
        said.MASTER_KEY: knowledge.key(master_key_name(host.name), SHORTEST_KEY),
        said.SALT_KEY: knowledge.key(salt_key_name(host.name), SHORTEST_KEY),
        said.PEPPER: knowledge.key(PEPPER, SHORTEST_PEPPER),
    }
    return own | {said.key_variable(each): knowledge.key(each.key_name) for each in servers if each.api_key}


def _traces(host: Host, settings: LitellmSettings, fleet: Fleet, knowledge: Knowledge) -> tuple[str, dict[str, str]]:
    """The URL of Langfuse as the container reaches it, and the keys of its project, by their variables; nothing where it gets no traces."""
    if not settings.langfuse:
        return "", {}
    url, there = fleet.traced_at(settings.langfuse, f"a container of {host.name}")
    secret = knowledge.key(there.key_name, SHORTEST_KEY)
    return url, {"LANGFUSE_PUBLIC_KEY": public_key(secret), "LANGFUSE_SECRET_KEY": secret}


def _ways(host: Host, servers: Sequence[Server], fleet: Fleet) -> Iterator[tuple[Tunnelled, str]]:
    """What it reaches on other hosts by a tunnel, each with the `ADDRESS:PORT` there."""
    sockets = {each.socket for each in servers}
    for way in (way for other in hosts_of(servers) if other != host.name for way in fleet.tunnels_to(other)):
        if host.name in way.callers and way.socket in sockets:
            yield way, fleet.reach(way.listen, f"hosts.{way.host}.listen", way.host, host.name)


def _unit(host: Host, settings: LitellmSettings, servers: Sequence[Server], fleet: Fleet) -> File:
    called = [
        address_of(fleet.endpoint(each, host.name)) for each in servers if not fleet.socket_to(each, host.name, sockets=WAY_OUT.sockets)
    ]
    here = is_loopback(settings.listen) and all(map(is_address, called))
    text = render(
        "litellm/paddock-litellm.service.j2",
        account=ACCOUNT,
        callers=CALLERS,
        program=f"{ENVIRONMENT}/current/bin/litellm",
        configuration=CONFIGURATION,
        access=ACCESS,
        secrets=SECRETS,
        address=address_of(settings.listen),
        port=port_of(settings.listen),
        memory_max=settings.memory_max,
        addresses=list(dict.fromkeys(("localhost", *called))) if here else (),
    )
    return File(f"/etc/systemd/system/{UNIT}", text)
