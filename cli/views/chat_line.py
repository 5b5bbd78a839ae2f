"""A question to the first model behind a site, as a `curl` line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from shlex import quote

from inventory.fleet import Fleet
from roles.server import Entrance, Server, question
from roles.upstream import models_behind


def chat_line(entrance: Entrance, server: Server, certificates: Path, fleet: Fleet, named: Sequence[str] = (), *, lab: bool = False) -> str:
    """For a shell, with name resolution and the client's certificates, which lie in the directory `certificates`. The key is that of the
    fleet which `named` names, `-i home.yml`, or of its lab."""
    servers, acme = fleet.behind(entrance.site.upstream), entrance.site.acme
    model = models_behind(entrance.site.upstream, servers)[0]
    path, body = question(model, fleet.preset(next(each for each in servers if model in each.models), model), max_tokens=32)
    trusted = f"--cacert {quote(str(acme.root if acme else certificates / 'ca.pem'))} " if not acme or acme.root else ""
    # An argument would show the key to every account of the machine.
    show = " ".join(map(quote, ("paddock", *named, "secrets", "show", server.key_name, *(["--lab"] if lab else []))))
    key = f"{show} | sed 's/^/Authorization: Bearer /' | " if server.api_key else ""
    lines = [
        f"{key}curl -sS --resolve {quote(f'{entrance.name}:{entrance.port}:{entrance.address}')}",
        f"{trusted}--cert {quote(str(certificates / 'cert.pem'))} --key {quote(str(certificates / 'key.pem'))}",
        *(["-H @-"] if server.api_key else []),
        f"{quote(entrance.url + path)} -H 'Content-Type: application/json'",
        f"-d {quote(json.dumps(body))}",
    ]
    return "\nchat:\n  " + " \\\n    ".join(lines)
