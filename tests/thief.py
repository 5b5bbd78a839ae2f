"""An account of a host that tries to take ports and Unix sockets, again and again."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from tests.lab_fleet import LabFleet

THIEF = """
import os, socket, sys, time
tries = stolen = 0
until = time.monotonic() + float(sys.argv[1])
while time.monotonic() < until:
    for place in sys.argv[2:]:
        address, _, port = place.rpartition(":")
        with socket.socket(socket.AF_UNIX if place[0] == "/" else socket.AF_INET) as taking:
            tries += 1
            try:
                if place[0] == "/":
                    if os.path.exists(place):
                        os.replace(place, f"{place}.away")
                    taking.bind(place)
                else:
                    for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
                        taking.setsockopt(socket.SOL_SOCKET, option, 1)
                    taking.bind((address, int(port)))
                taking.listen()
                stolen += 1
            except OSError:
                pass
print(tries, stolen)
"""


def stolen(fleet: LabFleet, host: str, places: Iterable[str], meanwhile: str, seconds: int = 20) -> int:
    """How often `nobody` could take one of the places, each `ADDRESS:PORT` or the path of a socket, while the host runs a shell command."""
    thief = f"runuser -u nobody -- python3 -c {shlex.quote(THIEF)} {seconds} {' '.join(places)} >/tmp/thief & thief=$!"
    tries, took = map(int, fleet.on(host, f"{thief}; sleep 1; {meanwhile}; wait $thief; cat /tmp/thief").split())
    assert tries > 1000, "it hardly tried"
    return took
