"""Alerts of hosts that are being upgraded: nobody is told of them meanwhile."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from control.ssh.reach import Reach
from control.state.fleet import FleetState
from inventory.errors import PaddockError
from inventory.fleet import Fleet
from roles.metrics import ALERTMANAGER


@contextmanager
def silenced(fleet: Fleet, state: FleetState, hosts: Sequence[str], seconds: int, say: Callable[[str], None]) -> Iterator[None]:
    """Inside the block no Alertmanager of the fleet tells of these hosts, for so many seconds at most: a run that is killed leaves a
    silence that ends by itself.

    An Alertmanager that cannot be asked keeps nothing from going on: `say` hears of it.
    """
    at = {
        name: fleet.reach(page.home, f"hosts.{name}.{page.key}", name, name)
        for name in fleet.hosts
        for page in fleet.metrics(name)
        if page.service == ALERTMANAGER
    }
    words = ["add", f"host=~{'|'.join(hosts)}", f"--duration={seconds}s", "--author=paddock", "--comment=paddock upgrade"]
    made = dict(_asked(fleet, state, at, lambda name: words, say))
    try:
        yield
    finally:
        dict(_asked(fleet, state, {name: at[name] for name in made}, lambda name: ["expire", made[name]], say))


def _asked(
    fleet: Fleet, state: FleetState, at: Mapping[str, str], words: Callable[[str], Sequence[str]], say: Callable[[str], None]
) -> Iterator[tuple[str, str]]:
    """Host → what `amtool silence` prints there, of those that answer."""
    if not at:
        return
    reach = Reach(fleet, state, [fleet.hosts[name] for name in at])
    with reach.connected():
        for name, where in at.items():
            try:
                if why := reach.failures.get(name):
                    raise PaddockError(f"{name}: {why}")
                command = shlex.join(["amtool", f"--alertmanager.url=http://{where}", "silence", *words(name)])
                yield name, "".join(reach.shell(name, f"{command}\n", "amtool silence")).strip()
            except PaddockError as error:
                say(f"{error}: its Alertmanager may tell of what is upgraded")
