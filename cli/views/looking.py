"""What is told beside a comparison: whose a host is, where it is another state's, and what was not compared."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING

from resources import Service
from resources.lease import Lease

if TYPE_CHECKING:
    from control.deployment.work import Work

NAMED = 3
"""So many secrets are named of all that nobody here can open."""


def stranger(host: str, whose: str) -> str:
    return f"{host}: {whose}: `paddock up` refuses it without --take-over"


def lease(host: str, found: Lease | None) -> str:
    """The line that says who is changing a host, with its end; empty where nobody is."""
    words = found.words() if found else ""
    return f"{host}: {words}\n" if words else ""


def leases(works: Mapping[str, Work]) -> dict[str, Mapping[str, str | int]]:
    """For `--json`: host → the lease of the run that is changing it, or that has died."""
    found = {name: work.actual.lease for name, work in works.items()}
    return {name: each.as_data() for name, each in found.items() if each and each.words()}


def not_compared(unopened: Collection[str], works: Iterable[Work]) -> str:
    """The line that says what was not compared, because no identity here opens these secrets; empty where all was."""
    found = [each for work in works for each in work.unopened]
    if not found:
        return ""
    # Clients' keys come last: most of them lie on no host.
    ordered = sorted(unopened, key=lambda name: (name.startswith("certs/client/"), name.startswith("certs/"), name))
    services = sum(isinstance(each, Service) for each in found)
    names = ", ".join(ordered[:NAMED]) + (f" and {len(unopened) - NAMED} more" if len(unopened) > NAMED else "")
    files = _many(len(found) - services, "file")
    started = f", nor what {_many(services, 'service')} {'was' if services == 1 else 'were'} started with" if services else ""
    return (
        f"no identity here opens {names}: not compared: the content of {files}{started}. PADDOCK_AGE_IDENTITY names an identity that does"
    )


def ids(works: Mapping[str, Work]) -> dict[str, list[str]]:
    """For `--json`: host → what could not be compared."""
    return {name: [each.id for each in work.unopened] for name, work in works.items() if work.unopened}


def _many(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
