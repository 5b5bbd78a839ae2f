"""Show what is known of a user's keys; a declared user's key itself with --key.

examples:
  paddock keys show carol
  paddock keys show alice --key          the key, out of the state: no host is asked
"""

from __future__ import annotations

import argparse
import json
import time

from cli.arguments import limit_argument, opened
from cli.keys.gateways import answering, databases, named, on_argument, require_no_key, user_argument
from cli.views.keys import as_data, details
from control.state.secrets import Vault
from inventory.errors import PaddockError, UsageError
from roles.users import user_key_name
from roles.wording import one_line


def arguments(command: argparse.ArgumentParser) -> None:
    user_argument(command)
    command.add_argument("--key", action="store_true", help="print the key and nothing else; the gateway keeps no key that it could show")
    command.add_argument("--json", action="store_true", help="print JSON")
    on_argument(command)
    limit_argument(command)


def run(options: argparse.Namespace) -> int:
    this, now = opened(options), time.time()
    require_no_key(options.which)
    from control.servers.listed_keys import of_gateway, of_inventory

    found = [each for each in of_inventory(this.fleet, Vault(this.state, looks=not options.key), now) if each.user == options.which]
    if options.key:
        if not found:
            words = "no key of this user is kept here, and a gateway keeps none that it could show: `paddock keys rotate` makes another"
            raise UsageError(f"{one_line(options.which)}: {words}")
        if found[0].state == "to be made":
            raise PaddockError(f"{options.which}: has no key yet: `paddock up` makes it")
        print(Vault(this.state).get(user_key_name(options.which)))
        return 0
    failed = False
    if not found:
        with answering(this, databases(this, options.on)) as there:
            found = [of_gateway(each.record, each.hosts, now) for each in named(options.which, there)]
            failed = bool(there.lacking)
    if options.json:
        print(json.dumps([as_data(each) for each in found], indent=1))
    else:
        print("\n".join(line for each in found for line in details(each)))
    return 1 if failed else 0
