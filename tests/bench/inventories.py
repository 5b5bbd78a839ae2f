"""Inventories of as many hosts as are asked for, in the shapes that fleets have. The same number gives the same text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from ipaddress import IPv4Address
from typing import Any

import yaml

NAME = "many"
DOMAIN = "home.example"

FIRST = IPv4Address("198.18.0.0")
"""198.18.0.0/15 is for benchmarks (RFC 2544)."""

BASE = {"time": "elsewhere"}
SERVING: dict[str, Any] = {"base": BASE, "llama_cpp": {"ui": False}, "models": {}}

A_GROUP, A_DOOR = 100, 20
"""The hosts of a group, and those behind one reverse proxy."""

Entries = dict[str, dict[str, Any]]


class WrittenOut(yaml.SafeDumper):
    """Without aliases: what is alike is written again, as people do."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def inventory(shape: str, hosts: int) -> str:
    """The text of an inventory of one of the SHAPES."""
    whole = {
        "fleet": NAME,
        "domain": DOMAIN,
        "clients": _clients(2),
        "models": {"demo": {"preset": {"ctx-size": 2048}}},
        **SHAPES[shape](hosts),
    }
    return yaml.dump(whole, Dumper=WrittenOut, sort_keys=False, width=120)


def alone(hosts: int) -> Mapping[str, Any]:
    """Every host serves, and is its own reverse proxy; each says all of itself."""
    return {"hosts": {name: _host(at, _proxied(name, name, {"models": ["demo"]})) for at, name in enumerate(_names(hosts))}}


def one_door(hosts: int) -> Mapping[str, Any]:
    """One reverse proxy before all other hosts, a site each. What these have in common stands in a group that names them one by one."""
    door, *behind = _names(hosts)
    roles = {**SERVING, "llama_server": {"listen": "0.0.0.0:8080", "models": ["demo"]}, "firewall": {}}
    sites = {f"{name}.{DOMAIN}": {"upstream": name} for name in behind}
    return {
        "groups": {"serving": {"hosts": behind, "roles": roles}},
        "hosts": {door: _host(0, {"base": BASE, "caddy": {"sites": sites}}), **{name: _host(at) for at, name in enumerate(behind, 1)}},
    }


def groups(hosts: int) -> Mapping[str, Any]:
    """Ranges of hosts, each range a group with its model, its presets and its own part of the file."""
    described, ranges, models = {}, {}, {}
    for number, first in enumerate(range(0, hosts, A_GROUP)):
        many = min(A_GROUP, hosts - first)
        members, model = f"g{number}-[1:{many}]", f"model-{number}"
        served = {"listen": "0.0.0.0:8080", "models": ["demo", model], "preset": {"cache-type-k": "q8_0"}}
        described[f"group-{number}"] = {"hosts": [members], "user": "admin", "roles": {**SERVING, "llama_server": served}}
        ranges[members] = {"address": f"node{number}-[1:{many}].{DOMAIN}"}
        models[model] = {"preset": {"ctx-size": 4096}}
    return {"defaults": {"roles": {"base": BASE}}, "groups": described, "hosts": ranges, "models": {"demo": {}, **models}}


def catalogue(hosts: int) -> Mapping[str, Any]:
    """As many models and clients as hosts: each host serves three of the models, and lets in three of the clients."""
    clients, models = list(_clients(hosts)), {f"model-{at}": {"preset": {"ctx-size": 2048 + at % 7}} for at in range(hosts)}
    found = {}
    for at, name in enumerate(_names(hosts)):
        some = {"models": _three(list(models), at)}
        found[name] = _host(at, _proxied(name, name, some, {"clients": _three(clients, at)}))
    return {"hosts": found, "models": models, "clients": _clients(hosts)}


def guarded(hosts: int) -> Mapping[str, Any]:
    """Firewall and watchdog on every host, and a reverse proxy before every twenty of them."""
    found = {}
    names = _names(hosts)
    for first in range(0, hosts, A_DOOR):
        door, *behind = names[first : first + A_DOOR]
        sites = {f"{name}.{DOMAIN}": {"upstream": name} for name in behind}
        found[door] = _host(first, {"base": BASE, "caddy": {"sites": sites}})
        for at, name in enumerate(behind, first + 1):
            served = {"listen": "0.0.0.0:8080", "models": ["demo"], "encrypted": False}
            found[name] = _host(at, {**SERVING, "llama_server": served, "watchdog": {}, "firewall": {"allow": {"8080": ["192.0.2.7"]}}})
    return {"hosts": found}


def long_lists(hosts: int) -> Mapping[str, Any]:
    """One host whose router has as many models as there are hosts, one site that names as many clients; what builds for all is one host."""
    first, *rest = _names(hosts)
    models = {f"model-{at}": {} for at in range(hosts)}
    found = {first: _host(0, _proxied(first, first, {"models": list(models)}, {"clients": list(_clients(hosts))}))}
    built = {**SERVING, "llama_cpp": {"ui": False, "builder": first}, "llama_server": {"models": ["demo"]}}
    found |= {name: _host(at, built) for at, name in enumerate(rest, 1)}
    return {"hosts": found, "models": {"demo": {}, **models}, "clients": _clients(hosts)}


SHAPES: Mapping[str, Callable[[int], Mapping[str, Any]]] = {
    "alone": alone,
    "one-door": one_door,
    "groups": groups,
    "catalogue": catalogue,
    "guarded": guarded,
    "long-lists": long_lists,
}


def _names(hosts: int) -> list[str]:
    return [f"h{at:05d}" for at in range(hosts)]


def _host(at: int, roles: Mapping[str, Any] | None = None) -> dict[str, Any]:
    return {"address": str(FIRST + at), **({"roles": dict(roles)} if roles else {})}


def _proxied(name: str, upstream: str, served: Mapping[str, Any], site: Mapping[str, Any] | None = None) -> dict[str, Any]:
    sites = {f"{name}.{DOMAIN}": {"upstream": upstream, **(site or {})}}
    return {**SERVING, "llama_server": dict(served), "caddy": {"sites": sites}}


def _clients(many: int) -> Entries:
    return {f"client-{at}": {} for at in range(many)}


def _three(of: Sequence[str], at: int) -> list[str]:
    return [of[(at + step) % len(of)] for step in range(3)]
