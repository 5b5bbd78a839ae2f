"""A stack of one container a crate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from resources import File, Port, Resource
from roles.compose import Contained, directory_of, published_at, stack, volume
from roles.crate.settings import Crate, CrateSettings
from roles.role import port_of

if TYPE_CHECKING:
    from inventory.fleet import Fleet, Host
    from inventory.knowledge import Knowledge

NAME = "crate"


def plan(host: Host, settings: CrateSettings, fleet: Fleet, knowledge: Knowledge) -> Iterator[Resource]:
    pages = {name: File(f"{directory_of(NAME)}/{name}.html", f"{crate.says}\n") for name, crate in settings.crates.items()}
    keys = {name: f"{knowledge.key(f'crate-{name}')}" for crate in settings.crates.values() for name in crate.keys}
    wanted = {name: _contained(name, crate, pages[name], keys) for name, crate in settings.crates.items()}
    resources = stack(
        NAME,
        wanted,
        ready_timeout_s=60,
        brought=host.brings_images,
    )
    *others, last = resources
    yield from others
    yield from {file.id: file for one in wanted.values() for file in one.files}.values()
    yield last


def _contained(name: str, crate: Crate, page: File, keys: Mapping[str, str]) -> Contained:
    files = {f"/run/secrets/{key}": _secret(key, f"{keys[key]}\n") for key, how in crate.keys.items() if how == "file"}
    variables = "".join(f"{key.upper()}={keys[key]}\n" for key, how in crate.keys.items() if how == "variable")
    health = ("/bin/busybox", "wget", "-q", "-O", "/dev/null", "http://127.0.0.1:8080/index.html")
    published = ()
    if crate.listen:
        port = Port(port_of(crate.listen), published_at(crate.listen), "docker.service", reachable_from=crate.callers)
        published = ((port, 8080),)
    return Contained(
        image=crate.image,
        command=crate.command,
        environment={"PRICE": "$5"},
        env_files=(_secret(f"{name}.env", variables),) if variables else (),
        reads={"/www/index.html": page, **files},
        keeps={"/data": volume(NAME, "data")},
        publishes=published,
        memory="64m",
        health=health,
        start_s=5,
    )


def _secret(name: str, text: str) -> File:
    return File(f"{directory_of(NAME)}/{name}", text, mode=0o600, secret=True)
