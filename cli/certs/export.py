"""Write the files that a client needs: its certificate, its key and the CA.

examples:
  paddock certs export laptop
  paddock certs export laptop --to /media/stick
  paddock certs export phone --p12 --qr
  paddock certs export old-mac --legacy
  paddock certs export laptop --archive laptop.tar.gz
"""

from __future__ import annotations

import argparse
import shlex
from datetime import UTC, datetime
from pathlib import Path

from cli.arguments import Opened, opened
from cli.certs.admission import clients, lab_argument
from control.pki.authority import Authority
from control.state.fleet import write_atomically
from control.state.secrets import Vault
from inventory.errors import UsageError
from roles.wording import did_you_mean


def arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("name", help="the client").completer = clients  # type: ignore[attr-defined]
    command.add_argument(
        "--archive", type=Path, metavar="FILE", help="one .tar.gz with all files, an installer script and a page of instructions"
    )
    command.add_argument("--site", help="with --archive: the site that the client's programs use, if several admit it")
    command.add_argument("--to", type=Path, metavar="DIR", help="output directory; by default export/NAME in the state directory")
    command.add_argument("--p12", action="store_true", help="one PKCS#12 file for browsers and phones, AES-256; its password is shown once")
    command.add_argument(
        "--legacy", action="store_true", help="PKCS#12 with 3DES, for macOS up to 12, Windows Server 2016, Android up to 12"
    )
    command.add_argument("--qr", action="store_true", help="show the password also as a QR code, for a phone's camera")
    lab_argument(command)


def run(options: argparse.Namespace) -> int:
    this = opened(options)
    sealed = options.p12 or options.legacy
    if options.qr and not sealed:
        raise UsageError("--qr shows the password of a PKCS#12 file: give --p12 too")
    if options.archive and (sealed or options.to):
        raise UsageError("--archive contains all formats: leave --to, --p12 and --legacy out")
    if options.site and not options.archive:
        raise UsageError("--site works only with --archive: other exports are valid for every site")
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
        print(f"{directory}: ca.pem, cert.pem and key.pem. key.pem is not encrypted: anybody with it can act as {options.name}")
        print(_how_to_ask(this, options.name, directory), end="")
    return 0


def _require_known(this: Opened, authority: Authority, client: str) -> None:
    held = [name for kind, name in authority.leaves.names() if kind == "client"]
    if client not in (*held, *this.fleet.clients):
        raise UsageError(f"no client of {this.path} is called {client}{did_you_mean(client, [*held, *this.fleet.clients])}")


def _write_archive(this: Opened, authority: Authority, client: str, path: Path, site: str | None) -> int:
    from control.deployment.knowledge import knowledge_for
    from control.pki.client_archive import client_archive

    certificate, _ = authority.exportable(client)
    knowledge = knowledge_for(this.fleet, this.state, now=datetime.now(UTC))
    write_atomically(path.absolute(), client_archive(client, certificate, this.fleet, knowledge, site))
    print(f"{path}: anybody with it can act as {client}. README.html explains the installation, install.sh does it")
    return 0


def _write_p12(authority: Authority, client: str, directory: Path, *, legacy: bool) -> str:
    from control.pki.pkcs12 import write_pkcs12

    path, password = write_pkcs12(authority, client, directory, legacy=legacy)
    print(f"{path}: certificate, key and CA in one; shown this once, its password is\n\n  {password}\n")
    print(f"{directory / 'ca.pem'}: the CA, for programs that do not read it from the PKCS#12 file")
    return password


def _how_to_ask(this: Opened, client: str, directory: Path) -> str:
    for entrance in this.fleet.entrances(client):
        where = shlex.quote(str(directory))
        files = f"--cacert {where}/ca.pem --cert {where}/cert.pem --key {where}/key.pem"
        return f"  curl {files} {entrance.url}/v1/models\n"
    return ""
