"""The `paddock` command. Each verb is a module of its own here, loaded when it is asked for."""

# PYTHON_ARGCOMPLETE_OK

from __future__ import annotations

import argparse
import errno
import gc
import os
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from cli.opening import inventory_argument
from inventory.errors import PaddockError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)

VERBS = (
    *("check", "schema", "render", "plan", "up", "verify", "status", "teardown"),
    *("models", "chat", "logs", "start", "stop", "restart"),
    *("certs", "secrets", "artifacts", "lab", "rehearse", "completion"),
)

EXAMPLES = """\
examples:
  paddock check                        everything that is wrong with the inventory, before any connection
  paddock -i home.yml plan             what would change, as a diff
  paddock -i home.yml up               make it so, and prove it
  paddock -i home.yml up --limit ai    only one host, group or role
  paddock rehearse -i home.yml         the whole of it on throw-away hosts

exit codes: 0 done, 1 failed, 2 the inventory or the command line is wrong, 3 something would change or has drifted
"""


def parser(verbs: tuple[str, ...] = VERBS) -> argparse.ArgumentParser:
    """The parser with the named verbs."""
    top = argparse.ArgumentParser(
        prog="paddock",
        description="One inventory in, a verified fleet of llama.cpp hosts out.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=f"paddock {_version()}")
    inventory_argument(top, default=None)
    commands = top.add_subparsers(metavar="VERB", required=True)
    for name in verbs:
        module = import_module(f"cli.{name}")
        summary, _, rest = (module.__doc__ or "").partition("\n")
        command = commands.add_parser(
            name,
            help=summary.rstrip("."),
            description=summary,
            epilog=rest.strip(),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        inventory_argument(command, default=argparse.SUPPRESS)
        module.arguments(command)
        command.set_defaults(run=module.run)
    return top


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("paddock")
    except PackageNotFoundError:
        return "(not installed)"


def command() -> NoReturn:
    """The process `paddock`. It ends at once: to take seven hundred modules and gevent apart, one by one, takes a tenth of a short run."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed by who started it
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115 - for as long as the process lives
    code = main()
    for stream in (sys.stdout, sys.stderr):
        with suppress(BrokenPipeError):
            stream.flush()
    os._exit(code)


def main(argv: list[str] | None = None) -> int:
    gc.set_threshold(1_000_000)  # most of a short run is imports: one look for garbage among them takes 40 ms, and finds none
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "1")  # to look for some, pydantic reads what all installed packages say of themselves
    arguments = sys.argv[1:] if argv is None else argv
    if "_ARGCOMPLETE" in os.environ:
        import argcomplete

        argcomplete.autocomplete(parser())
    named = next((each for each in arguments if each in VERBS), None)
    try:
        options = parser((named,) if named and not _asks_for_all(arguments, named) else VERBS).parse_args(arguments)
        return int(options.run(options))
    except PaddockError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt as interrupt:
        where = f" at {interrupt}" if str(interrupt) else ""
        print(f"\ninterrupted{where}: what was at work on a host may go on; run the same again, it takes up from there", file=sys.stderr)
        return 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # whoever read us has seen enough
        return 1
    except OSError as error:
        if error.errno not in FULL:
            raise
        print(f"{error.filename or 'this machine'}: cannot be written: {error.strerror}", file=sys.stderr)
        return 1


def _asks_for_all(arguments: list[str], named: str) -> bool:
    """Whether the help of the whole command is meant: `paddock --help` and `paddock --help up`, but not `paddock up --help`."""
    before = arguments[: arguments.index(named)]
    return "-h" in before or "--help" in before
