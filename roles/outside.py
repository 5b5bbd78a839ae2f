"""A caller on another machine than the host, as checks ask one: what it can do, and how it is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

STRANGER = "<stranger>"
"""In place of a client's name: somebody with a client certificate that another CA has signed. No client can be called so."""


class Refused(Exception):
    """The handshake was refused, or the connection ended before an answer: with TLS 1.3 a client hears of it at its first read."""


class Answer(Protocol):
    status: int
    text: str
    headers: Mapping[str, str]
    """By their names in lower case."""


class Outside(Protocol):
    """A caller on another machine, who trusts the fleet's CA and no other."""

    clients: frozenset[str]
    """The clients that hold a certificate which is not revoked."""

    def ask(
        self,
        url: str,
        *,
        at: str,
        client: str | None = None,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """A GET, or with `body` a POST of it as JSON, to the address `at` in place of what DNS says; redirects are not followed.

        With the certificate of `client`, of a STRANGER, or with none. Raises Refused where the connection is refused or ended, and OSError
        where nobody listens.
        """

    def is_let_in(self, at: str, port: int, client: str | None = None) -> bool:
        """Whether what speaks TLS there, under whatever name, takes somebody with this certificate, or with none.

        Raises OSError where nobody listens.
        """
