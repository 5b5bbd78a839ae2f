"""The gateway's environment, its configuration, its keys and its unit; and its end of the ways to servers on other hosts."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from inventory.errors import PaddockError
from inventory.fleet import Fleet, Host
from inventory.knowledge import Knowledge
from resources import Directory, File, Package, Port, Resource, Service, User, Venv
from roles import tunnel
from roles.expiry import Pem, expiry_watch
from roles.front import PEPPER
from roles.gateway.models import configured
from roles.gateway.settings import GatewaySettings, OnPostgres, called_at, is_encrypted, master_key_name
from roles.offer import SHORTEST_KEY, SHORTEST_PEPPER, Offered, allowed, key_digest, offered
from roles.role import address_of, is_address, is_loopback, port_of, render, with_address
from roles.server import CALLERS, ImageServer, Server, Tunnelled
from roles.tracing import public_key
from roles.upstream import hosts_of
from roles.users import ADMIN_SOCKET, COMMAND, UNIT, UserLimits

ACCOUNT = "paddock-gateway"
LISTENER = "paddock-gateway.socket"
ENVIRONMENT = "/opt/paddock/gateway"
DIRECTORY = "/etc/paddock/gateway"
CONFIGURATION = f"{DIRECTORY}/gateway.json"
PEPPER_FILE = f"{DIRECTORY}/pepper"
LANGFUSE_KEY_FILE = f"{DIRECTORY}/langfuse-key"
MASTER_KEY_FILE = f"{DIRECTORY}/master-key"
STATE = "/var/lib/paddock-gateway"
DATABASE = f"{STATE}/gateway.db"
COPIES = "/var/lib/paddock/backups"
"""What its command `copies` writes."""
ON_POSTGRES = f"postgresql://{ACCOUNT}@/paddock_gateway?host=/run/postgresql"
"""By its socket: who may is told by the account."""

PREPARE = f"cd / && {shlex.join((*COMMAND, 'prepare'))}"
"""While the version before serves: where the migration fails, or no copy can be restored, that one goes on with what it has."""

TRY = f"cd / && {shlex.join((*COMMAND, 'copies', 'try'))}"

COPIED = "ls /var/lib/paddock/backups/*/*-before-migration.json"

NEWEST_USERS = f"""cd /
readlink -e {ENVIRONMENT}/current >"$1/program"
cp -p {CONFIGURATION} "$1/configuration"
set -- "$1/files{CONFIGURATION}" {shlex.join(COMMAND)} newest-users
kept=$1
shift
! "$@" --help >/dev/null 2>&1 || "$@" "$kept"
"""
"""Whoever is let in by the configuration that is put back: nobody who is so no more. An older version does not know how, and has put none
there."""

MIGRATED_BACK = f"""cd /
made=$({COPIED} 2>/dev/null | grep -vxF -f "$1/noted" | tail -n 1)
[ -n "$made" ] || exit 0
set -- "$(cat "$1/program")/bin/python" -I -m paddock_gateway --configuration "$1/configuration" copies take-back
"$@" --help >/dev/null 2>&1 || exit 0
systemctl stop {UNIT}
made=${{made##*/}}
"$@" "${{made%.json}}"
"""
"""By the version that has migrated: the one before cannot read what that has made of the tables. An older version does not know how, and is
in its place again."""

PREPARING_S = 4 * 3600
"""A large database is copied, restored and migrated within this."""

AFTER_DRAINING_S = 15
"""Beside what requests may take: the last rows of the log."""

WAY_OUT = tunnel.Tunnel(
    "paddock-gateway-tunnel.service",
    "/etc/paddock/gateway-tunnel",
    "Encrypted way from the gateway to another host",
    callers=CALLERS,
    sockets="gateway",
)


def plan(host: Host, settings: GatewaySettings, fleet: Fleet, knowledge: Knowledge) -> Iterator[Resource]:
    servers = fleet.every_behind(settings.upstream or host.name)
    images = fleet.image_servers_behind(settings.upstream or host.name)
    if not servers and not images:
        raise PaddockError(f"hosts.{host.name}.roles.gateway: there is no llama-server behind it: see its upstream")
    environment = Venv(ENVIRONMENT, knowledge.wheels_for(host.name, "gateway"))
    where = f"hosts.{host.name}.roles.gateway"
    listens = [knowledge.bound(each, host.name, where) for each in settings.listen]
    metrics = knowledge.bound(settings.metrics_listen, host.name, where) if settings.metrics_listen else ""
    keys = tuple(_keys(host, settings, servers, images, fleet, knowledge))
    said = {**_configuration(host, settings, servers, images, fleet, knowledge), "listen": listens, "metrics_listen": metrics}
    configuration = File(CONFIGURATION, json.dumps(said, indent=1) + "\n", group=ACCOUNT, mode=0o640, secret=True, goes_back=True)
    addresses = list(dict.fromkeys([*listens, *filter(None, (metrics,))]))
    unit = _unit(host, settings, servers, images, fleet, addresses)
    listener = File(f"/etc/systemd/system/{LISTENER}", render("gateway/paddock-gateway.socket.j2", listens=addresses))
    yield Package("python3")
    yield Package("python3-venv")
    yield User(CALLERS, "/nonexistent")
    yield User(ACCOUNT, STATE, groups=(CALLERS,))
    yield Directory(STATE, data=True)
    yield Directory(COPIES, data=True)
    yield Directory("/etc/paddock")
    yield Directory(DIRECTORY, exclusive=True)
    yield environment
    yield from (*keys, configuration, unit, listener)
    ways = tuple(_ways(host, servers, fleet))
    warm = settings.pi and settings.pi.chosen("warm_up", False)
    yield from tunnel.outwards(WAY_OUT, host.name, ways, knowledge)
    yield Service(LISTENER, restarts=(listener,), ports=tuple(_ports(listens, metrics, settings.callers, fleet.watchers(host.name))))
    yield Service(
        UNIT,
        restarts=(environment, *keys, configuration, unit),
        validate=(PREPARE,),
        gate=(TRY,),
        takes_back=(COPIED, NEWEST_USERS, MIGRATED_BACK),
        # Where it asks the model for a token first, it is ready when that has come.
        answers=f"curl --silent --fail --max-time 5 http://{called_at(metrics or listens[0])}/{'readyz' if warm else 'livez'}",
        answer_timeout_s=600 if warm else 120,
    )
    if ways:
        yield from expiry_watch("gateway", host.name, [Pem(WAY_OUT.certificate)], settings.expiry)


def needs(host: Host, settings: GatewaySettings, fleet: Fleet) -> Iterator[str]:
    """The other host that all of its llama-servers are on."""
    behind = hosts_of(fleet.every_behind(settings.upstream or host.name))
    yield from behind if len(behind) == 1 else ()


def needs_one_of(host: Host, settings: GatewaySettings, fleet: Fleet) -> Iterator[tuple[str, ...]]:
    """Of several other hosts one, so that there is somebody who answers."""
    behind = hosts_of(fleet.every_behind(settings.upstream or host.name))
    if len(behind) > 1 and host.name not in behind:
        yield behind


def remarks(host: Host, settings: GatewaySettings, fleet: Fleet, knowledge: Knowledge) -> Iterator[str]:
    where = f"hosts.{host.name}.roles.gateway"
    if far := [each for each in settings.listen if not is_loopback(with_address(each)) and not is_encrypted(each)]:
        words = f"NOT ENCRYPTED: at {' and '.join(far)} users' keys, and what they ask, are clear text on the network"
        yield f"{where}: {words}: listen on loopback behind the role caddy, or on an interface of a VPN such as tailscale0"
    if settings.langfuse and settings.langfuse != host.name and (url := _traces(host, settings.langfuse, fleet)[0]).startswith("http://"):
        yield f"{where}.langfuse: NOT ENCRYPTED: users' names, and Langfuse's secret key, go to {url} in clear text"
    own = fleet.every_behind(settings.upstream or host.name)
    for each in fleet.image_servers_behind(settings.upstream or host.name):
        if each.host != host.name:
            yield f"{where}: NOT ENCRYPTED: prompts and images, and the key for them, are clear text on the way to {each.host}"
    beside = [each.name for each in fleet.entrances() if any(server in own for server in fleet.behind(each.site.upstream))]
    for site in beside:
        yield f"{where}: the site {site} leads to a server of the gateway, past its keys, limits and turns"


def _ports(listens: Sequence[str], metrics: str, callers: tuple[str, ...] | None, watchers: tuple[str, ...]) -> Iterator[Port]:
    """IPv4 and IPv6 have a socket each. A port that has metrics alone is the fleet's Prometheus' too."""
    by_number: dict[int, list[str]] = {}
    for each in (*listens, *filter(None, (metrics,))):
        by_number.setdefault(port_of(each), []).append(address_of(each))
    for number, addresses in by_number.items():
        others = (*(callers or ()), *watchers) if watchers and number not in map(port_of, listens) else callers
        yield Port(number, tuple(dict.fromkeys(addresses)), LISTENER, reachable_from=others)


def _keys(
    host: Host, settings: GatewaySettings, servers: Sequence[Server], images: Sequence[ImageServer], fleet: Fleet, knowledge: Knowledge
) -> Iterator[File]:
    """What is secret, each in a file of its own that only the gateway reads."""
    yield _secret(PEPPER_FILE, knowledge.key(PEPPER, SHORTEST_PEPPER))
    if settings.langfuse:
        yield _secret(LANGFUSE_KEY_FILE, knowledge.key(_traces(host, settings.langfuse, fleet)[1]))
    if settings.master_key:
        yield _secret(MASTER_KEY_FILE, knowledge.key(master_key_name(host.name), SHORTEST_KEY))
    for name in dict.fromkeys((*(each.key_name for each in servers if each.api_key), *(each.key_name for each in images))):
        yield _secret(_key_file(name), knowledge.key(name))


def _key_file(name: str) -> str:
    return f"{DIRECTORY}/{name}"


def _secret(path: str, content: str) -> File:
    return File(path, f"{content}\n", group=ACCOUNT, mode=0o640, secret=True)


def _configuration(
    host: Host,
    settings: GatewaySettings,
    servers: Sequence[Server],
    images: Sequence[ImageServer],
    fleet: Fleet,
    knowledge: Knowledge,
) -> Mapping[str, Any]:
    """What the service reads (paddock_gateway.settings.Configuration)."""
    models = tuple(offered(f"hosts.{host.name}.roles.gateway", settings.models, servers, fleet, images))
    known = configured(host.name, settings, models, fleet)
    said: dict[str, Any] = {
        "database": ON_POSTGRES if isinstance(settings.database, OnPostgres) else f"sqlite:{DATABASE}",
        "pepper_file": PEPPER_FILE,
        "state": STATE,
        "backends": {backend_name(each): _backend(each, host.name, fleet) for each in servers}
        | {backend_name(each): _image_backend(each, host.name, fleet) for each in images},
        "models": known,
        "master_key_file": MASTER_KEY_FILE if settings.master_key else "",
        "admin_socket": ADMIN_SOCKET,
        "users": list(_users(fleet, knowledge, models)),
        "default_limits": limits(settings.default_limits),
        "global_limits": limits(settings.global_limits),
        "queue": settings.queue.model_dump(),
        "health": settings.health.model_dump(),
        "log": {"retention_days": settings.retention_days, "spool_mib": settings.spool_mib},
    }
    if settings.pi:
        said["pi"] = _pi(settings, known)
    if settings.langfuse:
        url, key = _traces(host, settings.langfuse, fleet)
        said["tracing"] = {"url": url, "public_key": public_key(knowledge.key(key)), "secret_key_file": LANGFUSE_KEY_FILE}
    alike = ("known_keys_s", "heartbeat_s", "drain_s", "body_mib", "shared_system_prompt", "metrics_by_user")
    return said | {name: getattr(settings, name) for name in alike}


def backend_name(server: Server | ImageServer) -> str:
    """`rig/chat-1`"""
    return f"{server.host}/{server.name}"


def _backend(server: Server, host: str, fleet: Fleet) -> Mapping[str, Any]:
    socket = fleet.socket_to(server, host, sockets=WAY_OUT.sockets)
    return {
        "url": f"unix:{socket}" if socket else f"http://{fleet.endpoint(server, host)}",
        "key_file": _key_file(server.key_name) if server.api_key else "",
        "router": server.kind == "router",
        "models_max": server.models_max,
    }


def _image_backend(server: ImageServer, host: str, fleet: Fleet) -> Mapping[str, Any]:
    """It makes one image at a time, and has nothing that would say so."""
    return {"url": f"http://{_reach(server, host, fleet)}", "key_file": _key_file(server.key_name), "slots": 1}


def _reach(server: ImageServer, host: str, fleet: Fleet) -> str:
    return fleet.reach(server.listen, f"hosts.{server.host}.roles.{server.name}.listen", server.host, host)


def _traces(host: Host, where: str, fleet: Fleet) -> tuple[str, str]:
    """The URL of Langfuse on `where`, and the name of its secret key. On its own host it is called past the reverse proxy."""
    if where == host.name:
        _, there = fleet.traced_at(where, where)
        return f"http://{fleet.front('langfuse', where)}", there.key_name
    url, there = fleet.traced_at(where, host.name)
    return url, there.key_name


def limits(said: UserLimits) -> Mapping[str, int | None]:
    return said.model_dump()


def _users(fleet: Fleet, knowledge: Knowledge, models: Sequence[Offered]) -> Iterator[Mapping[str, Any]]:
    """The users that the inventory declares. What one may use that this gateway does not have is left out here."""
    for name, user in fleet.users.items():
        yield {
            "name": name,
            "digest": key_digest(name, knowledge),
            "models": allowed(user, models, fleet),
            "limits": limits(user.limits) if user.limits else None,
            "weight": user.weight,
            "expires": user.expires_at,
            "admin": user.admin,
        }


def _pi(settings: GatewaySettings, models: Mapping[str, Any]) -> Mapping[str, Any]:
    pi = settings.pi
    assert pi
    said = {
        "model": pi.model or next(iter(models)),
        "max_tokens": pi.chosen("max_tokens", 160),
        "max_concurrent": pi.max_concurrent,
        "threads": pi.chosen("threads", 0),
        "residency_s": int(pi.chosen("residency_s", 1800)),
        "warm_up": pi.chosen("warm_up", False),
    }
    return said | ({"keys_generate": {"networks": list(pi.keys_generate)}} if pi.keys_generate else {})


def _ways(host: Host, servers: Sequence[Server], fleet: Fleet) -> Iterator[tuple[Tunnelled, str]]:
    """What it reaches on other hosts by a tunnel, each with the `ADDRESS:PORT` there."""
    sockets = {each.socket for each in servers}
    for way in (way for other in hosts_of(servers) if other != host.name for way in fleet.tunnels_to(other)):
        if host.name in way.callers and way.socket in sockets:
            yield way, fleet.reach(way.listen, f"hosts.{way.host}.listen", way.host, host.name)


def _unit(
    host: Host,
    settings: GatewaySettings,
    servers: Sequence[Server],
    images: Sequence[ImageServer],
    fleet: Fleet,
    listens: Sequence[str],
) -> File:
    called = [
        address_of(fleet.endpoint(each, host.name)) for each in servers if not fleet.socket_to(each, host.name, sockets=WAY_OUT.sockets)
    ]
    called += [address_of(_reach(each, host.name, fleet)) for each in images]
    if settings.langfuse and settings.langfuse != host.name:
        called.append(address_of(_traces(host, settings.langfuse, fleet)[0].partition("://")[2]))
    here = all(map(is_loopback, listens)) and all(map(is_address, called))
    postgres = isinstance(settings.database, OnPostgres)
    text = render(
        "gateway/paddock-gateway.service.j2",
        listener=LISTENER,
        account=ACCOUNT,
        callers=CALLERS,
        program=f"{ENVIRONMENT}/current/bin/python",
        configuration=CONFIGURATION,
        postgres=postgres,
        memory_max=settings.memory_max,
        start_s=PREPARING_S,
        stop_s=settings.drain_s + AFTER_DRAINING_S,
        addresses=list(dict.fromkeys(("localhost", *called))) if here else (),
    )
    return File(f"/etc/systemd/system/{UNIT}", text)
