"""Make a key at a gateway, for a new user or for one who is there. The key is shown this once.

examples:
  paddock keys create carol --models qwen --requests 60 --tokens 100000 --window-s 60 --expires 30d
  paddock keys create carol --label laptop                 another key of the same user
  paddock keys create carol --on pi > carol.key            the key alone, where nobody looks on

What is not limited is as the gateway has it for everybody. Users who are to stay belong into the inventory, under `users`.
"""

from __future__ import annotations

import argparse
import re
from datetime import date

from cli.arguments import limit_argument, opened
from cli.keys.gateways import answering, databases, on_argument, only_one, told_beside
from cli.keys.new_key import json_argument, show
from inventory.errors import UsageError
from roles.wording import UNSEEN, one_line

USER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")

OF_USER = ("models", "requests", "tokens", "window_s", "parallel", "weight")


def arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("user", metavar="USER", help="the user's name")
    command.add_argument("--models", metavar="A,B", help="only these models, by name or alias")
    command.add_argument("--requests", type=_count, metavar="N", help="requests in a window")
    command.add_argument("--tokens", type=_count, metavar="N", help="tokens in a window, of prompts and answers")
    command.add_argument("--window-s", type=_count, metavar="N", help="the length of the window in seconds (60)")
    command.add_argument("--parallel", type=_count, metavar="N", help="requests at once, waiting ones included")
    command.add_argument("--weight", type=_weight, metavar="W", help="the share while requests wait (1)")
    command.add_argument("--expires", type=_expiry, metavar="30d|DATE", help="days from now, or the day on which it ends, in UTC")
    command.add_argument("--admin", action="store_true", help="allow the user to drain and resume the gateway, and to manage keys")
    command.add_argument("--label", default="", metavar="TEXT", help="what the key is for")
    json_argument(command)
    on_argument(command)
    limit_argument(command)


def run(options: argparse.Namespace) -> int:
    this, user = opened(options), options.user
    if not USER.fullmatch(user):
        raise UsageError(f"{one_line(user)}: cannot be a user's name: letters, digits and . _ @ + -, 64 at most, a letter or digit first")
    if user in this.fleet.users:
        words = f"is declared in {this.path}: `paddock up` makes its key, and `paddock keys show {user} --key` prints it"
        raise UsageError(f"{user}: {words}")
    if UNSEEN.search(options.label) or len(options.label) > 128:
        raise UsageError("--label: one line of text, 128 characters at most")
    said = {name: getattr(options, name) for name in OF_USER if getattr(options, name) is not None}
    found = only_one(databases(this, options.on), f"{user} is to be made")
    from control.lifecycle.recording import recording
    from control.lifecycle.records import RecordedChange
    from control.servers.gateway_users import Terms

    of_user = {name.replace("_", "-"): str(value) for name, value in said.items()}
    terms = Terms(options.label, options.expires or "", of_user, options.admin)
    with recording(this.state, "keys create", told_beside) as record, answering(this, (found,), changes=True) as there:
        gateway = there.only
        is_user = gateway.exists(user)
        if is_user and (of_user or options.admin):
            raise UsageError(f"{user}: is a user already, and another key of one takes --label and --expires alone")
        record.adds(gateway.host, RecordedChange("create", f"key:{user}", "+"))
        make, words = (gateway.add_key, "another key was made") if is_user else (gateway.create, "made")
        with record.failing(gateway.host):
            made = make(user, terms)
    return show(made, f"{user}: {words} on {' and '.join(found.hosts)}, id {made.id}", found.hosts, options)


def _count(text: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,11}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return int(text)


def _weight(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,6})?", text) or not 0 < float(text) <= 1000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number over 0, 1000 at most")
    return float(text)


def _expiry(text: str) -> str:
    try:
        if not re.fullmatch(r"[1-9][0-9]{0,4}d", text) and date.fromisoformat(text).isoformat() != text:
            raise ValueError(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number of days, such as 30d, nor a day, such as 2027-01-01") from None
    return text
