"""The files for a client's machine that Paddock does not manage: those of an account, a script that installs them, and a page to read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from inventory.errors import PaddockError
from inventory.fleet import Fleet
from inventory.knowledge import TO_BE_ISSUED, Certificate, Knowledge
from resources import File, Resource
from roles.client.bridge import base_url, bridge
from roles.client.browsers import browsers, policies
from roles.client.certificates import PI_CERTIFICATES, certificates
from roles.client.home import NOTES, at_home, unit_name
from roles.client.part import Person
from roles.client.pi import pi
from roles.client.settings import Seat
from roles.role import is_address, render
from roles.server import Entrance
from roles.upstream import models_behind

HOME = "/@HOME@"
"""In place of a home that nobody knows yet: install.sh writes the real one."""

INSTALLED = ".local/share/paddock/client"
BRIDGE = "127.0.0.1:8399"
PROGRAM = "@CADDY@"


@dataclass(frozen=True)
class Traveller(Person):
    """Somebody on a machine that Paddock does not manage: what is theirs lies in their home."""

    @property
    def directory(self) -> str:
        return f"{HOME}/{INSTALLED}"


def members(client: str, identity: Certificate, fleet: Fleet, knowledge: Knowledge, password: str, site: str | None) -> dict[str, bytes]:
    """The files of the archive, by their path in it, without the key stores that `password` opens.

    `site` is the one that the bridge and pi reach, of several.
    Raises PaddockError where no site lets the client in, or where of several none is named.
    """
    traveller = _traveller(client, identity, fleet, knowledge, site)
    return {
        "README.html": _page(traveller, fleet, password).encode(),
        "install.sh": _script(traveller).encode(),
        **{f"files/{name}": data for name, data in sorted(_installed(traveller, fleet, knowledge).items())},
        **{f"policies/{name}": data for name, data in _policies(traveller).items()},
    }


def _traveller(client: str, identity: Certificate, fleet: Fleet, knowledge: Knowledge, site: str | None) -> Traveller:
    entrances = tuple(fleet.entrances(client))
    names = sorted({each.name for each in entrances})
    if not names:
        raise PaddockError(f"no site of the fleet admits {client}: add it to the `clients` of a site")
    if site is None and len(names) > 1:
        raise PaddockError(f"{client} is admitted by {' and '.join(names)}: choose one with --site")
    if site is not None and site not in names:
        raise PaddockError(f"{site} does not admit {client}: {' and '.join(names)} {'does' if len(names) == 1 else 'do'}")
    return Traveller(
        host="",
        account=client,
        seat=Seat(client=client, site=site or names[0], browsers=("chromium", "firefox"), bridge=BRIDGE, pi=True),
        home=HOME,
        identity=identity,
        ca=knowledge.ca,
        entrances=entrances,
        fleet=fleet.name,
    )


def _installed(traveller: Traveller, fleet: Fleet, knowledge: Knowledge) -> Mapping[str, bytes]:
    """What install.sh puts into the home, by its path in the directory there: what the role client lands for an account, and no more."""
    with_flatpak = replace(traveller, seat=traveller.seat.model_copy(update={"browsers": (*traveller.seat.browsers, "brave-flatpak")}))
    parts = (certificates(traveller), browsers(traveller), bridge(traveller, fleet, knowledge), pi(traveller, fleet, knowledge))
    files = dict(_inside(traveller, (*(each for part in parts for each in part.resources), *at_home(traveller, parts))))
    flatpak = dict(_inside(traveller, browsers(with_flatpak).resources))
    keys = [f"{HOME}/{INSTALLED}/{name}" for name in files if name.startswith("bridge") and name.endswith(".env")]
    unit = render(
        "export/paddock-bridge.service.j2",
        client=traveller.account,
        site=traveller.seat.site,
        program=PROGRAM,
        directory=traveller.directory,
        keys=keys,
        unit=unit_name(traveller, "bridge").removesuffix(".service"),
    )
    return {**files, "browsers-flatpak.sh": flatpak["browsers.sh"], unit_name(traveller, "bridge"): unit.encode()}


def _inside(traveller: Traveller, resources: Iterable[Resource]) -> Iterator[tuple[str, bytes]]:
    inside = f"{traveller.directory}/"
    for each in resources:
        if isinstance(each, File) and each.path.startswith(inside):
            yield each.path.removeprefix(inside), each.data


def _policies(traveller: Traveller) -> Mapping[str, bytes]:
    """What ends the question which certificate to show, for who is root there: one file for Chromium and its like, one for Firefox."""
    return {each.path.rpartition("/")[2]: each.data for each in policies([traveller]) if isinstance(each, File)}


def _script(traveller: Traveller) -> str:
    return render(
        "export/install.sh.j2",
        client=traveller.account,
        installed=INSTALLED,
        notes=NOTES,
        placeholder=HOME,
        to_come=TO_BE_ISSUED,
        program=PROGRAM,
        unit=unit_name(traveller, "bridge"),
        certificates=PI_CERTIFICATES,
        bridge=base_url(traveller),
    )


def _page(traveller: Traveller, fleet: Fleet, password: str) -> str:
    sites = [_site(each, fleet) for each in {each.name: each for each in reversed(traveller.entrances)}.values()]
    chosen = next(each for each in sites if each["name"] == traveller.seat.site)
    return render(
        "export/README.html.j2",
        client=traveller.account,
        fleet=fleet.name,
        sites=sites,
        site=chosen,
        password=password,
        certificates=PI_CERTIFICATES,
        installed=INSTALLED,
        bridge=base_url(traveller),
    )


def _site(entrance: Entrance, fleet: Fleet) -> dict[str, object]:
    servers = fleet.behind(entrance.site.upstream)
    models = list(models_behind(entrance.site.upstream, servers))
    return {
        "name": entrance.name,
        "url": entrance.url,
        "address": entrance.address if is_address(entrance.address) else "",
        "models": models,
        "question": json.dumps({"model": models[0] if models else "MODEL", "messages": [{"role": "user", "content": "Hello!"}]}),
        "asks_for_a_key": any(server.api_key for server in servers),
        "own_ca": entrance.site.acme is None,
    }
