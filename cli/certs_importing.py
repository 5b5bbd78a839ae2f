"""`paddock certs import`: a CA that was made elsewhere, and the clients that hold its certificates."""

from __future__ import annotations

import argparse
import getpass
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cli.certs_changing import changed, in_inventory, push_argument, yes_argument
from cli.certs_list import lab_argument
from cli.opening import action_of, opened
from control.imported import NOT_LIMITED, ca_of, checked_client, files_of, import_client, trust
from control.pki import Authority
from control.secrets import Vault
from inventory.errors import PaddockError, UsageError

CA, KEY = "--ca", "--ca-key"


def add(actions: Any) -> None:
    examples = """certs import --ca root-ca.pem --client laptop=client.crt
certs import --ca root-ca.pem --ca-key root-ca.key"""
    words = "trust a CA that was made elsewhere, beside the fleet's own; clients that hold its certificates go on as they are"
    action = action_of(actions, "import", words, examples)
    action.add_argument(CA, type=Path, required=True, metavar="FILE", help="the CA's certificate, in PEM")
    action.add_argument(KEY, type=Path, metavar="FILE", help="its key: it then signs from now on, and the fleet's own CA no more")
    action.add_argument(
        "--client", action="append", default=[], metavar="NAME=FILE", help="the certificate that a client holds; may be given again"
    )
    yes_argument(action)
    push_argument(action)
    lab_argument(action)
    action.set_defaults(act=_import)


def _import(options: argparse.Namespace) -> int:
    from control.lock import operator_lock

    this = opened(options)
    pairs = [_pair(each) for each in options.client]
    held = dict(pairs)
    if len(held) < len(pairs) or len({path.absolute() for path in held.values()}) < len(pairs):
        raise UsageError("--client: a client is named once, and a certificate is one client's")
    texts = files_of({CA: options.ca, **({KEY: options.ca_key} if options.ca_key else {}), **held})
    key = _key(texts[KEY], options.ca_key) if options.ca_key else None

    def check(authority: Authority, now: datetime) -> None:
        issuer = ca_of(this.fleet, texts[CA], key, now, options.ca)
        for name, path in held.items():
            checked_client(authority, issuer, name, texts[name], now, path)

    def act(authority: Authority, now: datetime) -> Iterable[str]:
        issuer = ca_of(this.fleet, texts[CA], key, now, options.ca)
        for name, path in held.items():
            checked_client(authority, issuer, name, texts[name], now, path)  # all of them, before anything is kept
        trust(authority, issuer, key)
        yield f"{options.ca}: is trusted" + (", and signs from now on" if key else "")
        if issuer.domain is None:
            yield f"{options.ca}: {NOT_LIMITED}"
        for name, path in held.items():
            leaf = import_client(authority, issuer, name, texts[name], now, path)
            yield f"client {name}: {path} is let in until {leaf.not_after:%Y-%m-%d}, beside the certificate that the fleet gives it"
        if not key:
            yield "once no client needs it any more, `paddock certs roll-over finish` ends its trust"

    with operator_lock(this.state, "certs import"):
        check(Authority(this.state, Vault(this.state)), datetime.now(UTC))  # before the inventory lets anybody in
        reopened = in_inventory(this, {name: {"days": "180"} for name in held if name not in this.fleet.clients}, options)
        return 1 if reopened is None else changed(reopened, act, push=not options.no_push)


def _pair(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if not equals or not name or not path:
        raise UsageError(f"--client {text}: is no NAME=FILE, such as laptop=client.crt")
    return name, Path(path)


def _key(text: str, path: Path) -> str:
    """The CA's key in the clear; whoever is at the terminal is asked for its password, if it has one."""
    from control import certificates

    try:
        try:
            return certificates.decrypted(text, None)
        except TypeError:
            if not sys.stdin.isatty():
                raise PaddockError(
                    f"{path}: has a password, and nobody is here to give it: `openssl pkey -in {path}` takes it off"
                ) from None
            try:
                password = getpass.getpass(f"password of {path}: ")
            except EOFError:
                raise PaddockError(f"{path}: has a password, and none was given") from None
            return certificates.decrypted(text, password)
    except ValueError:
        raise PaddockError(f"{path}: is no private key in PEM, RSA or elliptic, or the password is wrong") from None
