"""The key of a request: `Authorization: Bearer`, or `x-api-key` as Anthropic's clients send it."""

from __future__ import annotations

from collections.abc import Collection

from multidict import CIMultiDictProxy

from paddock_gateway.errors import Failure

IN_QUERY = frozenset({"api_key", "api-key", "apikey", "key", "token", "access_token", "auth", "authorization", "x-api-key"})


def key_of(headers: CIMultiDictProxy[str], query: Collection[str]) -> str:
    """Raises Failure: 401 without a key, 400 for one in the query string, one that is no Bearer, and two that differ."""
    if any(name.lower() in IN_QUERY for name in query):
        raise Failure(
            400,
            "A key does not belong in the address: it ends in logs and histories. Send it as the header `Authorization: Bearer KEY`, "
            "and replace this one, as it may have been noted on its way.",
            "key_in_query",
        )
    found = [_bearer(value) for value in headers.getall("Authorization", [])]
    found += [value.strip() for value in headers.getall("X-Api-Key", [])]
    keys = {key for key in found if key}
    if len(keys) > 1:
        raise Failure(400, "The request has two keys that differ. Send one, as `Authorization: Bearer KEY` or as `x-api-key`.", "two_keys")
    if not keys:
        raise Failure(401, "The request has no key. Send it as the header `Authorization: Bearer KEY`.", "no_key")
    return keys.pop()


def _bearer(value: str) -> str:
    kind, _, key = value.strip().partition(" ")
    if kind.lower() != "bearer":
        raise Failure(400, "The header Authorization is not `Bearer KEY`.", "no_bearer")
    return key.strip()
