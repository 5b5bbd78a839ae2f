"""Whose key a host shows: the inventory's, or one that a person has looked at once."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence

from control.ssh.failures import NoWay, unreachable
from control.ssh.links import Links
from control.ssh.ways import Way
from inventory.errors import PaddockError
from inventory.fleet import Host
from resources import lines_of

SCANS_AT_ONCE = 16


def pin_all(hosts: Iterable[Host], links: Links, ask: Callable[[str], bool]) -> dict[str, str]:
    """Pins what the inventory says, and what `ask` lets in of machines met for the first time: hosts, and the bastions on the ways to them.

    Gives host → why not, of the others.
    """
    failures, ways = {}, dict[str, Way]()
    for host in hosts:
        try:
            ways[host.name] = links.ways.to(host.name)
        except PaddockError as error:
            failures[host.name] = str(error)
    refused: dict[Way, str] = {}
    for rank in _by_rank(ways.values()):  # whoever is met behind a bastion is met through it
        open_ways = [way for way in rank if not any(each in refused for each in way.bastions)]
        refused |= _pin(open_ways, links, ask)
    for name, way in ways.items():
        if words := refused.get(way):
            failures[name] = words
        elif closed := next((each for each in way.bastions if each in refused), None):
            failures[name] = f"the way there ends at {closed.where}: {refused[closed]}"
    return failures


def _by_rank(ways: Iterable[Way]) -> Iterator[tuple[Way, ...]]:
    """All machines to be passed and reached, those without a bastion before them first."""
    every = dict.fromkeys(each for way in ways for each in (*way.bastions, way))
    for rank in range(max((len(way.bastions) for way in every), default=-1) + 1):
        yield tuple(way for way in every if len(way.bastions) == rank)


def _pin(ways: Iterable[Way], links: Links, ask: Callable[[str], bool]) -> dict[Way, str]:
    state, failures, met = links.state, dict[Way, str](), list[Way]()
    for way in ways:
        pinned = state.pinned(way.name)
        if wanted := links.ways.key_in_inventory(way) or pinned:
            if pinned != wanted or not _at(way, links):  # a machine that has moved shows the same key elsewhere
                state.pin(way.name, way.known_as, wanted)
        else:
            met.append(way)
    for way, key in _shown(met, links):
        if isinstance(key, NoWay):
            failures[way] = unreachable(way, key, state.known_hosts)
        elif ask(_question(way, key)):
            state.pin(way.name, way.known_as, key)
        else:
            set_it = f", or set `host_key: {key}` in the inventory" if way.in_fleet else ""
            failures[way] = f"its host key was not accepted ({fingerprint(key)}): if it is the right one, let `paddock up` ask{set_it}"
    return failures


def _question(way: Way, key: str) -> str:
    shows = f"shows the key {key.split()[0]} {fingerprint(key)}. Is that the {'host' if way.in_fleet else 'bastion'}'s?"
    return f"{way.name}: {way.address} {shows}" if way.in_fleet else f"{way.where}, a bastion, {shows}"


def _shown(ways: Sequence[Way], links: Links) -> Iterator[tuple[Way, str | NoWay]]:
    """Each machine with its key, or why it shows none; all are asked at a time, since one that does not answer takes its time."""

    def key_or_error(way: Way) -> str | NoWay:
        try:
            return links.shown(way)
        except NoWay as error:
            return error

    if ways:
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(SCANS_AT_ONCE) as pool:
            keys = list(pool.map(key_or_error, ways))
        yield from zip(ways, keys, strict=True)  # who answers a question slowly keeps no host waiting that is asked


def _at(way: Way, links: Links) -> bool:
    """Whether the pin is for the machine's present address."""
    try:
        lines = lines_of(links.state.known_hosts.read_text())
    except UnicodeDecodeError:  # ssh would read none of it: to pin the machine anew makes it text again
        return False
    return any(line.split()[:1] == [way.known_as] and line.endswith(f" {way.name}") for line in lines)


def fingerprint(key: str) -> str:
    """As `ssh-keygen -l` prints it: `SHA256:` and the digest in base64 without padding."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(base64.b64decode(key.split()[1])).digest()).decode().rstrip("=")
