"""Addresses of files, as they may be shown."""

from __future__ import annotations


def without_query(url: str) -> str:
    """The URL without a password, and without what a signed one has behind the question mark; what is no URL as it is."""
    scheme, between, rest = url.partition("://")
    if not between:
        return url
    place, slash, path = rest.partition("?")[0].partition("/")
    return f"{scheme}://{place.rpartition('@')[2]}{slash}{path}"
