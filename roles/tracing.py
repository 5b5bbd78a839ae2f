"""Where requests are traced to: what a role with such a server says of itself to the roles that send."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from resources import UNOPENED


@dataclass(frozen=True)
class Tracing:
    """`url` is where its callers reach it, empty where nothing but the address that it has, `listen`, says so. The secret `key_name` is the
    secret key of its first project."""

    url: str
    listen: str
    key_name: str


def public_key(secret_key: str) -> str:
    """The public key that stands beside it, so that another secret key comes with a public key of its own. Out of 256 random bits, of which
    it tells nothing; UNOPENED of what nobody here can open."""
    if secret_key == UNOPENED:
        return UNOPENED
    return f"pk-lf-{hashlib.sha256(secret_key.encode()).hexdigest()[:32]}"
