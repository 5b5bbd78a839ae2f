"""Makes the standard library cooperate with gevent, as pyinfra needs it. Imported before whatever opens sockets or starts threads."""

from __future__ import annotations

from importlib import metadata

_asked_anew = metadata.entry_points
_installed = _asked_anew()
# gevent asks two dozen times which plugins it has. To read the metadata of all installed packages each time takes half of this import.
metadata.entry_points = lambda **which: _installed.select(**which)  # type: ignore[assignment]
try:
    import pyinfra_cli
finally:
    metadata.entry_points = _asked_anew

assert pyinfra_cli
