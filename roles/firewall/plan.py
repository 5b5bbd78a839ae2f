"""One nftables table, loaded by one unit, before the network is there and before anything listens. What it guards needs it to start."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_address, ip_network

from inventory.errors import PaddockError
from inventory.fleet import Fleet, Host
from resources import Directory, File, Package, Port, Resource, Service, Stack
from roles.firewall.settings import FirewallSettings
from roles.references import Finding
from roles.role import is_address, render
from roles.wording import did_you_mean, quoted

DIRECTORY = "/etc/paddock/firewall"
RULES = f"{DIRECTORY}/paddock.nft"
UNIT = "paddock-firewall.service"
GUARD = f"{DIRECTORY}/guard"
"""The script that what is guarded runs before it starts."""

VALIDATE = f"nft --check --file {RULES}"
LISTED = "nft list table inet paddock"
IN_FORCE = f'[ "$({LISTED})" = "$(unshare --net sh -c "nft --file {RULES} && {LISTED}")" ]'
"""Whether the kernel has the table as the file says: both are compared as nft lists them, the file's in an empty network namespace."""

SSH = 22

KEYS = ("roles", "firewall")

Network = IPv4Network | IPv6Network


@dataclass(frozen=True)
class Guarded:
    """A port that only `sources` may reach, and this host itself. One that a stack has `published` is guarded before Docker's own rules,
    which send what comes for it on to a container."""

    port: Port
    sources: tuple[Network, ...]
    published: bool = False

    @property
    def matches(self) -> Iterator[str]:
        """What a caller's packets are told by, a rule each: `ip saddr { 192.0.2.2, 192.0.2.64/26 }`"""
        for version, word in ((4, "ip"), (6, "ip6")):
            found = [each for each in self.sources if each.version == version]
            # nft takes no overlapping networks in one set.
            networks = tuple(collapse_addresses(found))  # type: ignore[type-var]
            if any(each.prefixlen == 0 for each in networks):
                yield f"meta nfproto ipv{version}"
            elif networks:
                yield f"{word} saddr {{ {', '.join(map(_short, networks))} }}"


def plan_beside(host: Host, settings: FirewallSettings, fleet: Fleet, others: Sequence[Resource]) -> Iterator[Resource]:
    """`others` is what the host's other roles declare."""
    ports = tuple(guarded(host, settings, fleet, others))
    dropins = tuple(_dropins(ports, others))
    rules = File(RULES, render("firewall/paddock.nft.j2", ports=ports))
    unit = File(f"/etc/systemd/system/{UNIT}", render("firewall/paddock-firewall.service.j2", rules=RULES))
    yield Package("nftables")
    yield Directory("/etc/paddock")
    yield Directory(DIRECTORY, exclusive=True)
    yield rules
    yield File(GUARD, render("firewall/guard.j2", unit=UNIT), mode=0o755)
    yield unit
    for dropin in dropins:
        yield Directory(dropin.path.rpartition("/")[0])
        yield dropin
    # With them, so that systemd reads units anew in the run that brings one. A reload interrupts nobody.
    yield Service(UNIT, restarts=(unit,), reloads=(rules, *dropins), validate=(VALIDATE,), in_force=IN_FORCE)


def guarded(host: Host, settings: FirewallSettings, fleet: Fleet, others: Sequence[Resource]) -> Iterator[Guarded]:
    """The ports that the host's other roles declare and not everybody may reach. Raises PaddockError where no such rule can be made."""
    for fault in faults_beside(host, settings, fleet, others):
        raise PaddockError(f"hosts.{host.name}.{'.'.join(fault.keys)}: {fault.words}")
    published = {port.id for each in others if isinstance(each, Stack) for port in each.ports}
    for port in _restricted(_declared(others)):
        callers = [ip_network(each) for name in port.reachable_from or () for each in _calls_from(name, settings, fleet)]
        allowed = [ip_network(each) for each in settings.allow.get(str(port.number), ())]
        yield Guarded(port, (*callers, *allowed), port.id in published)


def faults_beside(
    host: Host, settings: FirewallSettings, fleet: Fleet, others: Sequence[Resource], unknown: Collection[int] = ()
) -> Iterator[Finding]:
    """Why no such rules can be made, each at its key. Of ports that are `unknown` nobody can say yet who may reach them."""
    for name in settings.addresses:
        if name not in fleet.hosts:
            words = f"no host is called {quoted(name)}{did_you_mean(name, fleet.hosts)}: addresses takes hosts of the fleet"
            yield Finding((*KEYS, "addresses", name), words)
    declared = tuple({port.id: port for port in _declared(others)}.values())
    yield from _unneeded(host, settings, declared, unknown)
    for port in _restricted(declared):
        if port.number in (SSH, host.port):
            words = f"{port.unit} listens on SSH's port, {port.number}, which the firewall never restricts: give it another"
            yield Finding(KEYS, words)
        for name in port.reachable_from or ():
            if words := _unknown_caller(name, port, host, settings, fleet):
                yield Finding(KEYS, words)


def _dropins(ports: Sequence[Guarded], others: Sequence[Resource]) -> Iterator[File]:
    """What has each service that listens on a guarded port ask for the rules first. It is none of what the service runs: no rule restarts
    it."""
    known = {each.port.id for each in ports}
    for service in others:
        if isinstance(service, Service) and (names := [f"{each.number}/{each.protocol}" for each in service.ports if each.id in known]):
            text = render("firewall/30-firewall.conf.j2", section=service.section, guard=GUARD, ports=names, unit=UNIT, user=service.user)
            yield File(f"{service.dropins}/30-firewall.conf", text)


def _declared(others: Sequence[Resource]) -> Iterator[Port]:
    for each in others:
        if isinstance(each, Service | Stack):
            yield from each.ports
        elif isinstance(each, Port):
            yield each


def _restricted(declared: Iterable[Port]) -> Iterator[Port]:
    """The ports that not everybody may reach."""
    for port in {each.id: each for each in declared}.values():
        if port.reachable_from is not None and not _is_loopback(port):
            yield port


def _unneeded(host: Host, settings: FirewallSettings, declared: tuple[Port, ...], unknown: Collection[int]) -> Iterator[Finding]:
    """An exception is of a port that is guarded; of any other it would say what is not so."""
    for number in settings.allow:
        at = (*KEYS, "allow", number)
        ports = [port for port in declared if str(port.number) == number]
        if int(number) in (SSH, host.port):
            yield Finding(at, f"{number} is SSH's port, which the firewall never restricts: leave it out")
        elif int(number) in unknown:
            continue
        elif not ports:
            yield Finding(at, f"nothing in the inventory listens on port {number} of {host.name}: leave it out")
        elif all(port.reachable_from is None for port in ports):
            yield Finding(at, f"port {number}, {ports[0].unit}, is open to everybody: leave it out")
        elif asks := [port for port in ports if port.by_certificate]:
            words = f"{asks[0].unit} lets in hosts of the fleet by their certificates, which nobody at an address has"
            yield Finding(at, f"{words}: leave {number} out, or set encrypted: false for what listens there")
        elif all(map(_is_loopback, ports)):
            yield Finding(at, f"{ports[0].unit} listens on port {number} of loopback only: set for example 0.0.0.0")


def _calls_from(caller: str, settings: FirewallSettings, fleet: Fleet) -> tuple[str, ...]:
    """The addresses of who may reach a port: an address or a network itself, or those of a host of the fleet."""
    if caller not in fleet.hosts:
        return (caller,)
    return tuple(filter(is_address, (fleet.hosts[caller].address, *settings.addresses.get(caller, ()))))


def _unknown_caller(caller: str, port: Port, host: Host, settings: FirewallSettings, fleet: Fleet) -> str:
    """Why no rule can let a host of the fleet in to a port that it calls; empty where one can."""
    known, families = _calls_from(caller, settings, fleet), _families(port, host)
    if caller not in fleet.hosts or any(ip_address(each).version in families for each in known):
        return ""
    over = " or ".join(f"IPv{each}" for each in families)
    what = f"only {', '.join(known)} is known of it" if known else f"its address, {fleet.hosts[caller].address}, is a name"
    example = "192.0.2.2" if 4 in families else '"2001:db8::2"'
    return (
        f"{caller} calls port {port.number} over {over}, and {what}: add the address that it calls from, such as"
        f" `addresses: {{{caller}: [{example}]}}`"
    )


def _families(port: Port, host: Host) -> tuple[int, ...]:
    """What the port is called over. What listens everywhere is called at the host's own address."""
    at = host.address if {"*", "::"} & set(port.addresses) else port.addresses[0]
    return (ip_address(at).version,) if is_address(at) else (4, 6)


def _is_loopback(port: Port) -> bool:
    return all(is_address(each) and ip_address(each).is_loopback for each in port.addresses)


def _short(network: Network) -> str:
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)
