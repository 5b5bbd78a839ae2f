"""What a client takes to a machine that Paddock does not manage: one archive with its certificate, an install script and a page to read."""

from __future__ import annotations

import io
import json
import tarfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from control.pkcs12 import new_password, pkcs12_of
from inventory.context import TO_BE_ISSUED, Certificate, Context
from inventory.errors import PaddockError
from inventory.schema import Entrance, Fleet
from roles.client.bridge import base_url, bridge
from roles.client.browsers import browsers, policies
from roles.client.certificates import PI_CERTIFICATES, certificates
from roles.client.home import NOTES, at_home, unit_name
from roles.client.part import Person
from roles.client.pi import pi
from roles.client.settings import Seat
from roles.resources import File, Resource
from roles.role import is_address, render

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


def client_archive(client: str, identity: Certificate, fleet: Fleet, context: Context, site: str | None = None) -> bytes:
    """A .tar.gz, to be kept at 0600: the key of the client is in it. `site` is the one that the bridge and pi reach, of several.

    Raises PaddockError where no site lets the client in, or where of several none is named.
    """
    traveller = _traveller(client, identity, fleet, context, site)
    password = new_password()
    sealed = {
        name: pkcs12_of(client, identity.chain, identity.key, context.ca, password, legacy=name == "client-legacy.p12")
        for name in ("client.p12", "client-legacy.p12")
    }
    installed = _installed(traveller, fleet, context)
    members: dict[str, bytes] = {
        "README.html": _page(traveller, fleet, password).encode(),
        "install.sh": _script(traveller).encode(),
        **sealed,
        **{f"files/{name}": data for name, data in sorted(installed.items())},
        **{f"policies/{name}": data for name, data in _policies(traveller).items()},
    }
    return _packed(f"paddock-{client}", members)


def _traveller(client: str, identity: Certificate, fleet: Fleet, context: Context, site: str | None) -> Traveller:
    entrances = tuple(fleet.entrances(client))
    names = sorted({each.name for each in entrances})
    if not names:
        raise PaddockError(f"no site of the fleet lets {client} in: add it to the `clients` of one")
    if site is None and len(names) > 1:
        raise PaddockError(f"{client} is let in by {' and '.join(names)}: say with --site which one its programs are to reach")
    if site is not None and site not in names:
        raise PaddockError(f"{site} does not let {client} in: {' and '.join(names)} {'does' if len(names) == 1 else 'do'}")
    return Traveller(
        host="",
        account=client,
        seat=Seat(client=client, site=site or names[0], browsers=("chromium", "firefox"), bridge=BRIDGE, pi=True),
        home=HOME,
        identity=identity,
        ca=context.ca,
        entrances=entrances,
        fleet=fleet.name,
    )


def _installed(traveller: Traveller, fleet: Fleet, context: Context) -> Mapping[str, bytes]:
    """What install.sh puts into the home, by its path in the directory there: what the role client lands for an account, and no more."""
    with_flatpak = replace(traveller, seat=traveller.seat.model_copy(update={"browsers": (*traveller.seat.browsers, "brave-flatpak")}))
    parts = (certificates(traveller), browsers(traveller), bridge(traveller, fleet, context), pi(traveller, fleet, context))
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
        account=traveller.account,
        home='"$HOME"',
        directory=f'"$HOME"/{INSTALLED}',
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
    models = list(dict.fromkeys(model for server in servers for model in server.models))
    return {
        "name": entrance.name,
        "url": entrance.url,
        "address": entrance.address if is_address(entrance.address) else "",
        "models": models,
        "question": json.dumps({"model": models[0] if models else "MODEL", "messages": [{"role": "user", "content": "Hello!"}]}),
        "asks_for_a_key": any(server.api_key for server in servers),
        "own_ca": entrance.site.acme is None,
    }


def _packed(top: str, members: Mapping[str, bytes]) -> bytes:
    """Whoever unpacks it is the only one to read what comes out."""
    packed, now = io.BytesIO(), int(time.time())
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name in sorted({f"{top}/{name}".rpartition("/")[0] for name in members} | {top}):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode, folder.mtime = tarfile.DIRTYPE, 0o700, now
            tar.addfile(folder)
        for name, data in members.items():
            member = tarfile.TarInfo(f"{top}/{name}")
            member.size, member.mtime = len(data), now
            member.mode = 0o700 if name == "install.sh" else 0o600
            tar.addfile(member, io.BytesIO(data))
    return packed.getvalue()
