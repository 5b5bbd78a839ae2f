"""Give a user another key in place of one. The new key is shown. Asks before.

examples:
  paddock keys rotate alice             declared in the inventory: the old key works until `paddock up`
  paddock keys rotate carol             made at a gateway: the old key is refused at once
  paddock keys rotate k_3f2a90 --yes    one of several keys, by its id in `paddock keys list`
"""

from __future__ import annotations

import argparse
import json
import sys
import time

from cli.arguments import Opened, limit_argument, opened, yes_argument
from cli.keys.gateways import answering, databases, named, on_argument, require_no_key, told_beside, user_argument
from cli.keys.new_key import agreed, json_argument, show
from cli.views.keys import as_data
from control.state.api_keys import new_key
from control.state.secrets import Vault
from inventory.errors import UsageError
from roles.users import user_key_name
from roles.wording import one_line


def arguments(command: argparse.ArgumentParser) -> None:
    user_argument(command)
    json_argument(command)
    yes_argument(command)
    on_argument(command)
    limit_argument(command)


def run(options: argparse.Namespace) -> int:
    this, which = opened(options), options.which
    require_no_key(which)
    if which in this.fleet.users:
        return _declared(this, which, options)
    from control.lifecycle.recording import recording
    from control.lifecycle.records import RecordedChange

    with recording(this.state, "keys rotate", told_beside) as record, answering(this, databases(this, options.on), changes=True) as there:
        found = named(which, there)
        if len(found) > 1:
            ids = ", ".join(each.record.id for each in found)
            raise UsageError(f"{one_line(which)}: has several keys: name one of {ids}")
        (key,) = found
        where = " and ".join(key.hosts)
        if not agreed(f"Refuse {key.record.id} of {key.record.user} on {where} at once, and make another?", options):
            return 1
        record.adds(key.users.host, RecordedChange("rotate", f"key:{key.record.user}:{key.record.id}"))
        with record.failing(key.users.host):
            made = key.users.rotate(key.record)
    return show(made, f"{one_line(made.user)}: another key on {where}, id {made.id}", key.hosts, options)


def _declared(this: Opened, user: str, options: argparse.Namespace) -> int:
    if not agreed(f"Make another key for {user}? The one before works until `paddock up`.", options):
        return 1
    from control.servers.listed_keys import of_inventory

    vault, key = Vault(this.state), new_key()
    vault.set(user_key_name(user), key)
    if options.json:
        found = next(each for each in of_inventory(this.fleet, vault, time.time()) if each.user == user)
        print(json.dumps({"key": key, "record": as_data(found)}, indent=1))
        return 0
    print(f"{user}: has a new key; the one before works until `paddock up` lands this:", file=sys.stderr, flush=True)
    print(key)
    return 0
