"""Trust an existing CA beside the fleet's own; its client certificates stay valid.

examples:
  paddock certs import --ca root-ca.pem --client laptop=client.crt
  paddock certs import --ca root-ca.pem --ca-key root-ca.key
"""

from __future__ import annotations

import argparse
import getpass
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from cli.arguments import opened, steal_lock_argument, yes_argument
from cli.certs.admission import changed, in_inventory, lab_argument, push_argument
from control.pki.authorities import Issuer
from control.pki.authority import Authority
from control.pki.imported import NOT_LIMITED, ca_of, checked_client, files_of, import_client, trust
from control.state.secrets import Vault
from inventory.errors import PaddockError, UsageError
from roles.wording import one_line

CA, KEY = "--ca", "--ca-key"


def arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument(CA, type=Path, required=True, metavar="FILE", help="the CA's certificate, in PEM")
    command.add_argument(KEY, type=Path, metavar="FILE", help="the CA's key: from now on it signs instead of the fleet's own CA")
    command.add_argument("--client", action="append", default=[], metavar="NAME=FILE", help="a client's existing certificate; repeatable")
    yes_argument(command)
    push_argument(command)
    steal_lock_argument(command)
    lab_argument(command)


def run(options: argparse.Namespace) -> int:
    from control.state.lock import operator_lock

    this = opened(options)
    pairs = [_pair(each) for each in options.client]
    held = dict(pairs)
    if len(held) < len(pairs) or len({path.absolute() for path in held.values()}) < len(pairs):
        raise UsageError("--client: name each client and each certificate only once")
    texts = files_of({CA: options.ca, **({KEY: options.ca_key} if options.ca_key else {}), **held})
    key = _key(texts[KEY], options.ca_key) if options.ca_key else None

    def checked(authority: Authority, now: datetime) -> Issuer:
        issuer = ca_of(this.fleet, texts[CA], key, now, options.ca)
        for name, path in held.items():
            checked_client(authority, issuer, name, texts[name], now, path)
        return issuer

    def act(authority: Authority, now: datetime) -> Iterable[str]:
        issuer = checked(authority, now)  # with all its clients, before anything is kept
        trust(authority, issuer, key)
        yield f"{options.ca}: is trusted" + (", and signs from now on" if key else "")
        if issuer.domain is None:
            yield f"{options.ca}: {NOT_LIMITED}"
        for name, path in held.items():
            leaf = import_client(authority, issuer, name, texts[name], now, path)
            yield f"client {name}: {path} is let in until {leaf.not_after:%Y-%m-%d}, beside the certificate that the fleet gives it"
        if not key:
            yield "once no client needs it any more, `paddock certs roll-over finish` ends its trust"

    with operator_lock(this.state, "certs import", steals=options.steal_lock) as holder:
        checked(Authority(this.state, Vault(this.state)), datetime.now(UTC))  # before the inventory lets anybody in
        reopened = in_inventory(this, {name: {"days": "180"} for name in held if name not in this.fleet.clients}, options)
        return 1 if reopened is None else changed(reopened, "certs import", act, push=not options.no_push, holder=holder)


def _pair(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if not equals or not name or not path:
        raise UsageError(f"--client {text}: is not NAME=FILE, such as laptop=client.crt")
    return name, Path(path)


def _key(text: str, path: Path) -> str:
    """The CA's key in the clear; whoever is at the terminal is asked for its password, if it has one."""
    from control.pki import certificates

    try:
        try:
            return certificates.decrypted(text, None)
        except TypeError:
            if not sys.stdin.isatty():
                raise PaddockError(
                    f"{path}: has a password, and there is no terminal to ask for it: `openssl pkey -in {path}` removes it"
                ) from None
            try:
                password = getpass.getpass(f"password of {one_line(str(path))}: ")
            except EOFError:
                raise PaddockError(f"{path}: has a password, and none was given") from None
            return certificates.decrypted(text, password)
    except ValueError:
        raise PaddockError(f"{path}: is not an RSA or elliptic-curve private key in PEM, or the password is wrong") from None
