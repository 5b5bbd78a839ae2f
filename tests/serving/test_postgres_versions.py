"""`paddock upgrade` to a minor version of PostgreSQL, under a gateway that has its keys there: one that is well stays, one that does not
start is taken back with all rows.

An archive has one minor version of each release, so a later one is made of it: the distribution's own package with another number.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab_fleet import LabFleet, lab_fleet
from tests.share import turn

pytestmark = turn(4, of=5)

INVENTORY = """
fleet: minor
domain: home.example
networks: [192.0.2.0/24]
hosts:
  box:
    address: 192.0.2.10
    roles:
      base: {time: elsewhere}
      llama_cpp: {ui: false}
      models:
      llama_server: {instances: {chat: {model: demo, listen: 127.0.0.1:8081}}}
      postgres:
      gateway: {database: {postgres: box}}
models: {demo: {source: tiny, preset: {ctx-size: 512}}}
users: {alice: }
"""

REPACKED = r"""mkdir -p /srv/archive; cd /srv; rm -rf repacked
name=$(dpkg-query -W -f '${Package}\n' 'postgresql-[0-9]*' | grep -x 'postgresql-[0-9]*')
[ -e "$name.deb" ] || { apt-get download -q "$name" >/dev/null 2>&1; mv "$name"_*.deb "$name.deb"; }
dpkg-deb -R "$name.deb" repacked
sed -i "s/^Version: .*/&+LATER/" repacked/DEBIAN/control
BREAK
dpkg-deb -Znone -b repacked archive >/dev/null
cd archive
for each in *.deb; do
  dpkg-deb -f "$each"
  echo "Filename: ./$each"
  stat -c 'Size: %s' "$each"
  printf 'SHA256: %s\n\n' "$(sha256sum "$each" | cut -d ' ' -f 1)"
done >Packages
echo 'deb [trusted=yes] file:/srv/archive ./' >/etc/apt/sources.list.d/later.list
apt-get -qq update"""
"""A package of PostgreSQL whose version ends in +LATER, in an archive of the host's own."""

BROKEN = "printf '#!/bin/sh\\necho it is broken >&2\\nexit 1\\n' >$(find repacked -path '*/bin/postgres')"

VERSION = "dpkg-query -W -f '${Version}\n' 'postgresql-[0-9]*' | grep ."
KEYS = "runuser -u postgres -- psql -Atd paddock_gateway -c 'SELECT name FROM users ORDER BY name; SELECT count(*) FROM keys'"
SERVES = "curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:8001/livez"
UPGRADE = ("upgrade", "--lab", "--yes", "--soak", "2", "--no-measure", "--only", "postgres")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabFleet]:
    with lab_fleet("minor", tmp_path_factory.mktemp("minor"), INVENTORY, ready=True) as fleet:
        fleet.up()
        made = fleet.paddock("keys", "create", "carol", "--on", "box", "--lab")
        assert made.returncode == 0, made.stderr
        yield fleet


def offered(fleet: LabFleet, later: str, damage: str = ":") -> None:
    """The host's archive has it from now on."""
    fleet.on("box", REPACKED.replace("LATER", later).replace("BREAK", damage))


def test_a_minor_version_that_is_well_is_taken_with_all_rows(fleet: LabFleet) -> None:
    before, keys = fleet.on("box", VERSION).strip(), fleet.on("box", KEYS)
    offered(fleet, "1")
    done = fleet.paddock(*UPGRADE, timeout_s=3000)
    print(done.stdout, done.stderr, flush=True)
    assert done.returncode == 0
    assert fleet.on("box", VERSION).strip() == f"{before}+1"
    assert fleet.on("box", KEYS) == keys and "carol" in keys
    assert fleet.on("box", SERVES) == "200"


def test_one_that_does_not_start_is_not_taken_and_loses_no_row(fleet: LabFleet) -> None:
    before, keys = fleet.on("box", VERSION).strip(), fleet.on("box", KEYS)
    offered(fleet, "2", BROKEN)
    done = fleet.paddock(*UPGRADE, timeout_s=3000)
    print(done.stdout, done.stderr, flush=True)
    assert done.returncode == 4 and "Traceback" not in done.stderr
    assert "postgres" in done.stderr.lower()
    assert fleet.on("box", VERSION).strip() == before
    assert fleet.on("box", KEYS) == keys
    assert fleet.on("box", SERVES) == "200"
    assert fleet.paddock("verify", "--lab").returncode == 0
