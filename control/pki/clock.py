"""Whether this machine's clock can be right, by what it has signed already.

A certificate that was signed before its CA began, or long ago, is over when hosts get it, and it takes the place of a good one.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from control.pki.authorities import Issuer
from control.pki.leaves import Record
from inventory.errors import PaddockError

TIME = "%Y-%m-%d %H:%M UTC"


def require_clock(now: datetime, signing: Issuer | None, records: Iterable[Record]) -> None:
    """Raises PaddockError where `now` is before the beginning of the CA that signs, or of the newest certificate that was made here."""
    leaves = [leaf for record in records for leaf in record.leaves if leaf.key]  # another machine has made those without
    newest = max(leaves, key=lambda leaf: leaf.not_before, default=None)
    if newest and now < newest.not_before:
        raise PaddockError(
            f"this machine's clock says {now:{TIME}}, and the newest certificate, of {newest.kind} {newest.name}, begins on "
            f"{newest.not_before:{TIME}}: nothing was signed. Set the clock right; if it is right, that certificate was made under a wrong "
            f"clock, and `paddock certs renew --clock-is-right` replaces what begins in the future"
        )
    if signing and now < (begin := _begin(signing)):
        raise PaddockError(
            f"this machine's clock says {now:{TIME}}, and the CA begins on {begin:{TIME}}: nothing was signed. Set the clock right; "
            "if it is right, the CA was made under a wrong clock, and `paddock certs roll-over begin --clock-is-right` makes another"
        )


def has_begun(issuer: Issuer, now: datetime) -> bool:
    return _begin(issuer) <= now


def _begin(issuer: Issuer) -> datetime:
    from control.pki import certificates

    return certificates.life_of(issuer.pem)[0]
