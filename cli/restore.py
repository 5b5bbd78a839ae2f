"""Put a backup's state in place, and its databases back on their hosts.

examples:
  paddock -i home.yml restore FILE --state-only     on a new control machine; then `paddock up`: 0 changed
  paddock restore FILE --limit ai                   the database of this host too; asks first
  paddock restore FILE --identity /mnt/usb/identity.txt

All of the file is read before anything is touched. A state that is here is moved aside; one that was changed after the backup is not
replaced. A database is restored beside the one there and its rows are counted; its gateway is stopped for the moment of the change, and
has the old one again if it does not answer. Keys that were revoked since then stay revoked. Exit codes: 0 done, 1 failed or not wanted.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from cli.arguments import Opened, inventory_path, limit_argument, opened, steal_lock_argument, yes_argument
from cli.asking import confirmed
from cli.views.backups import lines_of
from cli.views.progress import Progress
from control.state.fleet import FleetState
from control.state.secrets import Vault
from inventory.errors import PaddockError

if TYPE_CHECKING:
    from control.lifecycle.archive import Database, Manifest


def backup_argument(command: argparse.ArgumentParser) -> None:
    command.add_argument("file", metavar="FILE", help="as `paddock backup` has written it").completer = None  # type: ignore[attr-defined]
    command.add_argument("--identity", metavar="FILE", help="the age identity or SSH key that opens it; by default yours").completer = None  # type: ignore[attr-defined]


def arguments(command: argparse.ArgumentParser) -> None:
    backup_argument(command)
    limit_argument(command)
    yes_argument(command)
    steal_lock_argument(command)
    command.add_argument("--state-only", action="store_true", help="leave the databases as they are; connects to no host")


def vault_for(options: argparse.Namespace) -> Vault:
    """What opens a backup: the identities here. It makes none, and needs no inventory."""
    if options.identity:
        os.environ["PADDOCK_AGE_IDENTITY"] = options.identity
    return Vault(FleetState.of(inventory_path(options), "none"), looks=True)


def run(options: argparse.Namespace) -> int:
    from control.lifecycle import restore

    file, inventory, progress, vault = Path(options.file), inventory_path(options), Progress(), vault_for(options)
    with restore.opened(vault, file, FleetState.of(inventory, "none").path) as backup:
        manifest = backup.manifest
        fresh = not inventory.exists()
        state = FleetState.of(inventory, manifest.fleet) if fresh else opened(options).state
        restore.require_fits(manifest, state, file)
        for line in lines_of(manifest):
            progress.line(line)
        words = f"The state goes to {state.path}" + (", and the one there is moved aside" if state.path.exists() else "")
        if not confirmed(f"{words}. Do it?", options.yes, "`--yes` does it"):
            progress.error("nothing was changed")
            return 1
        aside = restore.put_state(backup, state, inventory)
    progress.line(f"{state.path}: is as it was on {manifest.made}" + (f"; the one before is {aside}" if aside else ""))
    if not inventory.exists():
        raise PaddockError(f"{inventory}: is not there, and the backup has an inventory of another name, which was written beside it")
    failed = 0 if options.state_only else _databases(options, opened(options), vault, file, manifest, progress)
    progress.line(
        "`paddock plan` shows what is to change on the hosts. Where one knows a newer state and refuses this one, `paddock state adopt` "
        "takes over what it knows"
    )
    return 1 if failed else 0


def _databases(options: argparse.Namespace, this: Opened, vault: Vault, file: Path, manifest: Manifest, progress: Progress) -> int:
    """How many were not put back."""
    from cli.servers import hosts_reached
    from control.deployment.leases import leased
    from control.lifecycle.databases import HostDatabase
    from control.lifecycle.recording import recording
    from control.lifecycle.records import RecordedChange
    from control.lifecycle.restore import databases_in, put_database
    from control.state.lock import operator_lock

    wanted = databases_in(manifest, [host.name for host in this.hosts])
    for each in manifest.databases:
        if each not in wanted and each.host not in this.fleet.hosts:
            progress.error(f"{each.host}: is no host of this inventory: its database stays in the backup")
    if not wanted:
        return 0
    asked = [each for each in wanted if confirmed(_question(each), options.yes, "`--yes` does it, `--state-only` leaves them")]
    failed = 0
    with (
        recording(this.state, "restore", progress.error) as record,
        operator_lock(this.state, "restore", steals=options.steal_lock) as holder,
        hosts_reached(this, [each.host for each in asked]) as reach,
        leased(reach.run, this.fleet.name, holder, [each.host for each in asked]),
    ):
        for each in asked:
            if each.host in reach.failures:
                failed += 1
                continue
            record.adds(each.host, RecordedChange("mend", "database", "~"))
            try:
                with record.failing(each.host):
                    done = put_database(vault, file, manifest, each, HostDatabase(reach, each.host))
            except PaddockError as error:
                progress.error(str(error))
                failed += 1
                continue
            shut = f"; {done.revoked} keys that were revoked since stay so" if done.revoked else ""
            unknown = "" if done.known else "; whether keys were revoked since is not known: `paddock keys list` shows who is let in"
            progress.line(f"{each.host}: its database is as it was on {each.record.created}{shut}{unknown}")
    return failed


def _question(database: Database) -> str:
    return f"{database.host}: replace its database by the one of {database.record.created} ({database.record.words})?"
