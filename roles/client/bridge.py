"""Caddy on loopback, run as the account, that adds the client certificate to what its programs ask."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

from inventory.errors import PaddockError
from inventory.fleet import Fleet
from inventory.knowledge import Knowledge
from resources import Directory, File, Package, Port, Resource, Service, User
from roles.client.certificates import certificates
from roles.client.home import unit_name
from roles.client.part import Person, SeatPart
from roles.client.settings import bridge_key_name
from roles.role import address_of, port_of, render
from roles.server import Entrance

OWN_SERVICE = "/etc/systemd/system/caddy.service.d"

REFUSALS = (
    ("elsewhere", 403, "forbidden_host", "This answers to {hosts} and to no other name."),
    ("page", 403, "forbidden_origin", "This does not answer web pages."),
    ("preflight", 403, "forbidden_method", "This does not answer web pages."),
    ("stranger", 401, "invalid_api_key", "This needs {account}'s key, as OPENAI_API_KEY: it stands in {keys}."),
)
"""In the order in which they are made: what is refused, with which status, and an error as OpenAI's API has it."""


def bridge(person: Person, fleet: Fleet, knowledge: Knowledge) -> SeatPart:
    """The configuration, the keys and the unit. The account's programs find the address and the key in `~/.config/paddock/bridge.env`."""
    site, listen = entrance(person), _listen(person)
    keys, root = tuple(_keys(person, site, listen, fleet, knowledge)), _root(person, site, knowledge)
    trust = root.path if root else "" if site.site.acme else f"{person.certificates}/root-ca.pem"
    configuration = _configuration(person, site, listen, keys, trust)
    unit = File(f"/etc/systemd/system/{unit_name(person, 'bridge')}", _unit(person, site, configuration, keys))
    # Where the host is a reverse proxy too, that role says which Caddy it is, and its service runs.
    this = fleet.hosts.get(person.host)  # none is a machine that Paddock does not manage
    package = () if this and "caddy" in this.carried else _package()
    files = (*keys, *((root,) if root else ()), configuration, unit)
    read = [each for each in (*package, *certificates(person).resources, *files) if isinstance(each, File)]
    port = Port(port_of(listen), (str(ip_address(address_of(listen))),), unit_name(person, "bridge"))
    links = {f".config/paddock/{name}": f"{person.directory}/{name}" for name in ("bridge.env", "bridge.key")}
    return SeatPart((*package, *files, Service(unit_name(person, "bridge"), restarts=tuple(read), ports=(port,))), links)


def entrance(person: Person) -> Entrance:
    """The site that the account's programs are led to: the only one that lets the client in, or else the inventory says which.

    Raises PaddockError where there is none, as in a lab that leaves a public authority's sites out.
    """
    found = next((each for each in person.entrances if person.seat.site in (None, each.name)), None)
    if found is None:
        where = f"hosts.{person.host}.roles.client.accounts.{person.account}"
        raise PaddockError(f"{where}: no site{f' {person.seat.site}' if person.seat.site else ''} lets {person.seat.client} in")
    return found


def base_url(person: Person) -> str:
    """Where the account's programs reach the bridge: `http://127.0.0.1:8399`."""
    return f"http://{_listen(person)}"


def _listen(person: Person) -> str:
    """As a caller writes it, `[::1]:8399`."""
    address, port = ip_address(address_of(person.seat.bridge or "")), port_of(person.seat.bridge or "")
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"


def _package() -> tuple[Resource, ...]:
    """Caddy, without the service that it brings: that answers on port 80 with a page of its own."""
    return (
        Package("caddy"),
        User("caddy", "/var/lib/caddy", groups=("www-data",)),  # as the package makes it; it would leave it behind
        Directory(OWN_SERVICE),
        File(f"{OWN_SERVICE}/30-bridge.conf", render("client/bridge-only.conf.j2")),
    )


def _keys(person: Person, site: Entrance, listen: str, fleet: Fleet, knowledge: Knowledge) -> Iterator[File]:
    """What the account's programs show to the bridge; then, where llama-server asks for one, what the bridge shows to that."""
    own = knowledge.key(bridge_key_name(person.host, person.account))
    lines = f"OPENAI_BASE_URL={base_url(person)}/v1\nOPENAI_API_KEY={own}\n"
    for name, content in (("bridge.env", lines), ("bridge.key", f"{own}\n")):
        yield File(f"{person.directory}/{name}", content, group=person.account, mode=0o640, secret=True)
    for server in fleet.behind(site.site.upstream)[:1]:
        if server.api_key:
            text = f"LLAMA_API_KEY={knowledge.key(server.key_name)}\n"
            yield File(f"{person.directory}/bridge-upstream.env", text, mode=0o600, secret=True)


def _root(person: Person, site: Entrance, knowledge: Knowledge) -> File | None:
    """Whom to trust for a site whose certificate is of a private authority. One of a public authority is trusted as the host trusts any."""
    pem = knowledge.roots.get(site.site.acme.root, "") if site.site.acme and site.site.acme.root else ""
    return File(f"{person.directory}/bridge-root.pem", pem, group=person.account, mode=0o640) if pem else None


def _configuration(person: Person, site: Entrance, listen: str, keys: tuple[File, ...], trust: str) -> File:
    hosts, unit = tuple(dict.fromkeys((listen, f"localhost:{port_of(listen)}"))), unit_name(person, "bridge")
    said = {"hosts": " or ".join(hosts), "account": person.account, "keys": keys[0].path}
    text = render(
        "client/bridge.caddy.j2",
        account=person.account,
        url=site.url,
        keys=keys[0].path,
        address=str(ip_address(address_of(listen))),
        port=port_of(listen),
        hosts=hosts,
        refusals=[(name, status, code, words.format(**said)) for name, status, code, words in REFUSALS],
        upstream=f"[{site.address}]:{site.port}" if ":" in site.address else f"{site.address}:{site.port}",
        upstream_key=len(keys) > 2,
        site=site.name,
        host_header=site.url.removeprefix("https://"),
        certificates=person.certificates,
        trust=trust,
        unreachable=f"{site.name} does not answer, or does not let {person.seat.client} in: the log of {unit} says which.",
    )
    return File(f"{person.directory}/bridge.caddy", text, group=person.account, mode=0o640)


def _unit(person: Person, site: Entrance, configuration: File, keys: tuple[File, ...]) -> str:
    return render(
        "client/paddock-bridge.service.j2",
        account=person.account,
        site=site.name,
        configuration=configuration.path,
        keys=[each.path for each in keys if each.path.endswith(".env")],
    )
