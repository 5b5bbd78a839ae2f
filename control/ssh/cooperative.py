"""Makes the standard library cooperate with gevent, as pyinfra needs it. Imported before whatever opens sockets or starts threads.

A run that finds nothing to change is imports for the most part, so what these libraries load on the way and then hardly use waits here.
"""

from __future__ import annotations

import os
import stat
import sys
from importlib import import_module, metadata
from types import ModuleType
from typing import Any


def _invoke(name: str) -> Any:
    """The real module's attribute, once somebody wants one."""
    if sys.modules.get("invoke") is _STAND_IN:
        del sys.modules["invoke"]
    return getattr(import_module("invoke"), name)


# paramiko.config imports all of invoke for `Match exec` in an ssh_config.
_STAND_IN = ModuleType("invoke")
_STAND_IN.__getattr__ = _invoke  # type: ignore[method-assign]
sys.modules.setdefault("invoke", _STAND_IN)

_asked_anew = metadata.entry_points
_installed = _asked_anew()
# gevent asks two dozen times which plugins it has. To read the metadata of all installed packages each time takes half of this import.
metadata.entry_points = lambda **which: _installed.select(**which)  # type: ignore[assignment]
try:
    import pyinfra_cli
finally:
    metadata.entry_points = _asked_anew

import gevent.monkey  # noqa: E402 - what pyinfra has patched

assert pyinfra_cli

_closed_in_its_turn, _closed_at_once = os.close, gevent.monkey.get_original("os", "close")


def _close(fd: int) -> None:
    """gevent closes what is no regular file in a later turn of its loop, which may never come (gevent/os.py: close): directories that were
    synced or removed would stay open. Nobody waits for events of those."""
    is_directory = stat.S_ISDIR(os.fstat(fd).st_mode)
    (_closed_at_once if is_directory else _closed_in_its_turn)(fd)


os.close = _close
