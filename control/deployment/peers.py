"""Models that hosts of a fleet take from each other, for the time of a run.

Who has a file that others lack, and carries `models: {peers: true}`, answers for it over HTTP at its address in the inventory, to who
knows a token of this run. What comes is checked like everything that comes; where nothing does, the file is fetched from its source.
"""

from __future__ import annotations

import hashlib
import ipaddress
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from control.deployment.work import Work
from control.models.origins import Request, asked_of
from inventory.fleet import Fleet, Host
from resources import ModelFile

if TYPE_CHECKING:
    from control.ssh.run import Run

OFFER = Path(__file__).parent / "offer.sh"
WITHDRAW = "systemctl stop paddock-offer 2>/dev/null || true; rm -rf /run/paddock/offer"

PORTS = range(20_000, 30_000)
"""Of which a run takes one: below those that Linux gives to who asks for any."""

Gifts = Mapping[str, Mapping[str, str]]
"""Host → sha256 → path, of the files that it gives."""


@contextmanager
def offered(run: Run, busy: Mapping[str, Work], all_work: Mapping[str, Work], fleet: Fleet) -> Iterator[dict[str, Work]]:
    """Inside the block hosts answer for what others lack, and `busy` is what there is to do, with those that are to be asked first."""
    token, port = secrets.token_urlsafe(24), secrets.choice(PORTS)
    giving = gifts({name: work for name, work in all_work.items() if name not in run.failures}, fleet)
    scripts = {giver: _offer(fleet.hosts[giver], port, token, files) for giver, files in giving.items()}
    answering = run.said(scripts) if scripts else {}
    given = {giver: files for giver, files in giving.items() if giver in answering}
    try:
        yield {taker: replace(work, asks=_asks(taker, work, given, fleet, port, token)) for taker, work in busy.items()}
    finally:
        if answering:
            run.said(dict.fromkeys(answering, WITHDRAW))


def _asks(taker: str, work: Work, given: Gifts, fleet: Fleet, port: int, token: str) -> dict[str, tuple[Request, ...]]:
    """Other hosts first, and then where a model comes from."""
    asks = {}
    for each in work.lacking:
        if origin := work.asks.get(each.id):
            givers = [giver for giver, files in given.items() if giver != taker and each.sha256 in files]
            near = (Request(f"http://{_reached(fleet.hosts[giver])}:{port}/{each.sha256}", token, near=True) for giver in givers)
            asks[each.id] = (*near, *origin)
    return asks


def gifts(work: Mapping[str, Work], fleet: Fleet) -> Gifts:
    """What hosts have that others lack, where they may give it."""
    found = {}
    for giver, each in work.items():
        may_give = any(settings.gives_models() for settings in fleet.hosts[giver].carried.values())
        wanted = {sha256 for taker, other in work.items() if taker != giver for sha256 in lacking(other)}
        if may_give and (files := {sha: path for sha, path in _having(each).items() if sha in wanted}):
            found[giver] = files
    return found


def lacking(work: Work) -> set[str]:
    """The digests of the files that a host would fetch."""
    return {each.sha256 for each in work.lacking if asked_of(each)}


def _having(work: Work) -> dict[str, str]:
    models = [each for each in work.resources if isinstance(each, ModelFile) and each.origin != "tiny"]
    return {each.sha256: each.path for each in models if work.actual.resources.get(each.id, {}).get("sha256") == each.sha256}


def _offer(host: Host, port: int, token: str, files: Mapping[str, str]) -> str:
    lines = " ".join(quote(f"{sha256} {path}") for sha256, path in files.items())
    listen = f"{_reached(host)}:{port}" if _is_ip(host.address) else str(port)  # a name need not lead to an address that is the host's own
    proof = hashlib.sha256(token.encode()).hexdigest()
    return f"listen={quote(listen)} proof={proof}\nfiles() {{ printf '%s\\n' {lines}; }}\n{OFFER.read_text(encoding='utf-8')}"


def _reached(host: Host) -> str:
    return f"[{host.address}]" if ":" in host.address else host.address


def _is_ip(address: str) -> bool:
    try:
        return bool(ipaddress.ip_address(address))
    except ValueError:
        return False
