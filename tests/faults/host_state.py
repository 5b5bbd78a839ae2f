"""What a host is, in a form that can be compared: one hash over all that Paddock answers for, read past Paddock's own probe."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.lab.snapshot import inside

REVOKED = "/etc/caddy/paddock/revoked"
"""Is there once a client has left, and grows with each that does: it is another after every way."""

HISTORY = "/var/lib/paddock/history/"
"""What the host has had before: another after every way, too."""

READ = r"""
export LC_ALL=C; roots="/etc/paddock /etc/caddy /etc/systemd/system /opt/paddock /var/lib/paddock /run/systemd/system"
echo "#entry"; find $roots -printf '%p\t%y %u:%g %m %l\n'
echo "#sum"; find $roots -type f ! -name 50-paddock.conf ! -name sites.caddy ! -name admitted ! -name manifest ! -name '*.gguf.sha256' -exec sha256sum {} + |
  sed -E 's/^(\S+) +(.*)/\2\t\1/'
for stamp in /etc/systemd/system/*.d/50-paddock.conf; do printf '%s\t' "$stamp"; sed 's/:[0-9a-f]* /:DIGEST /' "$stamp" | sha256sum; done
for sites in /etc/caddy/paddock/sites.caddy /etc/caddy/paddock/admitted; do [ ! -e $sites ] || { printf '%s\t' $sites; sed -E 's/[0-9a-f]{64}/FINGERPRINT/g' $sites | sha256sum; grep -oE '[0-9a-f]{64}' $sites | sed 's/.*/fingerprint &\t&/'; }; done
for note in /var/lib/paddock/models/*.sha256; do model=${note%.sha256}
  read -r sum size time inode <"$note"
  [ "$size $time $inode" = "$(stat -c '%s %Y %i' "$model")" ] && [ "$sum" = "$(sha256sum <"$model" | cut -d' ' -f1)" ]
  printf '%s\t%s\n' "$note" "$([ $? = 0 ] && echo right || echo wrong)"; done
echo "#manifest"; sed -E '/^fleet /d; s/^(\S+) (.*)/\2\t\1/' /var/lib/paddock/manifest
echo "#left"; find / -xdev \( -name '.paddock-*' -o -name '*.paddock' -o -name '*.gguf.part' -o -name '*.gguf.wrong' \
  -o -path '/var/lib/dpkg/updates/*' \) -printf '%p\t\n'
ls -d /run/systemd/transient/paddock-* 2>/dev/null; dpkg --audit
echo "#runs"; for stamp in /run/paddock/*.started /run/paddock/*.loaded; do link=$(readlink "$stamp"); unit=${stamp##*/}; unit=${unit%.*}
  [ "${link%%:*}" = "$(systemctl show -P InvocationID "$unit")" ] &&
    grep -q ":${link#*:} /run/paddock/%n.${stamp##*.}$" "/etc/systemd/system/$unit.d/50-paddock.conf"
  printf '%s\t%s\n' "${stamp##*/}" "$([ $? = 0 ] && echo 'what is declared' || echo 'something else')"; done
echo "#unit"; for unit in llama-server caddy systemd-timesyncd; do printf '%s\t' $unit
  systemctl show -p ActiveState -p UnitFileState -p NeedDaemonReload $unit | sort | tr '\n' ' '; echo; done
systemctl list-units --state=failed --plain --no-legend | sed 's/ .*/\tfailed/'
echo "#unit file"; systemctl list-unit-files --plain --no-legend | tr -s ' ' '\t'
echo "#user"; getent passwd | cut -d: -f1,6,7 | sed 's/:/\t/'
echo "#group"; getent group | cut -d: -f1,4 | sed 's/:/\t/'
echo "#listening"; ss -Hltunp 'sport < :32768' | sed -E 's/^(\S+) +\S+ +\S+ +\S+ +(\S+) .*\(\("([^"]*)".*/\1 \2\t\3/; s/systemd-socket-$/systemd/'
echo "#package"; dpkg-query -W -f '${Package}\t${db:Status-Abbrev} ${Version}\n'
"""


@dataclass(frozen=True)
class HostState:
    """`facts` is what → how: `entry /etc/caddy` → `d root:root 755`, `sum /etc/caddy/Caddyfile` → its digest, `package tree` → a version."""

    facts: Mapping[str, str]

    @property
    def hash(self) -> str:
        return hashlib.sha256(json.dumps(sorted(self.facts.items())).encode()).hexdigest()[:16]

    def differs_from(self, other: HostState) -> dict[str, tuple[str | None, str | None]]:
        names = sorted({*self.facts, *other.facts})
        return {name: (other.facts.get(name), self.facts.get(name)) for name in names if self.facts.get(name) != other.facts.get(name)}


def host_state(container: str, state: Path) -> HostState:
    """A host's state. What the fleet's state directory has in use stands under its name: each issuing makes other certificates."""
    issued, section, facts = dict(_issued(state)), "", {}
    for line in inside(container, READ).splitlines():
        if line.startswith("#"):
            section = line[1:]
        else:
            name, _, value = line.partition("\t")
            facts[f"{section} {' '.join(issued.get(word, word) for word in name.split())}"] = issued.get(value.split(" ")[0], value)
    return HostState({name: value for name, value in facts.items() if REVOKED not in name and HISTORY not in name})


def _issued(state: Path) -> Iterator[tuple[str, str]]:
    for record in state.glob("certs/*/*.json"):
        if re.fullmatch("server|client", record.parent.name):
            if not (leaf := json.loads(record.read_text())["current"]):
                continue
            yield leaf["certificate"], f"the certificate of {leaf['kind']} {leaf['name']}"
            body = re.sub("-----.*-----", "", (record.parent / f"{leaf['files']}.pem").read_text())
            yield hashlib.sha256(base64.b64decode(body)).hexdigest(), f"the fingerprint of {leaf['kind']} {leaf['name']}"
            yield leaf["key"], f"the key of {leaf['kind']} {leaf['name']}"
