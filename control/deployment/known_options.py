"""The options that each host's llama-server takes, known before anything is planned."""

from __future__ import annotations

import control.ssh.cooperative  # isort: skip - before what fetches

from control.fetching.progress import Download
from control.llama_cpp.options import checked
from inventory.fleet import Fleet
from inventory.load import Positions

assert control.ssh.cooperative


def require_known_options(positions: Positions, fleet: Fleet) -> None:
    """Fetches the sources of llama.cpp whose options nobody has looked at yet. Raises InventoryError for a preset that its host's version
    would not take.
    """
    checked(positions, fleet, Download())
