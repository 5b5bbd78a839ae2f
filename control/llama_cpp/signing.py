"""Who vouches for a release: the key of a fleet (Ed25519) signs what is recorded of it, the digest of its list of files among that.

    release.key.age        in the fleet's state, sealed; made when the first release is kept

A record is what JSON carries. Signed, it has two keys more: `signer`, the public key, and `signature`, over all the rest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from control.state.fleet import FleetState
from control.state.secrets import Vault
from inventory.errors import PaddockError
from resources import UNOPENED

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

NAME = "release.key"
SIGNER, SIGNATURE = "signer", "signature"
PURPOSE = b"a release of llama.cpp, as paddock records it\n"

Record = Mapping[str, Any]


class FleetKey:
    """The key that one fleet signs with."""

    def __init__(self, state: FleetState) -> None:
        self._state = state
        self._public: str | None = ""

    def make(self) -> None:
        """Where there is none yet. Raises PaddockError where it cannot be opened."""
        if not self._opened(Vault(self._state)):
            self._made()

    def signed(self, record: Record) -> dict[str, Any]:
        """The record with this fleet's signature. Makes the key where there is none yet. Raises PaddockError where it cannot be opened."""
        key = self._opened(Vault(self._state)) or self._made()
        told = {**record, SIGNER: _public(key)}
        return {**told, SIGNATURE: key.sign(_message(told)).hex()}

    @property
    def public(self) -> str | None:
        """The public key, 64 hex digits; empty where there is none yet, None where nobody here can open it. Makes nothing."""
        vault = Vault(self._state, looks=True)
        if not self._public and vault.has(NAME):
            key = self._opened(vault)
            self._public = _public(key) if key else None
        return self._public

    def require(self) -> None:
        """Raises PaddockError where there is a key, and nobody here can open it."""
        self._opened(Vault(self._state))

    def vouches_for(self, record: Record) -> bool:
        """Whether this fleet has signed it just so. One who cannot open the key, and so can land nothing, takes any whole signature."""
        signer = signer_of(record)
        return bool(signer) and self.public in (signer, None)

    def _opened(self, vault: Vault) -> Ed25519PrivateKey | None:
        if not vault.has(NAME):
            return None
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        data = vault.unseal(NAME)
        if data == UNOPENED.encode():
            return None
        if len(data) != 32:
            raise PaddockError(f"{vault.path(NAME)}: holds no key: put it back from a backup or from git")
        return Ed25519PrivateKey.from_private_bytes(data)

    def _made(self) -> Ed25519PrivateKey:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        key = Ed25519PrivateKey.generate()
        Vault(self._state).seal(NAME, key.private_bytes_raw())
        return key


def signer_of(record: Record) -> str | None:
    """Whose signature a record has: the public key. Empty where it has none, None where it has one that does not fit."""
    signer, signature = record.get(SIGNER), record.get(SIGNATURE)
    if signer is None and signature is None:
        return ""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(str(signer))).verify(bytes.fromhex(str(signature)), _message(record))
    except (InvalidSignature, ValueError):
        return None
    return str(signer)


def _message(record: Record) -> bytes:
    """What is signed: the record in one spelling, without its signature."""
    told = {name: value for name, value in record.items() if name != SIGNATURE}
    return PURPOSE + json.dumps(told, sort_keys=True, separators=(",", ":")).encode()


def _public(key: Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes_raw().hex()
