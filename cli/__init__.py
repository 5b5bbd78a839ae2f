"""The `paddock` command. Each verb is a module of its own here, loaded when it is asked for.

The verb `up` is cli/up.py, the action `certs issue` is cli/certs/issue.py. Both have `arguments` and `run`; their docstring is their help.
A noun names its actions in ACTIONS; one that is a verb too has both.
"""

# PYTHON_ARGCOMPLETE_OK

from __future__ import annotations

from cli import loading  # isort: skip - first of all

import argparse
import errno
import gc
import os
import sys
import traceback
from collections.abc import Collection, Iterable
from contextlib import suppress
from importlib import import_module
from keyword import iskeyword
from pathlib import Path
from typing import Any, NoReturn

from cli.views.terminal import shown_streams
from inventory.errors import PaddockError, UsageError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)

CLOSED = (errno.EACCES, errno.EPERM)

VERBS = (
    *("check", "schema", "render", "plan", "up", "upgrade", "rollback", "verify", "status", "history", "teardown"),
    *("backup", "restore"),
    *("models", "chat", "logs", "start", "stop", "restart"),
    *("certs", "keys", "secrets", "artifacts", "state", "lab", "rehearse", "completion"),
)

EXAMPLES = """\
examples:
  paddock check                        report all errors of the inventory; connects to no host
  paddock -i home.yml plan             show what would change, as a diff
  paddock -i home.yml up               apply the inventory and verify it
  paddock -i home.yml up --limit ai    only one host, group or role
  paddock rehearse -i home.yml         try all of it on throw-away hosts

exit codes: 0 done, 1 failed, 2 the inventory or the command line is wrong, 3 something would change or has drifted,
4 taken back
"""


def parser(verbs: tuple[str, ...] = VERBS, action: str = "") -> argparse.ArgumentParser:
    """The parser with the named verbs; of a noun that has the action, with that one alone."""
    from cli.arguments import inventory_argument
    from control.state.fleet import paddock_version

    top = argparse.ArgumentParser(
        prog="paddock",
        description="One inventory in, a verified fleet of llama.cpp hosts out.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=f"paddock {paddock_version()}")
    inventory_argument(top, default=None)
    commands = top.add_subparsers(metavar="VERB", required=True)
    for name in verbs:
        _add(commands, name, "cli", action)
    return top


def _add(commands: Any, name: str, package: str, only: str = "", *, is_action: bool = False) -> None:
    """Adds a verb or an action out of its module: what it says of itself, its arguments, and its own actions where it has any."""
    from cli.arguments import inventory_argument

    module = import_module(f"{package}.{module_name(name)}")
    summary, _, rest = (module.__doc__ or "").partition("\n")
    words = summary.rstrip(".")
    command = commands.add_parser(
        name,
        help=words[0].lower() + words[1:] if is_action else words,
        description=summary,
        epilog=rest.strip(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    inventory_argument(command, default=argparse.SUPPRESS)
    runs, nested = hasattr(module, "run"), None
    if actions := getattr(module, "ACTIONS", ()):
        nested = command.add_subparsers(dest="action", metavar="|".join(actions), required=not runs)
        for action in (only,) if only in actions else actions:
            _add(nested, action, module.__name__, is_action=True)
    if runs:
        module.arguments(command)
        command.set_defaults(run=module.run)
    if runs and nested:
        _inherit(nested.choices.values(), {each.dest for each in command._actions})


def _inherit(actions: Iterable[argparse.ArgumentParser], said: Collection[str]) -> None:
    """What a noun that is a verb takes itself stays as it was said there, unless the action's own words say it again."""
    for each in (argument for action in actions for argument in action._actions):
        if each.dest in said:
            each.default = argparse.SUPPRESS


def module_name(name: str) -> str:
    """`roll-over` is roll_over.py, `import` import_.py."""
    module = name.replace("-", "_")
    return f"{module}_" if iskeyword(module) else module


def command() -> NoReturn:
    """The process `paddock`. It ends at once: to take seven hundred modules and gevent apart, one by one, takes a tenth of a short run."""
    loading.begins()
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
    with shown_streams():
        try:
            return _run(arguments)
        except Exception:  # a fault of ours; what it says may be others' text
            traceback.print_exc()
            return 1


def _run(arguments: list[str]) -> int:
    named = next((each for each in arguments if each in VERBS), None)
    try:
        options = _parser_for(arguments, named).parse_args(arguments)
        _require_home()
        loading.ends()
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
        if error.errno not in (*FULL, *CLOSED):
            raise
        what = "cannot be written" if error.errno in FULL else "cannot be used by this account"
        print(f"{error.filename or 'this machine'}: {what}: {error.strerror}", file=sys.stderr)
        return 1


def _require_home() -> None:
    """What is fetched and known lies at home. Raises UsageError where nobody can say where that is, as in a container."""
    try:
        Path.home()
    except RuntimeError:
        words = f"user {os.geteuid()} has no name on this machine, and HOME is not set"
        raise UsageError(f"no home directory is known: {words}: set HOME to a directory of yours") from None


def _parser_for(arguments: list[str], named: str | None) -> argparse.ArgumentParser:
    """With no more than is asked for: to import the others takes longer than many a verb."""
    if named is None or _asks_for_all(arguments, named):
        return parser()
    return parser((named,), next(iter(arguments[arguments.index(named) + 1 :]), ""))


def _asks_for_all(arguments: list[str], named: str) -> bool:
    """Whether the help of the whole command is meant: `paddock --help` and `paddock --help up`, but not `paddock up --help`."""
    before = arguments[: arguments.index(named)]
    return "-h" in before or "--help" in before
