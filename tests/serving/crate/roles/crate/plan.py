"""A stack of one container a crate."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from resources import File, Port, Resource
from roles.compose import Contained, directory_of, stack, volume
from roles.crate.settings import Crate, CrateSettings
from roles.role import address_of, port_of

if TYPE_CHECKING:
    from inventory.fleet import Fleet, Host
    from inventory.knowledge import Knowledge

NAME = "crate"


def plan(host: Host, settings: CrateSettings, fleet: Fleet, knowledge: Knowledge) -> Iterator[Resource]:
    pages = {name: File(f"{directory_of(NAME)}/{name}.html", f"{crate.says}\n") for name, crate in settings.crates.items()}
    resources = stack(
        NAME,
        {name: _contained(crate, pages[name]) for name, crate in settings.crates.items()},
        ready_timeout_s=60,
        brought=host.brings_images,
    )
    *others, last = resources
    yield from others
    yield from pages.values()
    yield last


def _contained(crate: Crate, page: File) -> Contained:
    health = ("/bin/busybox", "wget", "-q", "-O", "/dev/null", "http://127.0.0.1:8080/index.html")
    published = ()
    if crate.listen:
        port = Port(port_of(crate.listen), (address_of(crate.listen),), "docker.service", reachable_from=crate.callers)
        published = ((port, 8080),)
    return Contained(
        image=crate.image,
        command=crate.command,
        environment={"PRICE": "$5"},
        reads={"/www/index.html": page},
        keeps={"/data": volume(NAME, "data")},
        publishes=published,
        memory="64m",
        health=health,
        start_s=5,
    )
