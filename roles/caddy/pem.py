"""Certificates as text, looked at as far as needs no X.509: whether they are whole, and which they are.

A list of clients that Caddy cannot read, and a CA that it cannot, are no reason for it to let nobody in; so neither gets to a host.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from functools import cache

BLOCK = re.compile(r"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----")
DASHES = re.compile(r"-----(?:BEGIN|END) ")

SEQUENCE, BIT_STRING = 0x30, 0x03


@cache
def certificates_in(text: str) -> tuple[bytes, ...]:
    """The certificates of a PEM text, as DER. Raises ValueError where there is none, or where one of them is not whole.

    A client's is asked for by every host that lets it in.
    """
    blocks = [match[1] for match in BLOCK.finditer(text)]
    if not blocks or len(DASHES.findall(text)) != 2 * len(blocks):
        raise ValueError("is not a certificate in PEM")
    return tuple(map(_der, blocks))


def fingerprint(chain: str) -> str:
    """The sha256 of the leaf, as Caddy's `tls_client_fingerprint` has it."""
    return hashlib.sha256(certificates_in(chain)[0]).hexdigest()


def _der(block: str) -> bytes:
    try:
        der = base64.b64decode("".join(block.split()), validate=True)
        kind, inside, rest = _element(der)
        kinds = []
        while inside:
            part, _, inside = _element(inside)
            kinds.append(part)
    except (binascii.Error, IndexError):
        raise ValueError("is cut short or garbled") from None
    if kind != SEQUENCE or rest or kinds != [SEQUENCE, SEQUENCE, BIT_STRING]:  # RFC 5280, 4.1
        raise ValueError("is cut short or garbled")
    return der


def _element(der: bytes) -> tuple[int, bytes, bytes]:
    """The first element: its tag, what is in it, and what comes after it. Raises IndexError where it is cut short."""
    length, start = der[1], 2
    if length >= 0x80:
        start += length - 0x80
        length = int.from_bytes(der[2:start])
    if start + length > len(der):
        raise IndexError
    return der[0], der[start : start + length], der[start + length :]
