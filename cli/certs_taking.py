"""`paddock certs export`: what a client takes away."""

from __future__ import annotations

import argparse
import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cli.certs_changing import clients
from cli.certs_list import lab_argument
from cli.opening import Opened, action_of, opened
from control.pki import Authority
from control.secrets import Vault
from control.state import make_private, write_atomically
from inventory.errors import UsageError
from inventory.problems import did_you_mean


def add(actions: Any) -> None:
    examples = "certs export laptop\ncerts export laptop --to /media/stick\ncerts export phone --p12 --qr\ncerts export old-mac --legacy\n"
    examples += "certs export laptop --archive laptop.tar.gz"
    action = action_of(actions, "export", "write what a client takes away: its certificate, its key and the CA", examples)
    action.add_argument("name", help="the client").completer = clients  # type: ignore[attr-defined]
    action.add_argument(
        "--archive", type=Path, metavar="FILE", help="all in one .tar.gz, with a script that installs it and a page to read"
    )
    action.add_argument("--site", help="with --archive: which site its programs are to reach, of several")
    action.add_argument("--to", type=Path, metavar="DIR", help="where; else export/NAME in the state directory")
    action.add_argument(
        "--p12", action="store_true", help="in one file for browsers and phones, sealed with AES-256; its password is shown once"
    )
    action.add_argument("--legacy", action="store_true", help="the same in 3DES, for macOS up to 12, Windows Server 2016, Android up to 12")
    action.add_argument("--qr", action="store_true", help="its password also as a QR code, for a phone's camera")
    lab_argument(action)
    action.set_defaults(act=_export)


def _export(options: argparse.Namespace) -> int:
    this = opened(options)
    sealed = options.p12 or options.legacy
    if options.qr and not sealed:
        raise UsageError("--qr shows the password of a PKCS#12 file: give --p12 too")
    if options.archive and (sealed or options.to):
        raise UsageError("--archive holds everything, PKCS#12 files too: leave --to, --p12 and --legacy out")
    if options.site and not options.archive:
        raise UsageError("--site is for --archive: other exports serve for every site")
    authority = Authority(this.state, Vault(this.state))
    _require_known(this, authority, options.name)
    if options.archive:
        return _write_archive(this, authority, options.name, options.archive, options.site)
    to = options.to.absolute() if options.to else None
    if sealed:
        password = _write_p12(authority, options.name, to or this.state.directory("export", options.name), legacy=options.legacy)
        if options.qr:
            import segno

            segno.make(password, error="m").terminal(compact=True)
    else:
        directory = authority.export(options.name, to)
        print(f"{directory}: ca.pem, cert.pem and key.pem, which is not sealed: whoever has it is {options.name}")
        print(_how_to_ask(this, options.name, directory), end="")
    return 0


def _require_known(this: Opened, authority: Authority, client: str) -> None:
    held = [name for kind, name in authority.leaves.names() if kind == "client"]
    if client not in (*held, *this.fleet.clients):
        raise UsageError(f"no client of {this.path} is called {client}{did_you_mean(client, [*held, *this.fleet.clients])}")


def _write_archive(this: Opened, authority: Authority, client: str, path: Path, site: str | None) -> int:
    from control.client_archive import client_archive
    from control.context import context_for

    certificate, _ = authority.exportable(client)
    context = context_for(this.fleet, this.state, now=datetime.now(UTC))
    write_atomically(path.absolute(), client_archive(client, certificate, this.fleet, context, site))
    print(f"{path}: whoever has it is {client}; README.html in it says what to do, install.sh does it")
    return 0


def _write_p12(authority: Authority, client: str, directory: Path, *, legacy: bool) -> str:
    from control.pkcs12 import new_password, pkcs12_of

    certificate, cas = authority.exportable(client)
    password, path = new_password(), make_private(directory) / f"{client}.p12"
    write_atomically(path, pkcs12_of(client, certificate.chain, certificate.key, cas, password, legacy=legacy))
    write_atomically(directory / "ca.pem", cas)
    print(f"{path}: certificate, key and CA in one; shown this once, its password is\n\n  {password}\n")
    print(f"{directory / 'ca.pem'}: the CA, for what does not take it out of that file")
    return password


def _how_to_ask(this: Opened, client: str, directory: Path) -> str:
    for entrance in this.fleet.entrances(client):
        where = shlex.quote(str(directory))
        files = f"--cacert {where}/ca.pem --cert {where}/cert.pem --key {where}/key.pem"
        return f"  curl {files} {entrance.url}/v1/models\n"
    return ""
