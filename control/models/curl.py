"""What the host's curl is told of a file that it fetches."""

from __future__ import annotations

from control.models.origins import Request
from inventory.urls import without_query


def curl_configuration(request: Request) -> str:
    """What curl reads with -K: the URL and the token are no arguments, which every account of the host can read.

    curl sends an Authorization header on to no other host than the one that it was given for (since 7.58).
    """
    lines = [f"# {without_query(request.url)}", f"# {request.hint}", f"url = {_quoted(request.url)}"]
    if request.token:
        lines.append(f"header = {_quoted(f'Authorization: Bearer {request.token}')}")
    if request.near:
        lines.append('noproxy = "*"')
    return "\n".join([*lines, ""])


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
