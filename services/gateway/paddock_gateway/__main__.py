"""The command `paddock-gateway`: `serve`, and what keeps its database from beside it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from paddock_gateway.errors import Failure
from paddock_gateway.settings import SettingsError
from paddock_gateway.store.database import StoreError

CONFIGURATION = Path("/etc/paddock/gateway/gateway.json")
COPIES = Path("/var/lib/paddock/backups")

EXAMPLES = """examples:
  paddock-gateway init-db
  paddock-gateway create-user --username ann --models qwen-3b --requests 60 --window-s 60
  paddock-gateway keys create --user ann --label laptop --expires 30d
  paddock-gateway keys list --json
  paddock-gateway copies make
  paddock-gateway --configuration ./gateway.json check

Every command but `serve` works beside a running gateway, which sees the change within a second. Run as root, it becomes the user that
owns the database's directory.
"""


def main() -> None:
    sys.exit(command(sys.argv[1:]))


def command(arguments: Sequence[str]) -> int:
    """The exit status: 0, 1 with a line on standard error, 2 for a command that there is not."""
    options = parser().parse_args(arguments)
    module, function = options.does.split(":")
    try:
        status: int = getattr(import_module(f"paddock_gateway.commands.{module}"), function)(options)
    except (SettingsError, StoreError) as error:
        return _failed(str(error))
    except Failure as failure:
        return _failed(failure.message)
    except BrokenPipeError:  # `… | head`
        sys.stderr.close()
        return 1
    except KeyboardInterrupt:
        return 130
    return status


def _failed(why: str) -> int:
    print(f"paddock-gateway: {why}", file=sys.stderr)
    return 1


def parser() -> argparse.ArgumentParser:
    """Each command names the module and function of `commands` that does it: `keys:create`. Only that module is imported."""
    top = argparse.ArgumentParser(
        "paddock-gateway", description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    _common(top, CONFIGURATION, False)
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    _add(commands, "serve", "serve:run", "answer requests, until SIGTERM")
    _add(commands, "init-db", "database:make", "make the tables, or bring those of an older version up to date")
    _add_copies(commands)
    newest = _add(commands, "newest-users", "newest_users:write", "the declared users of this configuration, written into an older one")
    newest.add_argument("file", type=Path, metavar="FILE", help="a configuration that is to take this one's place")
    _add(commands, "check", "check:run", "say what is wrong with the configuration and the files that it names")
    create = _add(commands, "create-user", "users:create", "make a user and its first key, which is shown once")
    create.add_argument("--username", required=True, metavar="NAME")
    create.add_argument("--models", metavar="A,B", help="ids or aliases that it may use; all where it is not given")
    create.add_argument("--requests", type=int, metavar="N", help="in any --window-s seconds")
    create.add_argument("--tokens", type=int, metavar="N", help="in any --window-s seconds")
    create.add_argument("--window-s", type=int, metavar="N", help="60 where it is not given")
    create.add_argument("--parallel", type=int, metavar="N", help="requests at once, waiting ones too")
    create.add_argument("--weight", type=float, metavar="W", help="its share beside others; 1 where it is not given")
    create.add_argument("--label", default="", help="of the key")
    create.add_argument("--expires", metavar="WHEN", help="of the key: 2027-01-01 (UTC) or 30d")
    create.add_argument("--admin", action="store_true", help="may drain, resume and manage keys")
    _add(commands, "list-users", "users:show_all", "the users, declared ones too")
    for verb, does in (("disable", "refuse its keys from now on"), ("enable", "let its keys in again"), ("delete", "with its keys")):
        _add(commands, f"{verb}-user", f"users:{verb}", does).add_argument("name", metavar="NAME")
    keys = commands.add_parser("keys", help="create, list, show, revoke and rotate keys", allow_abbrev=False)
    verbs = keys.add_subparsers(metavar="VERB", required=True)
    create = _add(verbs, "create", "keys:create", "another key of a user; it is shown once")
    create.add_argument("--user", required=True, metavar="NAME")
    create.add_argument("--label", default="")
    create.add_argument("--expires", metavar="WHEN", help="2027-01-01 (UTC) or 30d; never where it is not given")
    _add(verbs, "list", "keys:show_all", "the keys that are not revoked").add_argument("--user", metavar="NAME", help="of this user alone")
    for verb, function, does in (
        ("show", "display", "what is kept of a key"),
        ("revoke", "revoke", "refuse it for ever"),
        ("rotate", "rotate", "a new key in its place; the old one is refused"),
    ):
        _add(verbs, verb, f"keys:{function}", does).add_argument("id", metavar="ID", help="as `keys list` shows it")
    return top


def _add_copies(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    copies = commands.add_parser("copies", help="make, try, list, send and put back copies of the database", allow_abbrev=False)
    verbs = copies.add_subparsers(metavar="VERB", required=True)
    for parent, verb, function, does in (
        (commands, "prepare", "prepare", "copy the database, try this version on the copy, then migrate; nothing where none is due"),
        (verbs, "make", "make", "a copy that was restored and counted; the gateway may run"),
        (verbs, "try", "try_out", "try this version on a copy, beside the one that serves"),
        (verbs, "list", "show_all", "the copies on this host, the oldest first"),
        (verbs, "send", "send", "write a copy to standard output"),
        (verbs, "receive", "receive", "take a copy from standard input, behind a line with its record"),
        (verbs, "put-back", "put_back", "it takes the database's place, which is kept aside; the gateway must have ended"),
        (verbs, "take-back", "take_back", "put-back, of a copy made before a migration, unless that did not happen"),
        (verbs, "undo", "undo", "the database that was kept aside takes its place again"),
        (verbs, "settle", "settle", "delete the database that was kept aside"),
        (verbs, "remove", "remove", "delete a copy"),
    ):
        added = _add(parent, verb, f"copies:{function}", does)
        added.add_argument("--directory", type=Path, default=COPIES, metavar="DIR", help=f"{COPIES} where it is not given")
        if function in ("send", "put_back", "take_back", "remove"):
            added.add_argument("name", metavar="NAME", help="as `copies list` shows it")


def _add(commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, does: str, help: str) -> argparse.ArgumentParser:
    added = commands.add_parser(name, help=help, description=help[0].upper() + help[1:] + ".", allow_abbrev=False)
    added.set_defaults(does=does)
    _common(added, argparse.SUPPRESS, argparse.SUPPRESS)  # what stands before the command holds where nothing stands behind it
    return added


def _common(parser: argparse.ArgumentParser, configuration: Path | str, json: bool | str) -> None:
    parser.add_argument("--configuration", type=Path, default=configuration, metavar="FILE", help=f"{CONFIGURATION} where it is not given")
    parser.add_argument("--json", action="store_true", default=json, help="for programs")


if __name__ == "__main__":
    main()
