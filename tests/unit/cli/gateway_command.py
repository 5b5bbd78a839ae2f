"""What `python -m paddock_gateway` does with users on a gateway's host, for tests of the verbs that ask it over SSH.

Its users lie in the file that --configuration names, as JSON: {"users": [name], "keys": [record]}. Beside it `said` has each command line.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
from pathlib import Path
from typing import Any


def main() -> int:
    options = arguments()
    path = Path(options.configuration)
    with path.with_name("said").open("a") as file:
        file.write(" ".join(sys.argv[1:]) + "\n")
    kept = json.loads(path.read_text())
    answer = carried_out(options, kept)
    path.write_text(json.dumps(kept))
    print(json.dumps(answer))
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--configuration", required=True)
    verbs = parser.add_subparsers(dest="verb", required=True)
    create = verbs.add_parser("create-user", allow_abbrev=False)
    for name in ("--username", "--models", "--label", "--expires"):
        create.add_argument(name, default="")
    for name in ("--requests", "--tokens", "--window-s", "--parallel"):
        create.add_argument(name, type=int)
    create.add_argument("--weight", type=float, default=1.0)
    create.add_argument("--admin", action="store_true")
    keys = verbs.add_parser("keys", allow_abbrev=False).add_subparsers(dest="action", required=True)
    more = keys.add_parser("create", allow_abbrev=False)
    for name in ("--user", "--label", "--expires"):
        more.add_argument(name, default="")
    listing = keys.add_parser("list", allow_abbrev=False)
    for name in ("revoke", "rotate"):
        keys.add_parser(name, allow_abbrev=False).add_argument("id")
    for each in (create, more, listing, verbs.add_parser("list-users", allow_abbrev=False), *keys.choices.values()):
        if "--json" not in each._option_string_actions:
            each.add_argument("--json", action="store_true", required=True)
    return parser.parse_args()


def carried_out(options: argparse.Namespace, kept: dict[str, Any]) -> Any:
    match options.verb, getattr(options, "action", ""):
        case "list-users", _:
            return [{"user": name} for name in kept["users"]]
        case "create-user", _:
            kept["users"].append(options.username)
            limits = {name: getattr(options, name) for name in ("requests", "tokens", "window_s", "parallel")}
            of_user = {"models": options.models.split(",") if options.models else None, "limits": limits}
            return new(kept, {**record(options.username, options), **of_user, "weight": options.weight, "admin": options.admin})
        case "keys", "list":
            return kept["keys"]
        case "keys", "create":
            return new(kept, record(options.user, options))
    (found,) = (each for each in kept["keys"] if each["id"] == options.id)
    kept["keys"].remove(found)
    return found if options.action == "revoke" else new(kept, found)


def record(user: str, options: argparse.Namespace) -> dict[str, Any]:
    expires = 1893456000.0 if options.expires else None
    beside = {"models": None, "limits": None, "weight": 1.0, "admin": False, "created": 1788000000.0, "disabled": False, "declared": False}
    return {"user": user, "label": options.label, "expires": expires, **beside}


def new(kept: dict[str, Any], record: dict[str, Any]) -> dict[str, Any]:
    key = f"sk-{secrets.token_urlsafe(32)}"
    made = {**record, "id": f"k_{secrets.token_hex(4)}", "hint": f"{key[:5]}…{key[-4:]}"}
    kept["keys"].append(made)
    return {"key": key, "record": made}


if __name__ == "__main__":
    sys.exit(main())
