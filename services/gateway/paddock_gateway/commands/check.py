"""check: what is wrong with the configuration and the files that it names. Nothing is opened for writing, nobody is asked."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

from paddock_gateway.commands.words import show
from paddock_gateway.pepper import pepper
from paddock_gateway.settings import Configuration, SettingsError, configuration
from paddock_gateway.store import postgres, sqlite
from paddock_gateway.store.database import StoreError


def run(options: Namespace) -> int:
    """1 with a line for each problem on standard error."""
    said = configuration(options.configuration)
    problems = list(_problems(said))
    if options.json:
        show(options, {"configuration": str(options.configuration), "problems": problems}, "")
    elif not problems:
        print(f"{options.configuration}: no problem found ({len(said.backends)} back ends, {len(said.models)} models)")
    else:
        for problem in problems:
            print(f"paddock-gateway: {problem}", file=sys.stderr)
    return 1 if problems else 0


def _problems(said: Configuration) -> Iterator[str]:
    try:
        pepper(Path(said.pepper_file))
    except SettingsError as error:
        yield str(error)
    path = sqlite.path_in(said.database)
    if path and not path.parent.is_dir():
        yield f"database: there is no directory {path.parent}: make it, owned by the gateway's user"
    elif not path and not postgres.is_postgres(said.database):
        yield f"database: {said.database!r} is neither sqlite:/… nor postgresql://…"
    elif not path:
        try:
            postgres.arguments(said)
        except StoreError as error:
            yield str(error)
    if not Path(said.state).is_dir():
        yield f"state: there is no directory {said.state}: make it, owned by the gateway's user"
    files = {"master_key_file": said.master_key_file} | {f"backends.{name}.key_file": each.key_file for name, each in said.backends.items()}
    for where, file in files.items():
        yield from _secret_problems(where, file)


def _secret_problems(where: str, file: str) -> Iterator[str]:
    if not file:
        return
    try:
        content = Path(file).read_bytes()
    except OSError as error:
        yield f"{where} {file}: {error.strerror}"
        return
    if not content.strip():
        yield f"{where} {file} is empty: write the key into it"
    elif len(content.split()) > 1 or not content.isascii():
        yield f"{where} {file}: one key is expected, in one line of ASCII"
