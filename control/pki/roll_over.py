"""A fleet changes to another CA, in three steps, each of which takes effect with one write.

After `begin` the old CA signs and both are trusted; after `switch` the new one signs; after `finish` the old one is trusted no more.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from control.pki.authorities import Issuer
from control.pki.authority import Authority
from control.pki.clock import has_begun
from control.pki.leaves import Leaf
from inventory.errors import PaddockError
from inventory.fleet import Fleet


def require_beginning(authority: Authority, fleet: Fleet, now: datetime) -> None:
    """Raises PaddockError where a change is under way already, where there is no CA yet, or where the clock is wrong."""
    cas = authority.cas
    standing = cas.standing()
    if standing.signing is None:
        raise PaddockError(f"fleet {fleet.name} has no CA of its own yet: `paddock up` makes one")
    if standing.next and has_begun(cas.issuer(standing.next), now):
        raise PaddockError(f"a change to CA {standing.next} is under way already: `paddock certs roll-over switch` comes next")
    authority.require_clock(now)


def begin(authority: Authority, fleet: Fleet, now: datetime) -> Issuer:
    """Make the next CA, which is trusted from now on. One that was to be the next, and begins in the future, is dropped: it was made
    under a wrong clock, and has signed nothing. Raises PaddockError as `require_beginning` does.
    """
    require_beginning(authority, fleet, now)
    cas = authority.cas
    cas.take_over()
    standing, made = cas.standing(), cas.make(fleet, now)
    trusted = (each for each in standing.trusted if each != standing.next)
    cas.point(replace(standing, trusted=(*trusted, made.id), next=made.id))
    return made


def switch(authority: Authority, now: datetime) -> Issuer:
    """Have the next CA sign. Raises PaddockError where `begin` has not been, or where the CA has not begun."""
    cas = authority.cas
    standing = cas.standing()
    if not standing.next:
        raise PaddockError("there is no next CA: `paddock certs roll-over begin` makes one")
    issuer = cas.issuer(standing.next)
    cas.key(issuer)  # that it can sign
    if not has_begun(issuer, now):
        raise PaddockError(
            f"CA {issuer.id} begins in the future: set this machine's clock right; if it is right, `paddock certs roll-over begin` makes "
            "another CA"
        )
    cas.point(replace(standing, signing=issuer.id, next=None))
    return issuer


@dataclass(frozen=True)
class Leaving:
    """The CAs that `finish` will no longer trust, and the certificates that they made and that are kept beside newer ones, also those whose
    time is over: the clock may be wrong.
    """

    cas: tuple[Issuer, ...]
    earlier: tuple[Leaf, ...]


def leaving(authority: Authority, *, force: bool = False) -> Leaving:
    """Raises PaddockError where nothing is to finish, where `switch` has not been, and without `force` while a certificate in use is
    another CA's than the one that signs.
    """
    standing = authority.cas.standing()
    if standing.next:
        raise PaddockError("the old CA still signs: `paddock certs roll-over switch` comes first, and then `paddock up`")
    cas = tuple(issuer for issuer in authority.cas.trusted() if issuer.id != standing.signing)
    if not cas:
        raise PaddockError("only one CA is trusted: there is nothing to finish")
    if standing.signing is None:
        raise PaddockError("no CA of the fleet's own signs yet: `paddock up` makes one")
    theirs = {issuer.digest for issuer in cas}
    records = [record for _, record in authority.records()]
    current = [f"{leaf.kind} {leaf.name}" for record in records if (leaf := record.current) and leaf.ca in theirs]
    if current and not force:
        who = ", ".join(current)
        raise PaddockError(f"still in use, and signed by a CA that would no longer be trusted: {who}: `paddock up` issues new ones")
    return Leaving(cas, tuple(leaf for record in records for leaf in record.earlier if leaf.ca in theirs))


def finish(authority: Authority, *, force: bool = False) -> Leaving:
    """Trust no CA but the one that signs. Raises PaddockError as `leaving` does."""
    gone = leaving(authority, force=force)
    standing = authority.cas.standing()
    assert standing.signing is not None
    authority.cas.point(replace(standing, trusted=(standing.signing,)))
    return gone
