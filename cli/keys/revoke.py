"""Refuse a user's keys, or one of them, from now on: what was made at a gateway. Asks before.

examples:
  paddock keys revoke carol             all of carol's keys
  paddock keys revoke k_3f2a90          one key, by its id in `paddock keys list`

A user whom the inventory declares is taken out of `users` instead, and `paddock up` lands that. The key stays in the state until
`paddock keys revoke` removes it there: without that, a user who comes back has the same key again.
"""

from __future__ import annotations

import argparse

from cli.arguments import Opened, limit_argument, opened, yes_argument
from cli.asking import confirmed
from cli.keys.gateways import answering, databases, named, on_argument, require_no_key, told_beside, user_argument
from control.state.secrets import Vault
from inventory.errors import PaddockError, UsageError
from roles.users import user_key_name
from roles.wording import one_line


def arguments(command: argparse.ArgumentParser) -> None:
    user_argument(command)
    yes_argument(command)
    on_argument(command)
    limit_argument(command)


def run(options: argparse.Namespace) -> int:
    this, which = opened(options), options.which
    require_no_key(which)
    if which in this.fleet.users:
        words = f"take it out of `users` and run `paddock up`. `paddock keys rotate {which}` gives it another key"
        raise UsageError(f"{which}: is declared in {this.path}: {words}")
    if Vault(this.state).is_named(user_key_name(which)):
        return _forget(this, which, options.yes)
    from control.lifecycle.recording import recording
    from control.lifecycle.records import RecordedChange

    with recording(this.state, "keys revoke", told_beside) as record, answering(this, databases(this, options.on), changes=True) as there:
        found = named(which, there)
        where = " and ".join(found[0].hosts)
        of = ", ".join(dict.fromkeys(each.record.user for each in found))
        ids = ", ".join(each.record.id for each in found)
        if not confirmed(f"Refuse {ids} of {of} on {where} from now on?", options.yes, "`--yes` does it"):
            print("nothing was changed")
            return 1
        for each in found:
            record.adds(each.users.host, RecordedChange("revoke", f"key:{each.record.user}:{each.record.id}", "-"))
            with record.failing(each.users.host):
                each.users.revoke(each.record)
            print(f"{one_line(each.record.user)}: {each.record.id} is revoked on {where}", flush=True)
        return 1 if there.lacking else 0


def _forget(this: Opened, user: str, yes: bool) -> int:
    """Removes the key of a user who has left the inventory."""
    if not confirmed(f"Remove the key of {user}, who is in the inventory no more?", yes, "`--yes` does it"):
        print("nothing was changed")
        return 1
    vault = Vault(this.state)
    vault.remove(user_key_name(user))
    if vault.is_named(user_key_name(user)):
        raise PaddockError(f"{user}: its key is still there")
    print(f"{user}: its key is removed from the state; gateways refuse it from the next `paddock up` on")
    return 0
